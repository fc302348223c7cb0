"""Streams of tar files as WebDataset writes them."""

import json
import lzma
import math
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Features, IterableDataset, IterableDatasetDict, NamedSplit, SplitDict, SplitInfo, Value

from .audio import decodable_suffixes
from .audio_source import storable_name
from .lost_clips import is_lost, stand_in
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
        `IterableDatasetDict`: the splits, with the column `audio`. If the first file that can be read has a label,
        there is a column `label` of text: what is in the `.cls` file of a clip, or the value `label` in its `.json`
        file.
    """
    by_split: dict[str, list[str]] = {}
    for path, split in zip(paths, splits_of(paths)):
        by_split.setdefault(split, []).append(path)
    columns = {"audio": STORED_AUDIO} | ({"label": Value("string")} if _has_labels(paths) else {})
    streams = {}
    for split, of_split in sorted(by_split.items()):
        files = [os.stat(path) for path in of_split]
        # The times tell a copy in the cache of `datasets` from what a file holds now.
        arguments = {"paths": of_split, "times": [file.st_mtime_ns for file in files], "columns": tuple(columns)}
        stream = IterableDataset.from_generator(_read_tars, Features(columns), arguments, split=NamedSplit(split))
        # About how many clips there are follows from it, without reading all of them.
        stream.info.splits = SplitDict({split: SplitInfo(split, num_bytes=sum(file.st_size for file in files))})
        streams[split] = stream
    return IterableDatasetDict(streams)


def _has_labels(paths: list[str]) -> bool:
    """Whether a clip of the first file that can be read has a label."""
    for path in paths:
        has_clips = False
        for row in _read_tar(path):
            if row["label"] is not None:
                return True
            has_clips = has_clips or not is_lost(row["audio"])
        if has_clips:
            return False
    return False


def _read_tars(paths: list[str], times: list[int], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for row in _read_tar(path):
            yield {column: row[column] for column in columns}


def _read_tar(path: str) -> Iterator[dict[str, Any]]:
    """
    Reads the clips of a tar file, each with its label. Where members are damaged, a row stands for the clips that are
    lost, and the clips after it are read.
    """
    num_read = num_bytes = 0
    try:
        with open(path, "rb") as file, _TarFile.open(fileobj=file, mode="r|*") as tar:
            for rows in _group(tar, path):
                num_read, num_bytes = num_read + len(rows), file.tell()
                yield from rows
    except CORRUPTION as error:
        # The clips that are left take about as much room as those that were read.
        rest = os.path.getsize(path) - num_bytes if os.path.exists(path) else 0
        num_left = round(num_read * rest / num_bytes) if num_read else 1
        yield {"audio": stand_in(path, f"{path} is not a whole tar file: {error}", num_left), "label": None}


def _group(tar: "_TarFile", path: str) -> Iterator[list[dict[str, Any]]]:
    """
    Reads the samples of a tar file: members that follow one another and have the same name up to the first full stop.
    Yields the rows of each, which are more than one at times, and rows that stand for what is lost between them.
    """
    sample = _Sample(("", ""))
    audio_suffixes = decodable_suffixes()
    largest = math.inf  # room that a clip takes, as far as is known
    try:
        for member in tar:
            folder, name = os.path.split(member.name)
            key, stem, suffix = (folder, name.split(".")[0]), Path(name).stem, Path(name).suffix.lower()
            if key != sample.key:
                yield sample.rows()
                sample = _Sample(key)
            if tar.damage is not None:
                yield [tar.lost_clips(path, f"{path}, byte {tar.damage.start}", member.offset, largest)]
            if member.isfile() and suffix in audio_suffixes:
                clip = {"bytes": tar.extractfile(member).read(), "path": storable_name(member.name)}
                sample.clips.append((stem, clip))
                room = tar.offset - member.offset
                largest = room if largest == math.inf else max(largest, room)
            elif (member.islnk() or member.issym()) and suffix in audio_suffixes:
                reason = f"it is a link to {member.linkname}, which a stream cannot follow"
                sample.clips.append((stem, stand_in(f"{path}, {storable_name(member.name)}", reason)))
            elif member.isfile() and suffix in LABEL_SUFFIXES:
                label = _read_label(tar.extractfile(member).read(), suffix)
                if label is not None:
                    sample.labels[stem] = label
    except CORRUPTION:
        yield sample.rows()
        raise
    yield sample.rows()
    if tar.damage is not None:
        yield [tar.lost_clips(path, path, tar.damage.end, largest)]


class _Sample:
    """The clips and the labels of a sample, by their names without the last ending, and the folder and name it has."""

    def __init__(self, key: tuple[str, str]):
        self.key = key
        self.clips: list[tuple[str, dict[str, Any]]] = []
        self.labels: dict[str, str] = {}

    def rows(self) -> list[dict[str, Any]]:
        """The clips, each with the label that has its name or, if none has, with that of the sample."""
        of_all = set(self.labels.values())
        label = self.labels.get(self.key[1], of_all.pop() if len(of_all) == 1 else None)
        return [{"audio": clip, "label": self.labels.get(stem, label)} for stem, clip in self.clips]


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


class _Damage(NamedTuple):
    """Where the members of a tar file are damaged, in bytes, and how."""

    start: int
    end: int
    error: str


class _TarInfo(tarfile.TarInfo):
    """A member of a [`_TarFile`], which is told where the header of a member is damaged."""

    @classmethod
    def fromtarfile(cls, tar: "_TarFile") -> tarfile.TarInfo:
        start = tar.fileobj.tell()
        try:
            return super().fromtarfile(tar)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):
            raise
        except tarfile.HeaderError as error:
            first = tar.damage or _Damage(start, start, str(error))
            tar.damage = _Damage(min(start, first.start), tar.fileobj.tell(), first.error)
            # Of all the errors of headers, this is the one after which `tarfile` tries the next block.
            raise tarfile.InvalidHeaderError(str(error)) from error


class _TarFile(tarfile.TarFile):
    """
    A tar file that goes on after damaged members. `tarfile` takes a damaged header after the first one for the end of
    the file.

    `damage` is what was met between the last member that was read and the one before it.
    """

    tarinfo = _TarInfo
    ignore_zeros = True  # and whatever else is no header
    damage: _Damage | None = None

    def lost_clips(self, path: str, name: str, end: int, largest: float) -> dict[str, Any]:
        """Makes the row that stands for the clips in the damaged part, which ends at `end`, and forgets the damage."""
        damage, self.damage = self.damage, None
        reason = f"{path} is not a whole tar file: {damage.error} at byte {damage.start}"
        # Clips differ in length: what takes less room than two of the largest is most likely a single one.
        return {"audio": stand_in(name, reason, int((end - damage.start) // largest)), "label": None}
