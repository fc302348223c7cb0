"""Shuffling: an endless stream of segment pairs over any data set that has an audio column."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from .clip_reader import ClipReader, Position, ReaderState
from .errors import DataError
from .loading import find_audio_column
from .pair_drawer import PairDrawer, SegmentPair


logger = logging.getLogger(__name__)


class PairBuffer:
    """
    A buffer of consecutive segment pairs of one epoch, which are given in random order. It is filled a little at a
    time, while the previous buffer is emptied.

    Args:
        start (`Position`):
            The position at which the buffer begins.
        pairs (`Iterator[tuple[SegmentPair, Position]]`):
            The epoch's pairs from there on, each with the position after it.
        size (`int`):
            How many pairs the buffer holds.
    """

    def __init__(self, start: Position, pairs: Iterator[tuple[SegmentPair, Position]], size: int):
        self.start = start
        self.end = start
        self.pairs: list[SegmentPair] = []
        self._size = size
        self._unread = islice(pairs, size)

    @property
    def is_full(self) -> bool:
        return len(self.pairs) == self._size

    def read(self, count: int | None = None) -> None:
        """Reads `count` pairs, or as many as there still are and fit. Without `count`, reads all that fit."""
        for pair, position in islice(self._unread, count):
            self.pairs.append(pair)
            self.end = position

    def shuffled(self, seed: int, reader: int) -> list[SegmentPair]:
        """The pairs in an order that depends on the seed, the reader and the start of the buffer."""
        order = np.random.default_rng([seed, reader, *self.start]).permutation(len(self.pairs))
        return [self.pairs[index] for index in order]


class SegmentPairs(torch.utils.data.IterableDataset):
    """
    An endless, shuffled stream of [`SegmentPair`] over a data set, for a `DataLoader` with any number of workers.

    Each worker of each process is a reader with clips of its own, as [`ClipReader`] says, so that an epoch has each
    clip once. The segment pairs of a stream are also shuffled in a buffer. The same seed gives the same stream,
    wherever it was interrupted: no clip is lost or repeated. To resume, a reader of a stream reads again the shard in
    which it was, and at most two buffers of clips.

    Clips of no use are skipped, with a [`ClipNote`] of one of the [`BAD_CLIP_KINDS`]. A clip is `"silent"` if each of
    three draws of two segments had one with no sample above [`SILENCE`]. The clips that a corrupt shard has lost
    together have a single note. A clip that is shorter than a segment is noted as `"short"` but used, since the
    feature extractor pads it.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            A data set of `datasets` with an audio column.
        num_samples (`int`):
            Length of a segment.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the segments, in hertz.
        audio_column (`str`, *optional*):
            The column to read. Defaults to the only one of type `Audio`.
        max_distance (`int`, *optional*):
            The greatest distance between the starts of anchor and positive, in samples. Defaults to no limit, as in
            the paper.
        seed (`int`, *optional*, defaults to 0):
            Seed of the order and of the segments.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether to shuffle.
        buffer_size (`int`, *optional*, defaults to 512):
            How many segment pairs of a stream each reader shuffles together. It holds two buffers of this size in
            memory, at 125 kB for each pair of 15,600 samples.
        held_out (`dict[int, int]`, *optional*):
            How many clips to leave out, for validation, at the beginning of each shard of a stream, by the number of
            the shard.
        min_clips (`int`, *optional*, defaults to 1):
            How many clips an epoch of each reader must have. With fewer clips than a batch has, a batch would contain
            the same recording twice.
        rank (`int`, *optional*, defaults to 0):
            Number of this process.
        world_size (`int`, *optional*, defaults to 1):
            How many processes there are.
        state (`dict[int, ReaderState]`, *optional*):
            Where to resume, by worker: the state of the last pair that each worker gave.
        first_worker (`int`, *optional*, defaults to 0):
            The worker that gives the first batch. To resume, the one after the worker that gave the last batch.

    Raises:
        `ValueError`: if there is no audio column, if a reader can read fewer than `min_clips` clips in an epoch, or if
            it cannot read 1,000 clips in a row.
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        num_samples: int,
        sampling_rate: int = 16000,
        audio_column: str | None = None,
        max_distance: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        buffer_size: int = 512,
        held_out: dict[int, int] | None = None,
        min_clips: int = 1,
        rank: int = 0,
        world_size: int = 1,
        state: dict[int, ReaderState] | None = None,
        first_worker: int = 0,
    ):
        self.audio_column = find_audio_column(dataset, audio_column)
        self.dataset = dataset.select_columns([self.audio_column])
        self.is_stream = isinstance(dataset, IterableDataset)
        self.num_samples = num_samples
        self.sampling_rate = sampling_rate
        self.max_distance = max_distance
        self.seed = seed
        self.shuffle = shuffle
        self.buffer_size = buffer_size if self.is_stream and shuffle else 1
        self.held_out = held_out
        self.min_clips = min_clips
        self.rank = rank
        self.world_size = world_size
        self.state = state or {}
        self.first_worker = first_worker

    def __iter__(self) -> Iterator[SegmentPair]:
        worker, num_workers = self._worker()
        reader = self._clip_reader(worker, num_workers)
        state = self.reader_state()
        num_given, total = state.num_given, state.total
        buffers = self._buffers(reader, self._pair_drawer(worker), state.buffer_start)
        buffer = next(buffers)
        buffer.read()
        for following in buffers:
            # A pair is read into the following buffer for each pair given, so that no batch waits for a whole buffer.
            for number, pair in enumerate(buffer.shuffled(self.seed, reader.reader), 1):
                if number > num_given:
                    total += 1
                    yield replace(pair, state=ReaderState(worker, buffer.start, number, total))
                following.read(1)
            following.read()
            buffer, num_given = following, 0

    def reader_state(self) -> ReaderState:
        """Where the reader that this worker is starts."""
        worker, _ = self._worker()
        return self.state.get(worker, ReaderState(worker))

    def _worker(self) -> tuple[int, int]:
        """This worker's number and how many there are. A `DataLoader` asks the one that it calls 0 first."""
        worker = torch.utils.data.get_worker_info()
        if worker is None:
            return 0, 1
        return (worker.id + self.first_worker) % worker.num_workers, worker.num_workers

    def _clip_reader(self, worker: int, num_workers: int) -> ClipReader:
        reader = ClipReader(
            self.dataset,
            self.audio_column,
            reader=self.rank * num_workers + worker,
            num_readers=self.world_size * num_workers,
            seed=self.seed,
            shuffle=self.shuffle,
            held_out=self.held_out,
        )
        if reader.shares_shards and reader.reader == 0:
            logger.warning(
                f"The stream has {self.dataset.num_shards} shards for {reader.num_readers} readers, so each of them "
                "reads the whole stream and drops the clips of the others. Use fewer workers, or write more shards."
            )
        return reader

    def _pair_drawer(self, worker: int) -> PairDrawer:
        return PairDrawer(
            self.num_samples,
            self.sampling_rate,
            max_distance=self.max_distance,
            seed=self.seed,
            reader_name=f"worker {worker} of rank {self.rank}",
        )

    def _buffers(self, reader: ClipReader, drawer: PairDrawer, start: Position) -> Iterator[PairBuffer]:
        """
        Cuts the stream into buffers, epoch after epoch, each to be filled before the next one is asked for. No buffer
        has clips of two epochs: a batch could contain the same recording twice.
        """
        pairs = self._read_epoch(reader, drawer, start)
        while True:
            buffer = PairBuffer(start, pairs, self.buffer_size)
            yield buffer
            start = buffer.end
            if not buffer.is_full:  # because the epoch has ended
                start = Position(start.epoch + 1)
                pairs = self._read_epoch(reader, drawer, start)

    def _read_epoch(
        self, reader: ClipReader, drawer: PairDrawer, start: Position
    ) -> Iterator[tuple[SegmentPair, Position]]:
        """The segment pairs of one epoch from `start` on, unshuffled, each with the position after its clip."""
        num_clips = num_read = 0
        for clip in reader.clips(start):
            num_clips += 1
            pair = drawer.draw(clip)
            if pair is not None:
                num_read += 1
                yield pair, clip.end
        is_whole = start == Position(start.epoch)
        if is_whole and num_read < self.min_clips:
            example = f" For example, {drawer.notes[0].name}: {drawer.notes[0].reason}" if drawer.notes else ""
            raise DataError(
                f"An epoch of {num_clips} clips has {num_read} that can be read by {drawer.reader_name}, but "
                f"{self.min_clips} are needed: add clips, or lower the batch size or the number of workers.{example}"
            )


