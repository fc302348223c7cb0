"""Streams of tar files as WebDataset writes them."""

import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Features, IterableDataset, IterableDatasetDict, Value

from .audio import decodable_suffixes
from .audio_source import storable_name
from .errors import CorruptShardError
from .tables import splits_of


# The type in which `datasets` stores a column of type `Audio`.
STORED_AUDIO = {"bytes": Value("binary"), "path": Value("string")}

CORRUPTION = (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error)


# The members of a tar file that hold the label of a clip, by their ending.
LABEL_SUFFIXES = (".cls", ".json")


def load_tars(paths: list[str]) -> IterableDatasetDict:
    """
    Loads the clips in tar files as streams, of which each file is a shard.

    Args:
        paths (`list[str]`):
            The files. If the names of all of them say a split, as in `train-00001.tar`, these are the splits.

    Returns:
        `IterableDatasetDict`: the splits, with the column `audio`. If the first clip has a label, there is a column
        `label` of text: what is in the `.cls` file of a clip, or the value `label` in its `.json` file.
    """
    by_split: dict[str, list[str]] = {}
    for path, split in zip(paths, splits_of(paths)):
        by_split.setdefault(split, []).append(path)
    columns = {"audio": STORED_AUDIO} | ({"label": Value("string")} if _has_labels(paths) else {})
    streams = {}
    for split, of_split in sorted(by_split.items()):
        # The times tell a copy in the cache of `datasets` from what a file holds now.
        arguments = {"paths": of_split, "times": [os.stat(path).st_mtime_ns for path in of_split]}
        arguments["columns"] = tuple(columns)
        streams[split] = IterableDataset.from_generator(_read_tars, Features(columns), arguments)
    return IterableDatasetDict(streams)


def _has_labels(paths: list[str]) -> bool:
    """Whether the first clip of the first file that can be read has a label."""
    for path in paths:
        try:
            return next(_read_tars([path], [0], ("label",)), {}).get("label") is not None
        except CorruptShardError:
            continue
    return False


def _read_tars(paths: list[str], times: list[int], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for path in paths:
        num_read = num_bytes = 0
        try:
            with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictTarInfo) as tar:
                for clips, label in _group(tar):
                    num_read, num_bytes = num_read + len(clips), file.tell()
                    for clip in clips:
                        row = {"audio": clip, "label": label}
                        yield {column: row[column] for column in columns}
        except CORRUPTION as error:
            # The clips that are left take about as much room as those that were read.
            rest = os.path.getsize(path) - num_bytes if os.path.exists(path) else 0
            num_left = round(num_read * rest / num_bytes) if num_read else 1
            raise CorruptShardError(f"{path} is not a whole tar file: {error}", path, num_left) from error


def _group(tar: tarfile.TarFile) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
    """
    Reads the samples of a tar file: members that follow one another and have the same name up to the first full stop.
    Yields the audio of each, which is more than one clip at times, and its label.
    """
    key, clips, label = None, [], None
    audio_suffixes = decodable_suffixes()
    try:
        for member in tar:
            folder, name = os.path.split(member.name)
            if (folder, name.split(".")[0]) != key:
                if clips:
                    yield clips, label
                key, clips, label = (folder, name.split(".")[0]), [], None
            suffix = Path(name).suffix.lower()
            if member.isfile() and suffix in audio_suffixes:
                clips.append({"bytes": tar.extractfile(member).read(), "path": storable_name(member.name)})
            elif member.isfile() and suffix in LABEL_SUFFIXES:
                label = _read_label(tar.extractfile(member).read(), suffix) or label
    except CORRUPTION:
        if clips:
            yield clips, label
        raise
    if clips:
        yield clips, label


def _read_label(data: bytes, suffix: str) -> str | None:
    text = data.decode("utf-8", errors="replace").strip()
    if suffix == ".cls":
        return text or None
    try:
        values = json.loads(text)
    except ValueError:
        return None
    label = values.get("label") if isinstance(values, dict) else None
    return None if label is None else str(label)


class _StrictTarInfo(tarfile.TarInfo):
    """A member of a tar file. `tarfile` takes a damaged header after the first one for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error
