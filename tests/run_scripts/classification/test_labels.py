"""Encoding labels and splitting labelled data sets."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, List, Value

from helpers import write_tar
from run_scripts.classification import labels
from run_scripts.classification.labels import encode_labels, load_rows, split_dataset


def clips(counts: dict[str, int]) -> Dataset:
    labels = [name for name, count in counts.items() for _ in range(count)]
    rows = {"audio": [f"{i}.wav" for i in range(len(labels))], "label": labels}
    return Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))


def labelled(labels: list, feature: Any) -> DatasetDict:
    features = Features({"label": feature, "clip": Value("int64")})
    rows = {"label": labels, "clip": list(range(len(labels)))}
    return DatasetDict({"train": Dataset.from_dict(rows, features=features)})


def test_missing_splits_are_held_out_by_class_without_overlap():
    dataset, names, multi_label = encode_labels(DatasetDict({"train": clips({"a": 50, "b": 50})}), "label")
    train, validation, test = split_dataset(dataset, "label", 0)
    assert (len(train), len(validation), len(test)) == (72, 8, 20)
    assert isinstance(train.features["label"], ClassLabel) and names == ["a", "b"] and not multi_label
    for split in (validation, test):
        assert np.bincount(split["label"]).tolist() == [len(split) // 2] * 2
    paths = [audio["path"] for split in (train, validation, test) for audio in split["audio"]]
    assert len(set(paths)) == 100


def test_few_clips_of_many_classes_are_split_too():
    dataset = DatasetDict({"train": clips(dict.fromkeys("abcdefghij", 4)), "test": clips({"a": 1})})
    dataset, _, _ = encode_labels(dataset, "label")
    assert [len(split) for split in split_dataset(dataset, "label", 0)] == [30, 10, 1]


def test_splits_that_are_there_are_used():
    given = DatasetDict({name: clips({"a": n, "b": n}) for name, n in (("train", 9), ("valid", 3), ("test", 4))})
    assert [len(split) for split in split_dataset(encode_labels(given, "label")[0], "label", 0)] == [18, 6, 8]


def test_classes_are_those_of_all_splits():
    dataset, names, _ = encode_labels(
        DatasetDict({"train": clips({"b": 2, "c": 1}), "test": clips({"a": 1})}), "label"
    )
    assert names == ["a", "b", "c"]
    assert dataset["train"]["label"][:] == [1, 1, 2] and dataset["test"]["label"][:] == [0]
    dataset, names, _ = encode_labels(labelled([10, 9, 10], Value("int64")), "label")
    assert names == ["9", "10"] and dataset["train"]["label"][:] == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "feature", "names"),
    [
        ([[0], [1, 0], []], List(ClassLabel(names=["dog", "rain"])), ["dog", "rain"]),
        ([["dog"], ["rain", "dog"], []], List(Value("string")), ["dog", "rain"]),
        ([[1, 0], [1, 1], [0, 0]], List(Value("int64")), ["0", "1"]),
        ([[True, False], [True, True], [False, False]], List(Value("bool")), ["0", "1"]),
    ],
)
def test_lists_of_labels_become_vectors(labels: list, feature: Any, names: list[str]):
    dataset, found, multi_label = encode_labels(labelled(labels, feature), "label")
    assert multi_label and found == names
    assert dataset["train"]["label"][:] == [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("labels", "feature", "message"),
    [
        (["a", None], Value("string"), "'train' has clips without a label"),
        ([0, -1], ClassLabel(names=["a", "b"]), "'train' has clips without a label"),
        ([0.5, 1.5], Value("float32"), "of type Value.*labels are classes"),
        (["a", "a"], Value("string"), "has a single class"),
        ([[0, 1], [2, 0]], List(Value("int64")), "not all 0 and 1 and of one length"),
        ([[0, 1], [1]], List(Value("int64")), "not all 0 and 1 and of one length"),
        ([["a"], ["b", None]], List(Value("string")), "'train' has clips without a label"),
        ([[0], [1, -1]], List(ClassLabel(names=["a", "b"])), "'train' has clips without a label"),
        ([[], []], List(Value("string")), "are all empty"),
    ],
)
def test_bad_labels_are_named(labels: list, feature: Any, message: str):
    with pytest.raises(ValueError, match=message):
        encode_labels(labelled(labels, feature), "label")


@pytest.mark.parametrize(
    ("dataset", "column", "message"),
    [
        ({"test": clips({"a": 2})}, "label", "needs a split 'train'"),
        ({"train": clips({"a": 9})}, "species", "no column 'species'"),
        ({"train": clips({"a": 9, "b": 1})}, "label", "no split 'test'"),
    ],
)
def test_bad_data_is_named(dataset: dict, column: str, message: str):
    with pytest.raises(ValueError, match=message):
        split_dataset(encode_labels(DatasetDict(dataset), column)[0], column, 0)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (ClassLabel(names=["a", "b"]), ClassLabel(names=["b", "a"])),
        (Value("int64"), ClassLabel(names=["b", "a"])),
        (Value("int64"), Value("string")),
    ],
)
@pytest.mark.parametrize("several_labels", [False, True])
def test_splits_of_other_classes_are_named(train: Any, test: Any, several_labels: bool):
    labels = [[0], [1]] if several_labels else [0, 1]
    splits = {"train": train, "test": test}
    dataset = DatasetDict(
        {split: labelled(labels, List(of) if several_labels else of)["train"] for split, of in splits.items()}
    )
    with pytest.raises(ValueError, match="The split 'test' has other classes in the column 'label'"):
        encode_labels(dataset, "label")


def test_numbers_and_names_of_another_width_are_alike():
    for train, test, values in (("int64", "int32", [0, 1]), ("string", "large_string", ["a", "b"])):
        dataset = DatasetDict(
            train=labelled(values, Value(train))["train"], test=labelled(values, Value(test))["train"]
        )
        assert encode_labels(dataset, "label")[0]["test"]["label"][:] == [0, 1]


def test_a_task_of_the_benchmark_has_the_same_classes_in_both_splits(monkeypatch: pytest.MonkeyPatch):
    splits = {"train": ["a", "b"], "test": ["b", "a"]}
    dataset = {split: labelled([0, 1], ClassLabel(names=names))["train"] for split, names in splits.items()}
    monkeypatch.setattr(labels, "load_rows", lambda name: dataset)
    with pytest.raises(ValueError, match="The split 'test' has other classes in the column 'label'"):
        labels.load_labelled("pets")


@pytest.mark.parametrize("several_labels", [False, True])
def test_groups_are_not_divided_when_clips_are_held_out(several_labels: bool):
    labels = [[i // 4 % 2] if several_labels else i // 4 % 2 for i in range(240)]
    feature = List(ClassLabel(names=["a", "b"])) if several_labels else ClassLabel(names=["a", "b"])
    clips = labelled(labels, feature)
    clips["train"] = clips["train"].add_column("group", [f"speaker{i // 4}" for i in range(240)])
    splits = split_dataset(encode_labels(clips, "label")[0], "label", 0)
    assert [len(split) for split in splits] == [172, 20, 48]
    groups = [set(split["group"]) for split in splits]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    if not several_labels:
        assert np.bincount(splits[2]["label"]).tolist() == [24, 24]

    one = DatasetDict({"train": clips["train"].remove_columns("group").add_column("group", ["x"] * 240)})
    with pytest.raises(ValueError, match="none could be held out of 'train': all clips have the same value"):
        split_dataset(encode_labels(one, "label")[0], "label", 0)


def test_groups_of_classes_with_few_clips_are_held_out_too():
    clips = labelled([i % 10 for i in range(70)], ClassLabel(names=list("abcdefghij")))
    clips["train"] = clips["train"].add_column("group", [f"file{i}" for i in range(70)])
    clips["test"] = clips["train"]
    train, validation, _ = split_dataset(encode_labels(clips, "label")[0], "label", 0)
    assert np.bincount(train["label"]).tolist() == [6] * 10 and np.bincount(validation["label"]).tolist() == [1] * 10


def test_tar_files_are_copied_with_their_labels_as_classes(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    members = {"0.wav": b"one", "0.cls": b"dog", "1.wav": b"two", "1.cls": b"cat"}
    write_tar(tmp_path / "train-0.tar", members)
    clips = load_rows(str(tmp_path / "train-0.tar"))["train"]
    assert clips.features["label"] == ClassLabel(names=["cat", "dog"]) and clips["label"][:] == [1, 0]
    write_tar(tmp_path / "train-0.tar", members | {"2.wav": b"three", "2.cls": b"cow"})
    assert len(load_rows(str(tmp_path / "train-0.tar"))["train"]) == 3


def test_labels_that_are_no_classes():
    """`datasets` does not check the numbers of classes in Parquet files."""
    features = Features({"label": ClassLabel(names=["a", "b"])})
    outside = Dataset(pa.table({"label": [0, 1, 5]}).replace_schema_metadata(features.arrow_schema.metadata))
    with pytest.raises(ValueError, match="'train' has the label 5 in the column 'label', which has 2 classes"):
        encode_labels(DatasetDict(train=outside), "label")
    structs = Dataset.from_dict({"label": [{"x": 1}, {"x": 2}]})
    with pytest.raises(ValueError, match="The column 'label' is of type .*: labels are classes, names or integers"):
        encode_labels(DatasetDict(train=structs), "label")
