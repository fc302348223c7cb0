"""Tables that name audio files: CSV, JSON Lines, plain lists, and the metadata of folders of audio."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, Dataset, DatasetDict
from datasets.data_files import SPLIT_KEYWORDS

from .audio_source import storable_name
from .errors import DataError


# The names of splits as `datasets` knows them, and which split each of them is.
SPLITS_BY_NAME = {keyword: str(split) for split, keywords in SPLIT_KEYWORDS.items() for keyword in keywords}

METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt")

# The columns that may hold the paths of the audio files, the first one that a table has.
PATH_COLUMNS = ("file_name", "filename", "file", "path", "filepath", "audio", "audio_path", "audio_filepath", "wav")


def split_of(path: str) -> str | None:
    """The split that the name of a file says, as in `train.csv` or `dev-00001.tar`, or `None`."""
    words = re.split(r"[^a-z]+", Path(path).stem.lower())
    return next((SPLITS_BY_NAME[word] for word in words if word in SPLITS_BY_NAME), None)


def splits_of(paths: Iterable[str]) -> list[str]:
    """The splits that the names of files say. All are `train` if one of them says nothing."""
    splits = [split_of(path) for path in paths]
    return ["train"] * len(splits) if None in splits else splits


def load_tables(paths: list[str]) -> DatasetDict:
    """
    Makes a data set of the audio files that tables name.

    Args:
        paths (`list[str]`):
            The tables: CSV with a header, tab-separated (`.tsv`), JSON Lines, or `.txt` with one path a line. Paths
            are relative to the folder of the table. Splits are the values of a column `split` or, without one, what
            the names of all tables say. Labels in CSV are names, even those that look like numbers: 001 is not 1.

    Returns:
        `DatasetDict`: the splits, with the columns of the tables. The audio is in the column `audio`, and a column
        `label` of names or integers becomes a `ClassLabel`.

    Raises:
        `ValueError`: if a table cannot be read or has no column of paths.
    """
    parts: dict[str, list[pa.Table]] = {}
    for path, split in zip(paths, splits_of(paths)):
        table = read_table(Path(path))
        if "split" not in table.column_names:
            parts.setdefault(split, []).append(table)
            continue
        names = [str(name).lower() for name in table["split"].to_pylist()]
        for name in dict.fromkeys(names):
            chosen = table.filter(pa.array([other == name for other in names]))
            parts.setdefault(SPLITS_BY_NAME.get(name, name), []).append(chosen)
    try:
        tables = {
            split: pa.concat_tables(group, promote_options="permissive") for split, group in sorted(parts.items())
        }
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"The tables {', '.join(paths)} cannot be read together: {error}") from error
    return encode_classes(DatasetDict({split: _with_audio(table) for split, table in tables.items()}))


def read_table(path: Path) -> pa.Table:
    """
    Reads a table that names audio files. Its column of paths comes back under the name `audio`, relative to the
    current folder rather than to that of the table.

    Raises:
        `ValueError`: if it cannot be read, or has no column of paths.
    """
    try:
        table = _parse(path)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error, StopIteration) as error:
        kind = "JSON Lines" if path.suffix in (".json", ".jsonl") else path.suffix
        raise DataError(f"{path} cannot be read as {kind}: {error}") from error
    column = next((name for name in PATH_COLUMNS if name in table.column_names), None)
    if column is None:
        raise DataError(
            f"{path} has no column with the paths of audio files: call it {PATH_COLUMNS[0]} or "
            f"{', '.join(PATH_COLUMNS[1:])}. Its columns are {', '.join(table.column_names)}."
        )
    if None in table[column].to_pylist():
        line = table[column].to_pylist().index(None) + (1 if path.suffix in (".json", ".jsonl") else 2)
        raise DataError(f"{path}, line {line}, has no path of an audio file in its column {column}.")
    names = [
        name if "://" in name else storable_name(path.parent / name)
        for name in table[column].cast(pa.string()).to_pylist()
    ]
    others = table.drop_columns([name for name in {column, "audio"} if name in table.column_names])
    return others.append_column("audio", pa.array(names, pa.string()))


def _parse(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix in (".json", ".jsonl"):
        return pyarrow.json.read_json(path)
    if path.suffix == ".txt":
        text = path.read_text("utf-8-sig", errors="surrogateescape")
        return pa.table({"path": [storable_name(line.strip()) for line in text.split("\n") if line.strip()]})
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with open(path, "rb") as file:
        header = [
            name.strip() for name in next(csv.reader([file.readline().decode("utf-8-sig")], delimiter=delimiter))
        ]
    table, text = (_parse_csv(path, delimiter, header, types) for types in ({}, dict.fromkeys(header, pa.string())))
    for i, name in enumerate(header):
        # Text that looks like numbers is text if numbers lose some of it, such as the zeros of 001.
        is_number = pa.types.is_integer(table[name].type) and table[name].cast(pa.string()).equals(text[name])
        if name == "label" or (pa.types.is_integer(table[name].type) and not is_number):
            table = table.set_column(i, name, text[name])
    return table


def _parse_csv(path: Path, delimiter: str, header: list[str], types: dict[str, pa.DataType]) -> pa.Table:
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=header, skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        # Only an empty cell is a missing value: a class may be called NA.
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
    )


def _with_audio(table: pa.Table) -> Dataset:
    return Dataset(table).cast_column("audio", Audio(decode=False))


def _is_number(value: str | int) -> bool:
    """Whether a label is a whole number, written as numbers are."""
    return isinstance(value, int) or (value.isdecimal() and str(int(value)) == value)


def encode_classes(splits: DatasetDict) -> DatasetDict:
    """Makes the column `label` a `ClassLabel` with the same classes in all splits, if it holds names or integers."""
    columns = [dataset.data.column("label") for dataset in splits.values() if "label" in dataset.column_names]
    types = {str(column.type) for column in columns}
    if not columns or not types <= {"string", "large_string", "int64"}:
        return splits
    values = {value for column in columns for value in column.to_pylist() if value is not None}
    values = sorted(values, key=int if all(_is_number(value) for value in values) else None)
    numbers, feature = {value: i for i, value in enumerate(values)}, ClassLabel(names=[str(value) for value in values])
    return DatasetDict(
        {
            split: dataset.remove_columns("label").add_column(
                "label", [numbers.get(value) for value in dataset["label"]], feature=feature
            )
            if "label" in dataset.column_names
            else dataset
            for split, dataset in splits.items()
        }
    )