class MixedSegmentPairs(torch.utils.data.IterableDataset):
    """
    An endless stream of [`SegmentPair`] that takes its pairs from several streams in turn.

    The next pair is always of the stream that is furthest behind its share, so every batch is mixed in the same
    proportions. A small data set is repeated as often as its share asks for. The `state` of a pair is a
    tuple of the [`ReaderState`] of each stream: to resume, give each stream its own.

    Args:
        streams (`list[SegmentPairs]`):
            The streams, one for each data set.
        weights (`list[float]`, *optional*):
            The weight of each stream, relative to the sum of all. By default all have the same.

    Raises:
        `ValueError`: if there is not one positive, finite weight for each stream.
    """

    def __init__(self, streams: list[SegmentPairs], weights: list[float] | None = None):
        self.streams = streams
        self.shares = shares_of(weights, len(streams))

    def __iter__(self) -> Iterator[SegmentPair]:
        pairs = [iter(stream) for stream in self.streams]
        states = [stream.reader_state() for stream in self.streams]
        while True:
            total = sum(state.total for state in states) + 1
            behind = [share * total - state.total for share, state in zip(self.shares, states)]
            turn = behind.index(max(behind))
            pair = next(pairs[turn])
            states[turn] = pair.state
            yield replace(pair, state=tuple(states))


