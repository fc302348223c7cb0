"""The clips of a data set, one after another from any place on."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict, LargeList, List

from feature_extraction import CorruptShardError, find_audio_column, undecoded


# How many rows are in memory at once.
READ_AT_ONCE = 8


class Place(NamedTuple):
    """
    A place between two clips.

    Args:
        shard (`int`, *optional*, defaults to 0):
            The number of the shard. A split that is not a stream is one shard.
        row (`int`, *optional*, defaults to 0):
            The row in the shard that is read next.
        number (`int`, *optional*, defaults to 0):
            How many clips there are before.
    """

    shard: int = 0
    row: int = 0
    number: int = 0


class Clip(NamedTuple):
    """
    A clip that is still encoded.

    Args:
        place (`Place`):
            The place after it.
        audio (`dict[str, Any]`, *optional*):
            Its `bytes` and `path`.
        label (`str`, *optional*):
            Its label. Several are separated by semicolons.
        error ([`CorruptShardError`], *optional*):
            Why the rest of the shard cannot be read; the clip stands for it.
    """

    place: Place
    audio: dict[str, Any] | None
    label: str | None = None
    error: CorruptShardError | None = None

    @property
    def path(self) -> str | None:
        """The path, which is made absolute if the audio is a local file."""
        path = (self.audio or {}).get("path")
        is_file = path is not None and self.audio.get("bytes") is None and "://" not in path
        return os.path.abspath(path) if is_file else path

    @property
    def name(self) -> str:
        """The path or, without one, the number of the clip."""
        return self.path or f"clip {self.place.number - 1}"


class Source:
    """
    The clips of all splits of a data set, in a fixed order.

    Args:
        splits (`DatasetDict` or `IterableDatasetDict`):
            The splits.
        audio_column (`str`, *optional*):
            The column of audio. Defaults to the only one of type `Audio`.
        label_column (`str`, *optional*, defaults to `"label"`):
            The column of labels, which need not exist.
    """

    def __init__(
        self,
        splits: DatasetDict | IterableDatasetDict,
        audio_column: str | None = None,
        label_column: str = "label",
    ):
        first = next(iter(splits.values()))
        self.audio_column = find_audio_column(first, audio_column)
        self.label_column = label_column if label_column in (first.features or {}) else None
        columns = [self.audio_column] + [label_column] * (self.label_column is not None)
        self.shards: list[Dataset | IterableDataset] = []
        for dataset in splits.values():
            dataset = undecoded(dataset.select_columns(columns), self.audio_column)
            num_shards = dataset.num_shards if isinstance(dataset, IterableDataset) else 1
            self.shards += [dataset.shard(num_shards, index) for index in range(num_shards)]
        self.feature = first.features[label_column] if self.label_column else None
        self.num_clips = None if isinstance(first, IterableDataset) else sum(map(len, self.shards))

    def read(self, place: Place) -> Iterator[Clip]:
        """Reads the clips from a place on."""
        number = place.number
        for shard in range(place.shard, len(self.shards)):
            skipped = place.row if shard == place.shard else 0
            row = skipped
            try:
                for audio, label in self._read_shard(self.shards[shard], skipped):
                    row, number = row + 1, number + 1
                    yield Clip(Place(shard, row, number), audio, label)
            except CorruptShardError as error:
                yield Clip(Place(shard + 1, 0, number), {"path": error.path}, error=error)

    def _read_shard(
        self, dataset: Dataset | IterableDataset, skipped: int
    ) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
        if isinstance(dataset, Dataset):
            dataset, skipped = dataset.select(range(skipped, len(dataset))), 0
        tables = dataset.with_format("arrow").iter(READ_AT_ONCE)
        rows = (row for table in tables for row in table.to_pylist())
        for row in islice(rows, skipped, None):
            yield row[self.audio_column], self._name_label(row.get(self.label_column))

    def _name_label(self, label: Any, feature: Any = None) -> str | None:
        feature = feature or self.feature
        if isinstance(label, list):
            inner = feature.feature if isinstance(feature, (List, LargeList)) else None
            return "; ".join(self._name_label(one, inner) or "" for one in label)
        if label is None or (isinstance(feature, ClassLabel) and label < 0):
            return None
        return feature.int2str(label) if isinstance(feature, ClassLabel) else str(label)
