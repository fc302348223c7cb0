"""Any data set with an audio column -> an endless stream of segment pairs."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset

from .audio import SILENCE, AudioDecodingError, SilentAudioError
from .loading import find_audio_column, undecoded
from .segments import random_segments


logger = logging.getLogger(__name__)

# Rows of a stream that are in memory together.
READ_AT_ONCE = 8


@dataclass
class SegmentPair:
    """
    Two segments of one recording, each of shape `(num_samples,)`, or shorter ones of a shorter recording.

    `state` is where the reader that read it stands after it. `notes` are the clips told of since the pair before, as
    (kind, name, reason): those that were skipped, and this one if it is short. `gap` is how far apart the segments
    begin, as a share of the greatest distance possible: NaN if there is only one place for them.
    """

    anchor: np.ndarray
    positive: np.ndarray
    state: tuple[int, ...] = ()
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    gap: float = math.nan


class SegmentPairs(torch.utils.data.IterableDataset):
    """
    An endless, shuffled stream of [`SegmentPair`] over a data set, for a `DataLoader` with any number of workers.

    Every rank and worker is a reader with clips of its own, so that an epoch has each clip once: of a data set with
    random access every n-th of the epoch's permutation; of a stream every n-th of its shards, in an order drawn anew
    each epoch, with their segment pairs shuffled in a buffer. (Where a stream has fewer shards than there are
    readers, each reads all of them and takes every n-th clip.) The same seed gives the same stream, wherever it was
    interrupted: a stream that goes on reads again the shard it was in and at most two buffers of clips, and neither
    loses nor repeats one.

    Clips that teach nothing are skipped and told of, by kind: `"empty"`, `"damaged"`, `"missing"`, and `"silent"` if
    three draws of two segments had one without any sample above a step of 16 bits. A `"short"` clip, one that has no
    whole segment, is told of too, but used: the feature extractor pads it.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            From `datasets`, with an audio column.
        num_samples (`int`):
            Length of a segment.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The rate of the segments, in hertz.
        audio_column (`str`, *optional*):
            The column to read. Defaults to the only one of type `Audio`.
        max_distance (`int`, *optional*):
            How far from the anchor the positive begins, at the most, in samples. Defaults to anywhere (the paper's).
        seed (`int`, *optional*, defaults to 0):
            Of the order and of the segments.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether to shuffle.
        buffer_size (`int`, *optional*, defaults to 512):
            Segment pairs of a stream that each reader shuffles at once. It holds two such buffers, of 125 kB a pair.
        held_out (`dict[int, int]`, *optional*):
            By shard of a stream, how many of its first clips to leave out, for validation.
        min_clips (`int`, *optional*, defaults to 1):
            How many clips a reader needs: with fewer than a batch, a batch would have one recording twice.
        rank, world_size (`int`, *optional*, default to 0 and 1):
            The process and how many there are.
        state (`dict[int, tuple[int, ...]]`, *optional*):
            By worker, the place to go on from: `SegmentPair.state` without its first number, the worker.
        first_worker (`int`, *optional*, defaults to 0):
            The worker whose turn it is: the one after the last that gave a batch.

    Raises:
        `ValueError`: if there is no audio column; if a reader's epoch has fewer than `min_clips` clips that can be
            read, or 1,000 in a row cannot.
    """

    MAX_BAD_IN_A_ROW = 1000

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
        state: dict[int, tuple[int, ...]] | None = None,
        first_worker: int = 0,
    ):
        self.audio_column = find_audio_column(dataset, audio_column)
        # Arrow's format spares a copy of each clip.
        self.dataset = undecoded(dataset.select_columns([self.audio_column]), self.audio_column).with_format("arrow")
        self.is_stream = isinstance(dataset, IterableDataset)
        self.num_samples = num_samples
        self.sampling_rate = sampling_rate
        self.max_distance = max_distance
        self.seed = seed
        self.shuffle = shuffle
        self.buffer_size = buffer_size if self.is_stream and shuffle else 1
        self.held_out = held_out or {}
        self.min_clips = min_clips
        self.rank = rank
        self.world_size = world_size
        self.state = state or {}
        self.first_worker = first_worker

    def _worker(self) -> tuple[int, int]:
        """This worker's number and how many there are. A `DataLoader` begins with the one that it calls 0."""
        worker = torch.utils.data.get_worker_info()
        if worker is None:
            return 0, 1
        return (worker.id + self.first_worker) % worker.num_workers, worker.num_workers

    def _reader(self) -> tuple[int, int]:
        """This reader's number among those of all processes, and how many there are."""
        worker_id, num_workers = self._worker()
        return self.rank * num_workers + worker_id, self.world_size * num_workers

    def clips(self, epoch: int, first_shard: int = 0, first_row: int = 0) -> Iterator[tuple[int, int, list[int], Any]]:
        """
        This reader's clips of one epoch, from one on: the number of its shard among this reader's, its row there, what
        seeds its segments, and its audio. Data with random access is a single shard.
        """
        reader, num_readers = self._reader()
        size = self.dataset.num_shards if self.is_stream else len(self.dataset)
        order = np.arange(size)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(size)
        own = order[reader::num_readers].tolist()
        if not self.is_stream:
            for row in range(first_row, len(own)):
                yield 0, row, [own[row]], self._audio(self.dataset[own[row]], 0)
            return

        shares_shards = size < num_readers
        if shares_shards:
            own = order.tolist()
        for shard in range(first_shard, len(own)):
            rows = self.dataset.shard(num_shards=size, index=own[shard])
            begin = max(self.held_out.get(own[shard], 0), first_row if shard == first_shard else 0)
            # `iter`, unlike `iter(...)`, does not share out among the DataLoader's workers what is shared out already.
            row = -1
            for table in rows.iter(READ_AT_ONCE):
                for i in range(len(table)):
                    row += 1
                    if row >= begin and not (shares_shards and row % num_readers != reader):
                        yield shard, row, [own[shard], row], self._audio(table, i)

    def _audio(self, table: pa.Table, row: int) -> dict[str, Any] | None:
        """One clip's bytes, in place, and path."""
        stored = table[self.audio_column][row]
        if not stored.is_valid:
            return None
        data = stored["bytes"].as_buffer()  # `None` if there is a path only
        return {"bytes": data if data is None else memoryview(data), "path": stored["path"].as_py()}

    def draw(self, audio: Any, rng: np.random.Generator) -> tuple[list[np.ndarray], float]:
        """
        Two segments and their gap.

        Raises:
            [`AudioDecodingError`], `FileNotFoundError`: from [`random_segments`].
            [`SilentAudioError`]: if three draws of two segments had one that is silent.
        """
        for _ in range(3):
            segments, gaps = random_segments(
                audio, self.num_samples, rng, 2, self.sampling_rate, self.max_distance, return_gaps=True
            )
            if all(np.abs(segment).max() > SILENCE for segment in segments):
                return segments, gaps[1]
        raise SilentAudioError("It is silent.")

    def read(self, *place: int) -> Iterator[tuple[SegmentPair, tuple[int, ...]] | None]:
        """
        Pairs in the order of [`clips`], for ever, each with the place after it; `None` at the end of an epoch. A place
        is an epoch, a shard and a row.
        """
        notes, bad_in_a_row = [], 0
        while True:
            epoch, *first = place
            num_read = num_clips = 0
            for shard, row, key, audio in self.clips(epoch, *first):
                num_clips += 1
                name = (audio or {}).get("path") or f"row {key[-1]}"
                try:
                    segments, gap = self.draw(audio, np.random.default_rng([self.seed, epoch, *key]))
                except (AudioDecodingError, SilentAudioError, FileNotFoundError) as error:
                    notes.append((getattr(error, "kind", "missing"), name, str(error)))
                    bad_in_a_row += 1
                    if bad_in_a_row == self.MAX_BAD_IN_A_ROW:
                        raise ValueError(
                            f"{bad_in_a_row} clips in a row could not be read, {self._where()}. The last: "
                            f"{name}: {error}"
                        ) from error
                    continue
                if len(segments[0]) < self.num_samples:
                    notes.append(("short", name, f"It has {len(segments[0])} of {self.num_samples} samples: padded."))
                num_read, bad_in_a_row = num_read + 1, 0
                yield SegmentPair(*segments, notes=notes, gap=gap), (epoch, shard, row + 1)
                notes = []
            if not any(first) and num_read < self.min_clips:
                example = f" {notes[0][1]}: {notes[0][2]}" if notes else ""
                raise ValueError(
                    f"An epoch of {num_clips} clips has {num_read} that can be read, {self._where()}, and "
                    f"{self.min_clips} are needed: add clips, or lower the batch size or the number of workers."
                    + example
                )
            yield None
            place = (epoch + 1, 0, 0)

    def _where(self) -> str:
        return f"by worker {self._worker()[0]} of rank {self.rank}"

    def __iter__(self) -> Iterator[SegmentPair]:
        worker_id, _ = self._worker()
        reader, num_readers = self._reader()
        if reader == 0 and self.is_stream and self.dataset.num_shards < num_readers:
            logger.warning(
                f"The stream has {self.dataset.num_shards} shards for {num_readers} readers, so each of them reads it "
                "all and drops what is the others'. Use fewer workers, or write more shards."
            )
        *place, num_given = self.state.get(worker_id, (0, 0, 0, 0))
        source = self.read(*place)
        # A buffer is given in random order while the next one is read, a pair for a pair. Where it began and how many
        # were given is all that is needed to find the same place again. None holds clips of two epochs: a batch would
        # have one recording twice.
        buffer = list(self._fill(source))
        while True:
            order = np.random.default_rng([self.seed, reader, *place]).permutation(len(buffer))
            following, filling = [], self._fill(source)
            for number, index in enumerate(order, 1):
                if number > num_given:
                    yield replace(buffer[index][0], state=(worker_id, *place, number))
                following.extend(islice(filling, 1))
            following.extend(filling)
            place = buffer[-1][1] if len(buffer) == self.buffer_size else (place[0] + 1, 0, 0)
            num_given, buffer = 0, following

    def _fill(self, source: Iterator) -> Iterator[tuple[SegmentPair, tuple[int, ...]]]:
        """A buffer of pairs of one epoch."""
        for item in islice(source, self.buffer_size):
            if item is None:
                return
            yield item


def collate_segment_pairs(pairs: list[SegmentPair]) -> dict[str, Any]:
    """
    A batch for `COLAFeatureExtractor.log_mel`: `waveforms` `[2B, num_samples]` (the anchors, then the positives, in
    the same order; zero-padded), their `lengths` `[2B]`, the pairs' `gaps` `[B]`, the reader's `state` and the pairs'
    `notes`.
    """
    segments = [torch.from_numpy(pair.anchor) for pair in pairs] + [torch.from_numpy(pair.positive) for pair in pairs]
    return {
        "waveforms": torch.nn.utils.rnn.pad_sequence(segments, batch_first=True),
        "lengths": torch.tensor([len(segment) for segment in segments]),
        "gaps": torch.tensor([pair.gap for pair in pairs]),
        "state": pairs[-1].state,
        "notes": [note for pair in pairs for note in pair.notes],
    }