def shares_of(weights: list[float] | None, count: int) -> list[float]:
    """
    Turns weights, relative to one another, into `count` shares that sum to 1. Without weights, all shares are equal.

    Raises:
        `ValueError`: if there is not one positive, finite weight for each data set.
    """
    weights = [1.0] * count if weights is None else weights
    if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
        raise DataError(
            f"The mixing weights (--mixing_weights) must be {count} positive numbers, one for each data set, "
            f"got {weights}."
        )
    return [weight / sum(weights) for weight in weights]


def collate_segment_pairs(pairs: list[SegmentPair]) -> dict[str, Any]:
    """
    Makes a batch of segment pairs, for `COLAFeatureExtractor.log_mel`.

    Args:
        pairs (`list[SegmentPair]`):
            The `batch_size` pairs, all from one reader.

    Returns:
        `dict` with

        - `waveforms` (`torch.FloatTensor` of shape `(2 * batch_size, num_samples)`): the anchors, then the positives
          in the same order, padded with zeros at the end.
        - `lengths` (`torch.LongTensor` of shape `(2 * batch_size,)`): the length of each segment before padding.
        - `gaps` (`torch.FloatTensor` of shape `(batch_size,)`): the gap of each pair.
        - `state` (`ReaderState`, or a tuple of them from [`MixedSegmentPairs`]): where the reader stands after the
          last pair.
        - `notes` (`list[ClipNote]`): the notes of all the pairs.
    """
    segments = [torch.from_numpy(pair.anchor) for pair in pairs] + [torch.from_numpy(pair.positive) for pair in pairs]
    return {
        "waveforms": torch.nn.utils.rnn.pad_sequence(segments, batch_first=True),
        "lengths": torch.tensor([len(segment) for segment in segments]),
        "gaps": torch.tensor([pair.gap for pair in pairs]),
        "state": pairs[-1].state,
        "notes": [note for pair in pairs for note in pair.notes],
    }
