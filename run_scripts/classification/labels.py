"""Labelled data sets: encoding their labels as classes, and splitting them."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, LargeList, List, Value
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from feature_extraction import find_audio_column, load_audio_dataset
from feature_extraction.tables import encode_classes
from run_scripts.common.errors import UserError


# The names under which each split is looked for, and the share of the training clips that is held out without it.
SPLIT_NAMES = {"test": ("test", "eval"), "validation": ("validation", "valid", "val", "dev")}
HELD_OUT_SHARES = {"test": 0.2, "validation": 0.1}


def load_rows(
    name: str, config_name: str | None = None, allow_remote_audio: bool = False, audio_column: str | None = None
) -> DatasetDict:
    """
    Loads the splits of a data set for training, which draws clips in any order. Tar files, which are read as streams,
    are copied to the cache of `datasets`, with their labels as classes. The arguments are those of
    [`load_audio_dataset`].
    """
    splits = load_audio_dataset(name, config_name, allow_remote_audio=allow_remote_audio, audio_column=audio_column)
    if isinstance(splits, DatasetDict):
        return splits
    return encode_classes(
        DatasetDict(
            {
                split: Dataset.from_generator(_read, stream.features, gen_kwargs={"stream": stream})
                for split, stream in splits.items()
            }
        )
    )


def _read(stream: IterableDataset) -> Iterator[dict[str, Any]]:
    yield from stream


def load_labelled(name: str) -> DatasetDict:
    """
    Loads the splits `train` and `test` of a data set that has one label per clip, in the column `label`. It is a
    [`UserError`] if a split is missing or its labels are not a `ClassLabel`, with the same classes in both.
    """
    splits = load_rows(name)
    for split in ("train", "test"):
        if split not in splits or not isinstance(splits[split].features.get("label"), ClassLabel):
            raise UserError(f"{name} needs the splits train and test, each with a ClassLabel column named 'label'.")
    _check_types(splits, "label")
    return DatasetDict({split: splits[split] for split in ("train", "test")})


@dataclass(frozen=True)
class LabelledClips:
    """
    The splits of a labelled data set, with encoded labels, ready to train a classifier on: the names of its classes,
    whether a clip may have several labels, and whether the validation clips are a split of the data set or were held
    out of the training clips.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    audio_column: str
    label_column: str
    classes: list[str]
    multi_label: bool
    has_validation_split: bool


def prepare_clips(
    dataset: DatasetDict, label_column: str, seed: int, audio_column: str | None = None
) -> LabelledClips:
    """
    Encodes the labels of a data set, which has a split `train`, and splits it into training, validation and test
    clips. The seed is that by which splits that are missing are held out of the training clips.

    Raises:
        `ValueError`: If a column is missing, or the labels cannot be encoded or split.
    """
    dataset, classes, multi_label = encode_labels(dataset, label_column)
    train, validation, test = split_dataset(dataset, label_column, seed)
    return LabelledClips(
        train=train,
        validation=validation,
        test=test,
        audio_column=find_audio_column(train, audio_column),
        label_column=label_column,
        classes=classes,
        multi_label=multi_label,
        has_validation_split=find_split(dataset, "validation") is not None,
    )


def encode_labels(dataset: DatasetDict, column: str) -> tuple[DatasetDict, list[str], bool]:
    """
    Encodes labels as class indices or, if they are lists, as vectors of 0.0 and 1.0.

    Args:
        dataset (`DatasetDict`):
            The splits, `train` among them. The type of this split's labels decides how all are encoded.
        column (`str`):
            The column of labels: classes, names or integers, or lists of these.

    Returns:
        `tuple[DatasetDict, list[str], bool]`: The data set with encoded labels, the names of the classes, and whether
        a clip may have several labels.

    Raises:
        `ValueError`: If the split `train` or the column is missing, if a label is missing or none of its classes, if
            the splits have other classes or types of labels, or if these are not of a type that can be encoded.
    """
    if "train" not in dataset:
        raise UserError(f"The data set needs a split 'train'; it has {', '.join(dataset)}.")
    labels = {split: _read_labels(clips, column, split) for split, clips in dataset.items()}
    _check_types(dataset, column)
    feature = dataset["train"].features[column]
    multi_label = isinstance(feature, (List, LargeList))
    if multi_label:
        vectors, names = _encode_lists(labels, feature.feature, column)
        dataset = _replace_column(dataset, column, vectors)
    elif isinstance(feature, ClassLabel):
        names = feature.names
    else:
        indices, names = _encode_values(labels, feature, column)
        dataset = _replace_column(dataset, column, indices, ClassLabel(names=names))
    if not names:
        raise UserError(f"The lists in the column {column!r} are all empty: a classifier needs labels.")
    if len(names) < 2 and not multi_label:
        raise UserError(f"The column {column!r} has a single class, {names}: a classifier needs at least two.")
    return dataset, names, multi_label


