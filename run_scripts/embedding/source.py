"""The clips of all splits of a data set, with their labels, from any position on."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict, LargeList, List

from feature_extraction import Clip, ClipReader, Position, find_audio_column
from run_scripts.common.errors import UserError


class Piece(NamedTuple):
    """
    Consecutive clips of a source, which one process reads.

    Args:
        start, end (`Position`):
            Where the piece begins, and where the next one does.
        num_clips (`int`, *optional*), first_clip (`int`, *optional*):
            How many clips it has, and the number of the first one in the source. Of a stream they are not known before
            the clips, and those before them, are read.
    """

    start: Position
    end: Position
    num_clips: int | None = None
    first_clip: int | None = None


class Source:
    """
    The clips of all splits of a data set, in a fixed order. The audio column defaults to the only one of type `Audio`,
    and the column of labels to `label`, if there is one. A split may lack it, or have classes of its own.

    Raises:
        [`UserError`]: If the column of labels is named, and no split has one of this name.
    """

    def __init__(
        self,
        splits: DatasetDict | IterableDatasetDict,
        audio_column: str | None = None,
        label_column: str | None = None,
    ):
        first = next(iter(splits.values()))
        self.audio_column = find_audio_column(first, audio_column)
        names = {name for dataset in splits.values() for name in dataset.features or {}}
        if label_column is not None and label_column not in names:
            raise UserError(
                f"--label_column {label_column}: the data set has no such column; its columns are "
                f"{', '.join(sorted(names))}."
            )
        self.label_column = label_column or ("label" if "label" in names else None)
        self.shards: list[Dataset | IterableDataset] = []
        for dataset in splits.values():
            columns = [self.audio_column] + [self.label_column] * (self.label_column in (dataset.features or {}))
            dataset = dataset.select_columns(columns)
            num_shards = dataset.num_shards if isinstance(dataset, IterableDataset) else 1
            self.shards += [dataset.shard(num_shards, index) for index in range(num_shards)]
        self.num_clips = None if isinstance(first, IterableDataset) else sum(map(len, self.shards))

    def divide(self, num_pieces: int) -> list[Piece]:
        """Divides the source into pieces of about the same size: a stream by its shards, all else by its clips."""
        size = len(self.shards) if self.num_clips is None else self.num_clips
        bounds = [size * number // num_pieces for number in range(num_pieces + 1)]
        if self.num_clips is None:
            return [Piece(Position(shard=start), Position(shard=end)) for start, end in pairwise(bounds)]
        return [Piece(self._find(start), self._find(end), end - start, start) for start, end in pairwise(bounds)]

    def _find(self, number: int) -> Position:
        """The position of the clip with this number, or the end."""
        firsts = [0, *accumulate(map(len, self.shards))]
        shard = bisect_right(firsts, number) - 1
        return Position(shard=shard, row=number - firsts[shard])

    def read(self, start: Position | None = None, end: Position | None = None) -> Iterator[Clip]:
        """
        Reads the clips, from a position on if one is given, and up to another. The shards of all splits are numbered
        as one list.
        """
        start, end = start or Position(), end or Position(shard=len(self.shards))
        for shard in range(start.shard, end.shard + (end.row > 0)):
            position = start if shard == start.shard else Position()
            for clip in ClipReader(self.shards[shard], self.audio_column).clips(position._replace(shard=0)):
                row = clip.position.row
                if (shard, row) == (end.shard, end.row):
                    return
                yield clip._replace(position=Position(shard=shard, row=row), key=(shard, row))

    def label_of(self, clip: Clip) -> str | None:
        """The label of a clip, or `None`. Several are separated by semicolons."""
        features = self.shards[clip.position.shard].features or {}
        if self.label_column not in features:
            return None
        return self._name(clip.row[self.label_column][0].as_py(), features[self.label_column])

    def _name(self, label: Any, feature: Any) -> str | None:
        if isinstance(label, list):
            inner = feature.feature if isinstance(feature, (List, LargeList)) else None
            return "; ".join(self._name(one, inner) or "" for one in label)
        if label is None or (isinstance(feature, ClassLabel) and label < 0):
            return None
        is_class = isinstance(feature, ClassLabel) and label < len(feature.names)
        return feature.names[label] if is_class else str(label)
