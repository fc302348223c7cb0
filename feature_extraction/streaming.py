"""Any data set with an audio column -> an endless stream of segment pairs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    load_dataset,
)
from datasets.distributed import split_dataset_by_node

from .audio import AUDIO_SUFFIXES, AudioDecodingError
from .segments import random_segments


SPLIT_FOLDERS = {"train", "validation", "valid", "val", "dev", "test", "eval"}


def load_audio_dataset(
    name: str, config_name: str | None = None, streaming: bool = False
) -> DatasetDict | IterableDatasetDict:
    """
    Loads all the splits of a data set, with its audio left encoded.

    Args:
        name (`str`):
            A folder of audio files, nested at will; a folder, file or glob of Parquet; or a data set on the Hub.
            Audio files have a `label` too if they lie in sub-folders: the name of the topmost. If all of the topmost
            are called like splits (`train`, `test`, ...), they are splits.
        config_name (`str`, *optional*):
            Configuration of a data set on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read Parquet or the Hub as a stream, without a local copy. Audio files are never copied.

    Raises:
        `FileNotFoundError`: if the folder holds neither audio nor Parquet.
    """
    path = Path(name).expanduser()
    if path.is_dir() and not any(path.rglob("*.parquet")):
        return _load_audio_folder(path)
    if path.is_dir():
        return load_dataset("parquet", data_dir=str(path), streaming=streaming)
    if name.endswith(".parquet"):
        return load_dataset("parquet", data_files=name, streaming=streaming)
    return load_dataset(name, config_name, streaming=streaming)


def _load_audio_folder(root: Path) -> DatasetDict:
    files = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    files = [
        path
        for path in files
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.parts)
        and (root / path).is_file()
    ]
    if not files:
        raise FileNotFoundError(
            f"{root} holds no audio: there is no file ending in {', '.join(AUDIO_SUFFIXES)}, nor a .parquet."
        )
    splits, depth = {"train": files}, 0  # the depth at which the folders of the classes are
    if (tops := {path.parts[0] for path in files}) <= SPLIT_FOLDERS:
        splits = {top: [path for path in files if path.parts[0] == top] for top in sorted(tops)}
        depth = 1
    labels = None
    if all(len(path.parts) > depth + 1 for path in files):
        names = sorted({path.parts[depth] for path in files})
        labels = ClassLabel(names=names) if len(names) > 1 else None

    def to_dataset(paths: list[Path]) -> Dataset:
        columns = {"audio": [str(root / path) for path in paths]}
        if labels is not None:
            columns["label"] = [path.parts[depth] for path in paths]
        dataset = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
        return dataset if labels is None else dataset.cast_column("label", labels)

    return DatasetDict({name: to_dataset(paths) for name, paths in splits.items()})


def find_audio_column(dataset: Dataset | IterableDataset, column: str | None = None) -> str:
    """
    The name of the audio column: `column` if it is there, or the only one of type `Audio`.

    Raises:
        `ValueError`: if there is none, or several and no name; the message lists the columns.
    """
    features = dataset.features or {}
    if column is not None:
        if column in features or not features:
            return column
        raise ValueError(f"The data set has no column {column!r}; its columns are {sorted(features)}.")
    found = [name for name, feature in features.items() if isinstance(feature, Audio)]
    if len(found) != 1:
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        raise ValueError(f"Name the audio column: {len(found)} columns are of type Audio, of {kinds}.")
    return found[0]


@dataclass
class SegmentPair:
    """
    Two segments of one recording, each of shape `(num_samples,)`, or shorter ones of a shorter recording.

    `state` is where the reader that read it stands after it, and `skipped` what it could not read before it, as
    (name, reason).
    """

    anchor: np.ndarray
    positive: np.ndarray
    state: tuple[int, int, int]
    skipped: list[tuple[str, str]] = field(default_factory=list)


class SegmentPairs(torch.utils.data.IterableDataset):
    """
    An endless, shuffled stream of [`SegmentPair`] over a data set, for a `DataLoader` with any number of workers.

    Every rank and worker reads clips of its own. A clip that cannot be decoded is skipped and told of. For a data set
    with random access each epoch is a permutation; a stream is shuffled by shards and a buffer. The same seed gives
    the same stream, wherever it was interrupted.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            From `datasets`, with an audio column.
        num_samples (`int`):
            Length of a segment.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The rate of the segments, in hertz.
        audio_column (`str`, *optional*):
            The column to read. Defaults to the only one of type `Audio`.
        seed (`int`, *optional*, defaults to 0):
            Of the order and of the segments.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether to shuffle.
        buffer_size (`int`, *optional*, defaults to 1000):
            Clips in the shuffle buffer of a stream.
        rank, world_size (`int`, *optional*, default to 0 and 1):
            The process and how many there are.
        state (`dict[int, tuple[int, int]]`, *optional*):
            By worker, the epoch and the position in it to go on from, from `SegmentPair.state`.
        first_worker (`int`, *optional*, defaults to 0):
            The worker whose turn it is: the one after the last that gave a batch.

    Raises:
        `ValueError`: if there is no audio column, or if a whole epoch has no clip that can be read.
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        num_samples: int,
        sampling_rate: int = 16000,
        audio_column: str | None = None,
        seed: int = 0,
        shuffle: bool = True,
        buffer_size: int = 1000,
        rank: int = 0,
        world_size: int = 1,
        state: dict[int, tuple[int, int]] | None = None,
        first_worker: int = 0,
    ):
        self.audio_column = find_audio_column(dataset, audio_column)
        self.is_stream = isinstance(dataset, IterableDataset)
        dataset = dataset.select_columns([self.audio_column]).cast_column(self.audio_column, Audio(decode=False))
        if self.is_stream and shuffle:
            dataset = dataset.shuffle(seed=seed, buffer_size=buffer_size)
        self.dataset = dataset
        self.num_samples = num_samples
        self.sampling_rate = sampling_rate
        self.seed = seed
        self.shuffle = shuffle
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

    def rows(self, epoch: int) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """This reader's clips of one epoch, in order: what seeds each one's segments, and its row."""
        worker_id, num_workers = self._worker()
        reader = self.rank * num_workers + worker_id
        if self.is_stream:
            part = split_dataset_by_node(self.dataset, reader, self.world_size * num_workers)
            part.set_epoch(epoch)
            # `iter`, unlike `iter(...)`, does not split what is split already among the DataLoader's workers.
            for position, rows in enumerate(part.iter(1)):
                yield [reader, position], {self.audio_column: rows[self.audio_column][0]}
        else:
            order = np.arange(len(self.dataset))
            if self.shuffle:
                order = np.random.default_rng([self.seed, epoch]).permutation(order)
            for index in order[reader :: self.world_size * num_workers]:
                yield [int(index)], self.dataset[int(index)]

    def __iter__(self) -> Iterator[SegmentPair]:
        worker_id, _ = self._worker()
        first_epoch, first_position = self.state.get(worker_id, (0, 0))
        skipped = []
        for epoch in count(first_epoch):
            position, num_read = -1, 0
            for position, (key, row) in enumerate(self.rows(epoch)):
                if epoch == first_epoch and position < first_position:
                    num_read += 1
                    continue
                audio = row[self.audio_column]
                rng = np.random.default_rng([self.seed, epoch, *key])
                try:
                    anchor, positive = random_segments(audio, self.num_samples, rng, 2, self.sampling_rate)
                except (AudioDecodingError, FileNotFoundError) as error:
                    skipped.append(((audio or {}).get("path") or f"row {key[-1]}", str(error)))
                    continue
                num_read += 1
                yield SegmentPair(anchor, positive, (worker_id, epoch, position + 1), skipped)
                skipped = []
            if num_read == 0:
                example = f" The first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
                raise ValueError(
                    f"No clip could be read in an epoch of {position + 1} (rank {self.rank}, worker {worker_id})."
                    + example
                )


def collate_segment_pairs(pairs: list[SegmentPair]) -> dict[str, Any]:
    """
    A batch for `COLAFeatureExtractor.log_mel`: `waveforms` `[2B, num_samples]` (the anchors, then the positives, in
    the same order; zero-padded), their `lengths` `[2B]`, the reader's `state` and the clips `skipped`.
    """
    segments = [torch.from_numpy(pair.anchor) for pair in pairs] + [torch.from_numpy(pair.positive) for pair in pairs]
    return {
        "waveforms": torch.nn.utils.rnn.pad_sequence(segments, batch_first=True),
        "lengths": torch.tensor([len(segment) for segment in segments]),
        "state": pairs[-1].state,
        "skipped": [entry for pair in pairs for entry in pair.skipped],
    }