def _read_labels(clips: Dataset, column: str, split: str) -> list[Any]:
    if column not in clips.features:
        raise UserError(
            f"The split {split!r} has no column {column!r}; its columns are {', '.join(clips.features)}: pass "
            "--label_column."
        )
    labels, feature = list(clips[column]), clips.features[column]
    values = labels
    if isinstance(feature, (List, LargeList)):
        feature = feature.feature
        values = [value for label in labels for value in ([None] if label is None else label)]
    # `datasets` marks unlabelled rows of a ClassLabel with -1.
    missing = (None, -1) if isinstance(feature, ClassLabel) else (None,)
    if any(value in missing for value in values):
        raise UserError(f"The split {split!r} has clips without a label in the column {column!r}: drop them.")
    if isinstance(feature, ClassLabel) and (unknown := set(values) - set(range(feature.num_classes))):
        raise UserError(
            f"The split {split!r} has the label {min(unknown)} in the column {column!r}, which has "
            f"{feature.num_classes} classes, numbered from 0."
        )
    return labels


def _check_types(dataset: DatasetDict, column: str) -> None:
    """Checks that the labels of all splits are of one type, with the same classes if they are classes."""
    expected = _type_of(dataset["train"].features[column])
    for split, clips in dataset.items():
        if _type_of(clips.features[column]) != expected:
            raise UserError(
                f"The split {split!r} has other classes in the column {column!r} than 'train', or another type of "
                "labels: cast them to those of 'train'."
            )


def _type_of(feature: Any) -> Any:
    """What has to be alike in labels that are encoded together: that they are lists, the classes, names or numbers."""
    if isinstance(feature, (List, LargeList)):
        return [_type_of(feature.feature)]
    if isinstance(feature, ClassLabel):
        return feature.names
    return "names" if _is_text(feature) else "numbers"


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _encode_values(labels: dict[str, list], feature: Any, column: str) -> tuple[dict[str, list[int]], list[str]]:
    """Encodes names or integers as indices into their sorted values; returns the indices and the classes' names."""
    if not all(isinstance(label, (str, int)) for split_labels in labels.values() for label in split_labels):
        raise UserError(
            f"The column {column!r} is of type {feature}: labels are classes, names or integers, or lists of these."
        )
    classes = sorted({label for split_labels in labels.values() for label in split_labels})
    index = {value: i for i, value in enumerate(classes)}
    indices = {split: [index[label] for label in split_labels] for split, split_labels in labels.items()}
    return indices, [str(value) for value in classes]


def _encode_lists(labels: dict[str, list], feature: Any, column: str) -> tuple[dict[str, list], list[str]]:
    """Encodes lists of labels, whose items are of type `feature`, as vectors of 0.0 and 1.0, one for each class."""
    if isinstance(feature, ClassLabel):
        names, classes = feature.names, range(feature.num_classes)
    elif _is_text(feature):
        names = classes = sorted({name for lists in labels.values() for label in lists for name in label})
    else:
        return _check_vectors(labels, feature, column)
    vectors = {
        split: [[float(name in label) for name in classes] for label in split_labels]
        for split, split_labels in labels.items()
    }
    return vectors, names


