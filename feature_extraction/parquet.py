"""Loading of Parquet files: damaged ones, and rows that name a file rather than hold one."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.utils.file_utils import xopen

from .errors import DataError
from .lost_clips import stand_in


# What Arrow raises where a file is damaged.
DAMAGE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)


class ForeignFileError(DataError, PermissionError):
    """Raised when a row names an audio file that does not belong to its data set."""


def check_paths(table: pa.Table, roots: list[str] | None, name: str) -> None:
    """
    Checks that the rows which name an audio file, and do not hold it, name files of their own data set. Anybody can
    write a Parquet file that names any file of this computer, or any URL.

    Args:
        table (`pa.Table`):
            The rows. All columns of bytes and path are checked.
        roots (`list[str]`, *optional*):
            The folders and the beginnings of URLs that are allowed. Defaults to all.
        name (`str`):
            What the error message calls the data set.

    Raises:
        [`ForeignFileError`]: if a row names any other file.
    """
    if roots is None:
        return
    folders = [os.path.realpath(root) for root in roots if "://" not in root]
    prefixes = tuple(root for root in roots if "://" in root)
    for column in table.columns:
        if not _is_audio(column.type):
            continue
        has_no_bytes = pc.is_null(pc.struct_field(column, "bytes"))
        for path in pc.unique(pc.struct_field(column, "path").filter(has_no_bytes)).drop_null().to_pylist():
            is_url = "://" in path or "::" in path
            if path.startswith(prefixes) if is_url else _lies_in(path, folders):
                continue
            raise ForeignFileError(
                f"{name} has a row that names the audio file {path}, which is not below the data set's own folder. "
                "Pass --allow_remote_audio, or allow_remote_audio=True, if you trust the data set."
            )


def _is_audio(type: pa.DataType) -> bool:
    """Whether a column is of the type in which `datasets` stores audio."""
    return pa.types.is_struct(type) and {field.name for field in type} == {"bytes", "path"}


def _lies_in(path: str, folders: list[str]) -> bool:
    real = os.path.realpath(path.replace("\0", ""))  # no file can be opened by a name that has a zero
    return any(os.path.commonpath([real, folder]) == folder for folder in folders)


def require_names(field: pa.Field, source: str) -> None:
    """
    Checks that a column can be read as audio: that it holds the names of files, or their content.

    Raises:
        `ValueError`: if it does not.
    """
    names = {inner.name for inner in field.type} if pa.types.is_struct(field.type) else set()
    is_text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    if not is_text and not (names and names <= {"bytes", "path"}):
        raise DataError(
            f"The column {field.name} of {source} is of type {field.type}: audio is a column of names of files, or of "
            "their bytes and path, as the type Audio of datasets stores it. Write decoded samples to files first."
        )


class CheckedParquet(Parquet):
    """
    The builder of `datasets` for Parquet files. In addition, it checks the paths in the rows, and steps over what is
    damaged: a row stands for the clips of a row group, or of a file, that cannot be read.

    `roots` and `source` are the `roots` and the `name` of [`check_paths`], and `bytes_per_clip` is what a clip takes
    in a file that is whole.
    """

    roots: list[str] | None = None
    source: str = ""
    bytes_per_clip: float = math.inf

    def _generate_tables(self, files: list[str], row_groups_list: list[list[int] | None] | None = None):
        for index, file in enumerate(files):
            groups = row_groups_list[index] if row_groups_list else None
            for number, table in enumerate(self._read_file(file, groups)):
                yield f"{index}_{number}", table

    def _read_file(self, file: str, groups: list[int] | None) -> Iterator[pa.Table]:
        footer = _read_footer(file, self.token)
        if footer.metadata is None:
            reason = f"{file} is not a whole Parquet file: {footer.error}"
            yield self._lost_clips(file, reason, round(footer.file_size / self.bytes_per_clip))
            return
        with _open(file, self.token) as opened, pq.ParquetFile(opened, metadata=footer.metadata) as parquet:
            for group in range(parquet.num_row_groups) if groups is None else groups:
                for table in self._read_group(file, parquet, group):
                    check_paths(table, self.roots, self.source)
                    yield table

    def _read_group(self, file: str, parquet: pq.ParquetFile, group: int) -> Iterator[pa.Table]:
        try:
            table = parquet.read_row_group(group)
        except DAMAGE as error:
            _raise_if_remote(file, error)
        else:
            yield self._cast_table(table)
            return
        # Row by row, there may be good ones before the damage. Arrow reads none after it in the same group.
        rows, num_read = parquet.iter_batches(batch_size=1, row_groups=[group]), 0
        try:
            while (row := next(rows, None)) is not None:
                num_read += 1
                yield self._cast_table(pa.Table.from_batches([row]))
        except DAMAGE as error:
            _raise_if_remote(file, error)
            first = sum(parquet.metadata.row_group(i).num_rows for i in range(group)) + num_read
            num_lost = parquet.metadata.row_group(group).num_rows - num_read
            name = f"{file}, rows {first} to {first + num_lost - 1}"
            yield self._lost_clips(name, f"{name}, cannot be read: {error}", num_lost)

    def _lost_clips(self, name: str, reason: str, num_clips: int) -> pa.Table:
        """A row in which a stand-in is in the place of the audio, and all other values are missing."""
        schema = self.info.features.arrow_schema
        row = {field.name: stand_in(name, reason, num_clips) if _is_audio(field.type) else None for field in schema}
        return pa.Table.from_pylist([row], schema)


class Footer(NamedTuple):
    """The metadata in the footer of a Parquet file, or why it cannot be read, and the size of the file in bytes."""

    metadata: pq.FileMetaData | None
    file_size: int
    error: str = ""


def _open(file: str, token: str | bool | None) -> BinaryIO:
    return xopen(file, "rb", download_config=datasets.DownloadConfig(token=token))


def _read_footer(file: str, token: str | bool | None = None) -> Footer:
    size = 0
    try:
        with _open(file, token) as opened:
            size = opened.seek(0, os.SEEK_END)
            return Footer(pq.read_metadata(opened), size)
    except DAMAGE as error:
        _raise_if_remote(file, error)
        return Footer(None, size, str(error))


def _raise_if_remote(file: str, error: Exception) -> None:
    """Raises an error of the operating system about a remote file: perhaps the network is at fault."""
    if "://" in file and isinstance(error, OSError):
        raise error


def build_parquet(
    builder: Parquet, roots: list[str] | None, source: str, audio_column: str | None = None
) -> CheckedParquet:
    """
    Builds the data set of the Parquet files that a builder has found. The columns are those of the first file that is
    not corrupt.

    Args:
        builder (`Parquet`):
            The builder, which has found the files of each split.
        roots (`list[str]`, *optional*):
            Where the files may lie that rows name, as [`check_paths`] takes it. Defaults to anywhere.
        source (`str`):
            What error messages call the data set.
        audio_column (`str`, *optional*):
            A column that is read as audio, whatever its type is.

    Raises:
        `ValueError`: if none of the files can be read.
    """
    data_files = builder.config.data_files
    footers = _read_footers([file for files in data_files.values() for file in files], builder.token)
    whole = [footer for footer in footers.values() if footer.metadata is not None]
    if not whole:
        file, footer = next(iter(footers.items()))
        raise DataError(f"None of the {len(footers)} Parquet files can be read. The first is {file}: {footer.error}")
    features = builder.info.features or _find_features(footers)
    if audio_column in features and not isinstance(features[audio_column], datasets.Audio):
        require_names(datasets.Features(features).arrow_schema.field(audio_column), source)
        features = features | {audio_column: datasets.Audio(decode=False)}
    checked = CheckedParquet(
        dataset_name=builder.dataset_name,
        hash=builder.hash,
        base_path=builder.base_path,
        features=datasets.Features(features),
        token=builder.token,
        repo_id=builder.repo_id,
        data_files=data_files,
    )
    checked.roots, checked.source = roots, source
    num_rows = sum(footer.metadata.num_rows for footer in whole)
    checked.bytes_per_clip = sum(footer.file_size for footer in whole) / max(num_rows, 1)
    checked.info.splits = builder.info.splits or _count_rows(data_files, footers)
    return checked


def _find_features(footers: dict[str, Footer]) -> datasets.Features:
    """
    The columns that Parquet files have together.

    Raises:
        `ValueError`: if a column of one file is of another type, or has other classes, than that of another.
    """
    (first, schema), *others = (
        (file, footer.metadata.schema.to_arrow_schema()) for file, footer in footers.items() if footer.metadata
    )
    features, together = datasets.Features.from_arrow_schema(schema), schema
    for file, schema in others:
        if schema.equals(together, check_metadata=True):
            continue
        try:
            together = pa.unify_schemas([together, schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"{file} cannot be read together with {first}: {error}") from error
        for name, feature in datasets.Features.from_arrow_schema(schema).items():
            classes = [names for of in (feature, features.get(name)) if (names := _class_names(of)) is not None]
            if len(classes) == 2 and classes[0] != classes[1]:
                raise DataError(f"{file} has other classes in its column {name} than {first}.")
    return datasets.Features.from_arrow_schema(together)


def _class_names(feature: Any) -> list[str] | None:
    """The names of the classes of a column of labels or of lists of these, or `None` if it has no names."""
    while isinstance(feature, (datasets.List, datasets.LargeList)):
        feature = feature.feature
    return feature.names if isinstance(feature, datasets.ClassLabel) else None


def _read_footers(files: list[str], token: str | bool | None) -> dict[str, Footer]:
    """Reads the footers of local files, or of remote ones as far as the first that is not corrupt."""
    if not any("://" in file for file in files):
        with ThreadPoolExecutor() as threads:
            return dict(zip(files, threads.map(_read_footer, files)))
    footers = {}
    for file in files:
        footers[file] = _read_footer(file, token)
        if footers[file].metadata is not None:
            break
    return footers


def _count_rows(data_files: dict[str, list[str]], footers: dict[str, Footer]) -> datasets.SplitDict | None:
    """Counts the rows of each split, if all footers have been read."""
    splits = datasets.SplitDict()
    for split, files in data_files.items():
        if not footers.keys() >= set(files):
            return None
        num_rows = sum(footers[file].metadata.num_rows for file in files if footers[file].metadata is not None)
        splits[str(split)] = datasets.SplitInfo(str(split), num_examples=num_rows)
    return splits
