"""Streams of tar files as WebDataset writes them."""

import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Features, IterableDataset, IterableDatasetDict, Value

from .audio import AUDIO_SUFFIXES
from .audio_source import storable_name
from .errors import CorruptShardError


# The type in which `datasets` stores a column of type `Audio`.
STORED_AUDIO = {"bytes": Value("binary"), "path": Value("string")}

CORRUPTION = (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error)


def load_tars(paths: list[str]) -> IterableDatasetDict:
    """Loads the audio in tar files as a stream, of which each of them is a shard."""
    stream = IterableDataset.from_generator(
        _read_tars, features=Features(audio=STORED_AUDIO), gen_kwargs={"paths": paths}
    )
    return IterableDatasetDict({"train": stream})


def _read_tars(paths: list[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        num_read = num_bytes = 0
        try:
            with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictTarInfo) as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in AUDIO_SUFFIXES:
                        data = tar.extractfile(member).read()
                        num_read, num_bytes = num_read + 1, file.tell()
                        yield {"audio": {"bytes": data, "path": storable_name(member.name)}}
        except CORRUPTION as error:
            # The clips that are left take about as much room as those that were read.
            rest = os.path.getsize(path) - num_bytes if os.path.exists(path) else 0
            num_left = round(num_read * rest / num_bytes) if num_read else 1
            raise CorruptShardError(f"{path} is not a whole tar file: {error}", path, num_left) from error


class _StrictTarInfo(tarfile.TarInfo):
    """A member of a tar file. `tarfile` takes a damaged header after the first one for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error
