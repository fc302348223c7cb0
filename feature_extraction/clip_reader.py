"""Reading: the clips that one reader of a data set reads, in order, and where it stands."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from .errors import CorruptShardError


class Position(NamedTuple):
    """
    A place in the data: the clip before which a reader stands.

    Args:
        epoch (`int`, *optional*, defaults to 0):
            Number of the epoch.
        shard (`int`, *optional*, defaults to 0):
            Number of the shard among those that the reader reads in this epoch, in the order in which it reads them.
            What a reader reads of a data set with random access counts as one shard.
        row (`int`, *optional*, defaults to 0):
            Number of the row in the shard, in the order in which the reader reads it.
    """

    epoch: int = 0
    shard: int = 0
    row: int = 0


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
    buffer_start: Position = Position()
    num_given: int = 0
    total: int = 0


class Clip(NamedTuple):
    """
    A clip as it is stored, still encoded.

    Args:
        position (`Position`):
            Where the clip is in what the reader reads.
        key (`tuple[int, ...]`):
            Which clip of the data set it is, whoever reads it: its row, or its shard and its row in the shard.
        audio (`dict`, *optional*):
            The `bytes` and the `path` of the audio, or `None` if the row has no audio.
        error ([`CorruptShardError`], *optional*):
            Why the shard cannot be read from this row on. The clip then stands for the rest of the shard, and `audio`
            has the shard's path.
    """

    position: Position
    key: tuple[int, ...]
    audio: dict[str, Any] | None
    error: CorruptShardError | None = None

    @property
    def name(self) -> str:
        """The path of the clip or, if it has none, its row."""
        return (self.audio or {}).get("path") or f"row {self.key[-1]}"


class ClipReader:
    """
    Reads the share of a data set that falls to one reader, which is one worker of one process.

    In each epoch the readers together read every clip once. Of a data set with random access, each reader takes every
    n-th clip of the epoch's permutation. Of a stream, it takes every n-th shard, in an order drawn for each epoch.
    Where a stream has fewer shards than there are readers, each of them reads all the shards and takes every n-th
    clip. What cannot be read of a corrupt shard is left out, and one clip with an `error` stands for it.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            The data set in Arrow's format, with its audio left encoded.
        audio_column (`str`):
            Name of the column that holds the audio.
        reader (`int`, *optional*, defaults to 0):
            Number of this reader among those of all processes.
        num_readers (`int`, *optional*, defaults to 1):
            How many readers there are.
        seed (`int`, *optional*, defaults to 0):
            Seed of the order, together with the epoch.
        shuffle (`bool`, *optional*, defaults to `True`):
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
        shuffle: bool = True,
        held_out: dict[int, int] | None = None,
    ):
        self.dataset = dataset
        self.audio_column = audio_column
        self.reader = reader
        self.num_readers = num_readers
        self.seed = seed
        self.shuffle = shuffle
        self.held_out = held_out or {}
        self.is_stream = isinstance(dataset, IterableDataset)
        self.shares_shards = self.is_stream and dataset.num_shards < num_readers

    def clips(self, start: Position) -> Iterator[Clip]:
        """Reads the clips of the epoch of `start`, from that position to the end of the epoch."""
        return self._read_stream(start) if self.is_stream else self._read_rows(start)

    def _read_rows(self, start: Position) -> Iterator[Clip]:
        own_rows = self._order(len(self.dataset), start.epoch)[self.reader :: self.num_readers]
        for number in range(start.row, len(own_rows)):
            row = own_rows[number]
            stored = self.dataset[row][self.audio_column][0]
            yield Clip(start._replace(row=number), (row,), _stored_audio(stored))

    def _read_stream(self, start: Position) -> Iterator[Clip]:
        own_shards = self._order(self.dataset.num_shards, start.epoch)
        if not self.shares_shards:
            own_shards = own_shards[self.reader :: self.num_readers]
        for number in range(start.shard, len(own_shards)):
            shard = own_shards[number]
            first_row = max(self.held_out.get(shard, 0), start.row if number == start.shard else 0)
            for row, stored in enumerate(self._read_shard(shard)):
                is_own = not self.shares_shards or row % self.num_readers == self.reader
                if row >= first_row and is_own:
                    position, key = Position(start.epoch, number, row), (shard, row)
                    if isinstance(stored, CorruptShardError):
                        yield Clip(position, key, {"bytes": None, "path": stored.path}, stored)
                    else:
                        yield Clip(position, key, _stored_audio(stored))

    def _read_shard(self, shard: int) -> Iterator[pa.StructScalar | CorruptShardError]:
        """Reads the rows of a shard. If it is corrupt, the error comes after the last row that can be read."""
        rows = self.dataset.shard(num_shards=self.dataset.num_shards, index=shard)
        # The method `iter` reads the whole shard. The built-in `iter(rows)` would divide it among the workers of the
        # DataLoader once more.
        try:
            # Row by row: of a larger batch that meets the damage, the good rows before it would be lost.
            yield from chain.from_iterable(table[self.audio_column] for table in rows.iter(batch_size=1))
        except CorruptShardError as error:
            yield error

    def _order(self, size: int, epoch: int) -> list[int]:
        """The order of the rows or shards in one epoch, which is the same for all readers."""
        if not self.shuffle:
            return list(range(size))
        return np.random.default_rng([self.seed, epoch]).permutation(size).tolist()


def _stored_audio(stored: pa.StructScalar) -> dict[str, Any] | None:
    """The bytes of a clip, which are not copied, and its path. `None` if the row has no audio."""
    if not stored.is_valid:
        return None
    data = stored["bytes"].as_buffer()  # `None` if only the path is stored
    return {"bytes": None if data is None else memoryview(data), "path": stored["path"].as_py()}
