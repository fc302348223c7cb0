"""Loading of Parquet files: corrupt ones, and rows that name a file rather than hold one."""

import logging
import os
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.packaged_modules.parquet.parquet import Parquet

from .errors import CorruptShardError


# `datasets` logs a corrupt file each time that it meets it. The errors here name the file once.
logging.getLogger(Parquet.__module__).setLevel(logging.CRITICAL)


class ForeignFileError(PermissionError):
    """Raised when a row names an audio file that does not belong to its data set."""


def check_paths(table: pa.Table, roots: list[str], name: str) -> None:
    """
    Checks that the rows which name an audio file, and do not hold it, name files of their own data set. Anybody can
    write a Parquet file that names any file of this computer, or any URL.

    Args:
        table (`pa.Table`):
            The rows. All columns of bytes and path are checked.
        roots (`list[str]`):
            The folders and the beginnings of URLs that are allowed.
        name (`str`):
            What the error message calls the data set.

    Raises:
        [`ForeignFileError`]: if a row names any other file.
    """
    folders = [os.path.realpath(root) for root in roots if "://" not in root]
    prefixes = tuple(root for root in roots if "://" in root)
    for column in table.columns:
        if not pa.types.is_struct(column.type) or {field.name for field in column.type} != {"bytes", "path"}:
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


def _lies_in(path: str, folders: list[str]) -> bool:
    real = os.path.realpath(path.replace("\0", ""))  # no file can be opened by a name that has a zero
    return any(os.path.commonpath([real, folder]) == folder for folder in folders)


class CheckedParquet(Parquet):
    """
    The builder of `datasets` for streams of Parquet files. In addition, it checks the paths in the rows, and raises a
    [`CorruptShardError`] that names the file if one cannot be read.

    `roots` and `source` are the `roots` and the `name` of [`check_paths`]. Without roots, paths are not checked.
    """

    roots: list[str] | None = None
    source: str = ""

    def _generate_tables(self, files: list[str], **others: list[Any]):
        for index, file in enumerate(files):
            arguments = {name: values[index : index + 1] for name, values in others.items()}
            tables = super()._generate_tables([file], **arguments)
            while (item := _next_table(tables, file)) is not None:
                if self.roots is not None:
                    check_paths(item[1], self.roots, self.source)
                yield item


def _next_table(tables: Any, file: str) -> tuple[Any, pa.Table] | None:
    try:
        return next(tables, None)
    except pa.ArrowInvalid as error:
        raise CorruptShardError(f"{file} is not a whole Parquet file: {error}", file) from error
    except OSError as error:
        if "://" in file:  # perhaps the network is at fault
            raise
        raise CorruptShardError(f"{file} cannot be read: {error}", file) from error


def stream_parquet(builder: Parquet, roots: list[str] | None, source: str) -> datasets.IterableDatasetDict:
    """
    Streams the Parquet files that a builder has found.

    Args:
        builder (`Parquet`):
            The builder, which has found the files of each split.
        roots (`list[str]`, *optional*):
            Where the files may lie that rows name, as [`check_paths`] takes it. Defaults to anywhere.
        source (`str`):
            What error messages call the data set.

    Raises:
        `ValueError`: if none of the files can be read.
    """
    files = [file for split in builder.config.data_files.values() for file in split]
    checked = CheckedParquet(
        dataset_name=builder.dataset_name,
        hash=builder.hash,
        base_path=builder.base_path,
        features=builder.info.features or _read_features(files),
        token=builder.token,
        repo_id=builder.repo_id,
        data_files=builder.config.data_files,
    )
    checked.roots, checked.source = roots, source
    return checked.as_streaming_dataset()


def _read_features(files: list[str]) -> datasets.Features | None:
    """The columns of the first file that is not corrupt, or `None` for remote files, which `datasets` can read."""
    error = None
    for file in files:
        if "://" in file:
            return None
        try:
            return datasets.Features.from_arrow_schema(pq.read_schema(file))
        except (pa.ArrowInvalid, OSError) as reason:
            error = error or reason
    raise ValueError(
        f"None of the {len(files)} Parquet files can be read. The first is {files[0]}: {error}"
    ) from error
