"""Reading: the clips that one reader of a data set reads, in order, and where it stands."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from .errors import BadClipError
from .loading import undecoded


class ClipNote(NamedTuple):
    """
    A remark on a clip that was skipped or is short.

    Args:
        kind (`str`):
            One of [`BAD_CLIP_KINDS`] for a clip that was skipped, `"short"` for one that is used although it is
            shorter than a segment. `"corrupt shard"` is about the clips that a damaged shard has lost.
        name (`str`):
            The path of the clip or, if it has none, its row.
        reason (`str`):
            What is wrong with it, in words.
        num_clips (`int`, *optional*, defaults to 1):
            How many clips it is about: those that are lost together in a corrupt shard, or about as many.
    """

    kind: str
    name: str
    reason: str
    num_clips: int = 1


class Position(NamedTuple):
    """
    A place in the data: the clip before which a reader stands.

    Args:
        epoch (`int`, *optional*, defaults to 0):
            Number of the epoch.
        shard (`int`, *optional*, defaults to 0):
            Number of the shard among those that the reader reads in this epoch, in the order in which it reads them.
            A data set with random access counts as one shard.
        row (`int`, *optional*, defaults to 0):
            Number of the row in the shard, in the order in which the reader reads it.
    """

    epoch: int = 0
    shard: int = 0
    row: int = 0


START = Position()


class ReaderState(NamedTuple):
    """
    Where a reader, which is one worker of one process, stands in the stream.

    A reader gives its segment pairs in buffers, each of them shuffled. The position at which the current buffer
    begins, and how many of its pairs were given, are enough to find the same place again.

    Args:
        worker (`int`, *optional*, defaults to 0):
            Number of the worker in its process.
        buffer_start (`Position`, *optional*, defaults to the start of the first epoch):
            The position at which the current buffer begins.
        num_given (`int`, *optional*, defaults to 0):
            How many pairs of this buffer were given.
        total (`int`, *optional*, defaults to 0):
            How many pairs were given since the start of the first epoch.
    """

    worker: int = 0
    buffer_start: Position = START
    num_given: int = 0
    total: int = 0


class Clip(NamedTuple):
    """
    A clip as it is stored, still encoded, or a row that stands for the clips which a corrupt shard has lost.

    Args:
        position (`Position`):
            Where the clip is in what the reader reads.
        key (`tuple[int, ...]`):
            Which clip of the data set it is, whoever reads it: its row, or its shard and its row in the shard.
        audio (`dict`, *optional*):
            The `bytes` and the `path` of the audio, as [`open_audio`] takes them, or `None` if the row has no audio.
        row (`pa.Table`):
            All columns of its row, in Arrow's format.
    """

    position: Position
    key: tuple[int, ...]
    audio: dict[str, Any] | None
    row: pa.Table

    @property
    def end(self) -> Position:
        """The position after the clip."""
        return self.position._replace(row=self.position.row + 1)

    @property
    def path(self) -> str | None:
        """The path, which is made absolute if the audio is a local file."""
        path = (self.audio or {}).get("path")
        is_file = path is not None and self.audio["bytes"] is None and "://" not in path
        return os.path.abspath(path) if is_file else path

    @property
    def name(self) -> str:
        """The path of the clip or, if it has none, its row."""
        *shard, row = self.key
        return self.path or f"row {row}" + "".join(f" of shard {number}" for number in shard)

    def note(self, error: BadClipError) -> ClipNote:
        """Notes why the clip is skipped."""
        return ClipNote(error.kind, self.name, str(error), error.num_clips)


class ClipReader:
    """
    Reads the share of a data set that falls to one reader, which is one worker of one process.

    In each epoch the readers together read every clip once. Of a data set with random access, each reader takes every
    n-th clip of the epoch's permutation. Of a stream, it takes every n-th shard, in an order drawn for each epoch.
    Where a stream has fewer shards than there are readers, each of them reads all the shards and takes every n-th
    clip. All that can be read of a corrupt shard is read, and one clip stands for those that are lost together.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            The data set.
        audio_column (`str`):
            Name of the column that holds the audio.
        reader (`int`, *optional*, defaults to 0):
            Number of this reader among those of all processes.
        num_readers (`int`, *optional*, defaults to 1):
            How many readers there are.
        seed (`int`, *optional*, defaults to 0):
            Seed of the order, together with the epoch.
        shuffle (`bool`, *optional*, defaults to `False`):
            Whether to shuffle the clips of a data set with random access, and the shards of a stream.
        held_out (`dict[int, int]`, *optional*):
            How many clips to leave out at the beginning of each shard of a stream, by the shard's number in the data
            set.
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        audio_column: str,
        reader: int = 0,
        num_readers: int = 1,
        seed: int = 0,
        shuffle: bool = False,
        held_out: dict[int, int] | None = None,
    ):
        # Arrow's format avoids a copy of each clip, and leaves the other columns as they are stored.
        self.dataset = undecoded(dataset, audio_column).with_format("arrow")
        self.audio_column = audio_column
        self.reader = reader
        self.num_readers = num_readers
        self.seed = seed
        self.shuffle = shuffle
        self.held_out = held_out or {}
        self.is_stream = isinstance(dataset, IterableDataset)
        self.shares_shards = self.is_stream and dataset.num_shards < num_readers

    def clips(self, start: Position = START) -> Iterator[Clip]:
        """Reads the clips of the epoch of `start`, from that position to the end of the epoch."""
        return self._read_stream(start) if self.is_stream else self._read_rows(start)

    def _read_rows(self, start: Position) -> Iterator[Clip]:
        own_rows = self._order(len(self.dataset), start.epoch)[self.reader :: self.num_readers]
        for number in range(start.row, len(own_rows)):
            row = self.dataset[own_rows[number]]
            yield Clip(start._replace(row=number), (own_rows[number],), self._stored_audio(row), row)

    def _read_stream(self, start: Position) -> Iterator[Clip]:
        own_shards = self._order(self.dataset.num_shards, start.epoch)
        if not self.shares_shards:
            own_shards = own_shards[self.reader :: self.num_readers]
        for number in range(start.shard, len(own_shards)):
            shard = own_shards[number]
            first_row = max(self.held_out.get(shard, 0), start.row if number == start.shard else 0)
            # The method `iter` reads the whole shard. The built-in one would divide it among the workers of the
            # DataLoader once more.
            rows = self.dataset.shard(num_shards=self.dataset.num_shards, index=shard).iter(batch_size=1)
            for i, row in enumerate(rows):
                is_own = not self.shares_shards or i % self.num_readers == self.reader
                if i >= first_row and is_own:
                    yield Clip(Position(start.epoch, number, i), (shard, i), self._stored_audio(row), row)

    def _order(self, size: int, epoch: int) -> list[int]:
        """The order of the rows or shards in one epoch, which is the same for all readers."""
        if not self.shuffle:
            return list(range(size))
        return np.random.default_rng([self.seed, epoch]).permutation(size).tolist()

    def _stored_audio(self, row: pa.Table) -> dict[str, Any] | None:
        """The bytes of a clip, which are not copied, and its path. `None` if the row has no audio."""
        stored = row[self.audio_column][0]
        if not stored.is_valid:
            return None
        data = stored["bytes"].as_buffer()  # `None` if only the path is stored
        return {"bytes": None if data is None else memoryview(data), "path": stored["path"].as_py()}
