"""Labelled data sets: their splits and their classes."""

from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Value

from feature_extraction import load_audio_dataset


SPLITS = {"test": (("test", "eval"), 0.2), "validation": (("validation", "valid", "val", "dev"), 0.1)}


def load_labelled(name: str) -> DatasetDict:
    """
    The splits `train` and `test` of a labelled data set.

    Raises:
        `ValueError`: if one is missing or has no labels.
    """
    splits = load_audio_dataset(name)
    for split in ("train", "test"):
        if split not in splits or not isinstance(splits[split].features.get("label"), ClassLabel):
            raise ValueError(f"{name} needs the splits train and test, each with a ClassLabel named 'label'.")
    return DatasetDict({split: splits[split] for split in ("train", "test")})


def encode_labels(dataset: DatasetDict, column: str) -> tuple[DatasetDict, list[str], bool]:
    """
    Makes labels class indices, or where they are lists, vectors of 0.0 and 1.0.

    Returns:
        The data, the names of the classes, and whether a clip may have several.

    Raises:
        `ValueError`: if there is no split `train`, no such column, or a label that is missing or not a class.
    """
    if "train" not in dataset:
        raise ValueError(f"The data set needs a split 'train'; there are {', '.join(dataset)}.")
    for split, part in dataset.items():
        if column not in part.features:
            raise ValueError(
                f"The split {split!r} has no column {column!r}; its columns are {', '.join(part.features)}: "
                "pass --label_column."
            )
    labels = {split: list(part[column]) for split, part in dataset.items()}
    feature = dataset["train"].features[column]
    missing = (None, -1) if isinstance(feature, ClassLabel) else (None,)  # -1 is how `datasets` marks unlabelled rows
    for split, values in labels.items():
        if any(label in missing for label in values):
            raise ValueError(f"The split {split!r} has clips without a label in the column {column!r}: drop them.")
    every = [label for values in labels.values() for label in values]
    if multi_label := hasattr(feature, "feature"):
        names, vectors = _to_vectors(every, feature.feature, column)
        following = iter(vectors)
        encoded = {split: [next(following) for _ in values] for split, values in labels.items()}
    elif isinstance(feature, ClassLabel):
        if any(part.features[column] != feature for part in dataset.values()):
            raise ValueError(f"The splits have other classes in the column {column!r}: cast all to those of 'train'.")
        names, encoded = feature.names, None
    elif all(isinstance(label, (str, int)) for label in every):
        classes = sorted(set(every))
        names = [str(name) for name in classes]
        number = {name: i for i, name in enumerate(classes)}
        encoded = {split: [number[value] for value in values] for split, values in labels.items()}
    else:
        raise ValueError(
            f"The column {column!r} is of type {feature}: labels are classes, names or integers, or lists of these."
        )
    if len(names) < 2 and not multi_label:
        raise ValueError(f"The column {column!r} has one class, {names}: there is nothing to tell apart.")
    if encoded is not None:
        # Not `map`, which would copy the audio too.
        kind = {} if multi_label else {"feature": ClassLabel(names=names)}
        dataset = DatasetDict(
            {
                split: part.remove_columns(column).add_column(column, encoded[split], **kind)
                for split, part in dataset.items()
            }
        )
    return dataset, names, multi_label


def _to_vectors(labels: list[list], feature: Any, column: str) -> tuple[list[str], list[list[float]]]:
    """The names of the classes, and a vector of 0.0 and 1.0 for each list of classes."""
    if not isinstance(feature, ClassLabel) and feature != Value("string"):
        length = len(labels[0])
        if any(len(label) != length or not set(label) <= {0, 1} for label in labels):
            raise ValueError(
                f"The lists in the column {column!r} are of {feature}, but not all 0 and 1 and of one length: cast "
                "them to a list of ClassLabel."
            )
        return [str(i) for i in range(length)], [[float(value) for value in label] for label in labels]
    if isinstance(feature, ClassLabel):
        names, classes = feature.names, range(feature.num_classes)
    else:
        names = classes = sorted({name for label in labels for name in label})
    return names, [[float(name in label) for name in classes] for label in labels]


def split_dataset(dataset: DatasetDict, label_column: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """
    Training, validation and test clips; what is missing is held out of the training clips, class by class.

    Raises:
        `ValueError`: if there are too few clips of a class to hold any out.
    """
    splits = dict(dataset)
    for name, (names, share) in SPLITS.items():
        found = [splits[candidate] for candidate in names if candidate in splits]
        if found:
            splits[name] = found[0]
            continue
        classes = splits["train"].features[label_column]
        if isinstance(classes, ClassLabel):
            stratify, least = label_column, classes.num_classes
        else:
            stratify, least = None, 1
        # As many as there are classes, or scikit-learn could not have one of each.
        count = max(round(share * len(splits["train"])), least)
        try:
            halves = splits["train"].train_test_split(count, seed=seed, stratify_by_column=stratify)
        except ValueError as error:
            raise ValueError(f"There is no split '{name}', and none could be held out of 'train': {error}") from error
        splits["train"], splits[name] = halves["train"], halves["test"]
    return splits["train"], splits["validation"], splits["test"]