def _check_vectors(labels: dict[str, list], feature: Any, column: str) -> tuple[dict[str, list], list[str]]:
    """Converts labels that are vectors of 0 and 1 already to floats; the names of their classes are positions."""
    lengths = {len(label) for split_labels in labels.values() for label in split_labels}
    values = {value for split_labels in labels.values() for label in split_labels for value in label}
    if len(lengths) != 1 or not values <= {0, 1}:
        raise UserError(
            f"The lists of {feature} in the column {column!r} are not all 0 and 1 and of one length: cast them to a "
            "list of ClassLabel."
        )
    vectors = {split: [[float(value) for value in label] for label in lists] for split, lists in labels.items()}
    return vectors, [str(i) for i in range(lengths.pop())]


def _replace_column(
    dataset: DatasetDict, column: str, values: dict[str, list], feature: ClassLabel | None = None
) -> DatasetDict:
    # `Dataset.map` would copy the audio too.
    return DatasetDict(
        {
            split: clips.remove_columns(column).add_column(column, values[split], feature=feature)
            for split, clips in dataset.items()
        }
    )


def find_split(dataset: DatasetDict, split: str) -> Dataset | None:
    """Finds the split `test` or `validation` under one of its usual names; `None` if the data set has no such one."""
    return next((dataset[name] for name in SPLIT_NAMES[split] if name in dataset), None)


def split_dataset(dataset: DatasetDict, label_column: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """
    Returns the training, validation and test clips of a data set whose labels are encoded.

    A test or validation split that is missing is held out of the training clips, with the same share of each class.
    Clips with the same value in a column `group`, if there is one (a speaker, a recording), stay together. It is a
    [`UserError`] if a class has too few clips, or the column `group` too few groups, to hold any out.
    """
    train, splits = dataset["train"], {}
    for split, share in HELD_OUT_SHARES.items():
        splits[split] = find_split(dataset, split)
        if splits[split] is None:
            try:
                train, splits[split] = _hold_out(train, share, label_column, seed)
            except ValueError as error:
                message = f"There is no split '{split}', and none could be held out of 'train': {error}"
                raise UserError(message) from error
    return train, splits["validation"], splits["test"]


def _hold_out(clips: Dataset, share: float, label_column: str, seed: int) -> tuple[Dataset, Dataset]:
    """Divides clips into those that remain and a share that is held out, stratified if there is one label per clip."""
    if "group" in clips.column_names:
        return _hold_out_groups(clips, share, label_column, seed)
    count, stratify_by = round(share * len(clips)), None
    classes = clips.features[label_column]
    if isinstance(classes, ClassLabel):
        # scikit-learn cannot stratify fewer clips than there are classes.
        count, stratify_by = max(count, classes.num_classes), label_column
    # Of the clips themselves, the indices would be written beside the data, which is the user's.
    rows = Dataset.from_dict({"row": range(len(clips)), label_column: clips[label_column]})
    parts = rows.cast_column(label_column, classes).train_test_split(
        max(count, 1), seed=seed, stratify_by_column=stratify_by
    )
    return clips.select(parts["train"]["row"]), clips.select(parts["test"]["row"])


def _hold_out_groups(clips: Dataset, share: float, label_column: str, seed: int) -> tuple[Dataset, Dataset]:
    """Divides clips as [`_hold_out`] does, so that no group is in both parts."""
    groups = [str(group) for group in clips["group"]]
    folds = min(round(1 / share), len(set(groups)))
    if folds < 2:
        raise UserError("all clips have the same value in the column 'group'.")
    if isinstance(clips.features[label_column], ClassLabel):
        labels = np.array(clips[label_column])
        folds = min(folds, max(2, np.bincount(labels).max()))  # or scikit-learn refuses to stratify
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    else:
        splitter, labels = GroupKFold(folds, shuffle=True, random_state=seed), None
    # scikit-learn warns of classes with fewer clips than folds, but only one fold is used here.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        remaining, held_out = next(splitter.split(np.zeros(len(clips)), labels, groups))
    return clips.select(remaining), clips.select(held_out)
