"""Tables that name audio files, metadata of folders, and what `save_to_disk` has written."""

import json
from pathlib import Path

import pytest
from datasets import ClassLabel, DatasetDict, IterableDataset

from feature_extraction import load_audio, load_audio_dataset
from feature_extraction.tables import split_of
from helpers import flac, numbered_clip, write_flac, write_tar


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A folder with the clips 0 to 3."""
    for number in range(4):
        write_flac(tmp_path / "audio" / f"{number}.flac", numbered_clip(number))
    return tmp_path


def numbers(dataset) -> list[int]:
    return [int(100 * load_audio(row["audio"])[0]) for row in dataset]


def labels(dataset) -> list[str | None]:
    return [dataset.features["label"].names[row["label"]] for row in dataset]


CSV = "file_name,label,speaker\naudio/1.flac,dog,7\naudio/0.flac,cat,8\n"
JSON_LINES = '{"audio_filepath": "audio/1.flac", "label": "dog"}\n{"audio_filepath": "audio/0.flac", "label": "cat"}\n'


@pytest.mark.parametrize(
    "name, text",
    [
        ("list.csv", CSV),
        ("list.tsv", CSV.replace(",", "\t")),
        ("list.jsonl", JSON_LINES),
        ("manifest.json", JSON_LINES),
    ],
)
def test_tables_with_paths_and_labels(audio: Path, name: str, text: str):
    (audio / name).write_text(text)
    splits = load_audio_dataset(str(audio / name))
    assert list(splits) == ["train"]
    assert numbers(splits["train"]) == [1, 0] and labels(splits["train"]) == ["dog", "cat"]


def test_other_columns_are_kept(audio: Path):
    (audio / "list.csv").write_text(CSV)
    dataset = load_audio_dataset(str(audio / "list.csv"))["train"]
    assert dataset["speaker"][:] == [7, 8] and set(dataset.column_names) == {"audio", "label", "speaker"}


def test_splits_by_a_column_and_by_the_names_of_tables(audio: Path):
    rows = ["audio/0.flac,b,train", "audio/1.flac,a,val", "audio/2.flac,a,train"]
    (audio / "all.csv").write_text("\n".join(["path,label,split", *rows]))
    splits = load_audio_dataset(str(audio / "all.csv"))
    assert {split: numbers(rows) for split, rows in splits.items()} == {"train": [0, 2], "validation": [1]}
    assert splits["train"].features == splits["validation"].features and labels(splits["validation"]) == ["a"]
    for name, row in {"my_train.csv": rows[0], "my_test.csv": rows[1]}.items():
        (audio / name).write_text(f"path,label\n{row.rpartition(',')[0]}\n")
    splits = load_audio_dataset(str(audio / "my_*.csv"))
    assert {split: labels(rows) for split, rows in splits.items()} == {"test": ["a"], "train": ["b"]}
    assert split_of("dev-0001.tar") == "validation" and split_of("trainers.csv") is None


def test_a_plain_list_may_name_files_anywhere(audio: Path, tmp_path_factory):
    listed = tmp_path_factory.mktemp("lists") / "files.txt"
    listed.write_text(f"{audio}/audio/3.flac\n\n{audio}/audio/1.flac\n")
    assert numbers(load_audio_dataset(str(listed))["train"]) == [3, 1]


def test_tables_that_cannot_be_used(audio: Path, tmp_path_factory):
    (audio / "a.csv").write_text("name,label\nx,y\n")
    with pytest.raises(ValueError, match="a.csv has no column with the paths.*: call it file_name.*are name, label"):
        load_audio_dataset(str(audio / "a.csv"))
    (audio / "b.jsonl").write_text("[1, 2")
    with pytest.raises(ValueError, match="b.jsonl cannot be read as JSON Lines"):
        load_audio_dataset(str(audio / "b.jsonl"))
    foreign = tmp_path_factory.mktemp("lists") / "files.csv"
    foreign.write_text(f"path\n{audio}/audio/3.flac\n")
    with pytest.raises(PermissionError, match="3.flac, which is not below the data set's own folder"):
        load_audio_dataset(str(foreign))
    assert numbers(load_audio_dataset(str(foreign), allow_remote_audio=True)["train"]) == [3]


def test_labels_that_look_like_numbers_are_names(audio: Path):
    (audio / "list.csv").write_text("path,label,code,year\naudio/0.flac,001,007,1999\naudio/1.flac,1,8,2000\n")
    dataset = load_audio_dataset(str(audio / "list.csv"))["train"]
    assert dataset.features["label"].names == ["001", "1"]
    assert dataset["code"][:] == ["007", "8"] and dataset["year"][:] == [1999, 2000]
    (audio / "list.csv").write_text("path,label\naudio/0.flac,10\naudio/1.flac,9\n")
    assert load_audio_dataset(str(audio / "list.csv"))["train"].features["label"].names == ["9", "10"]


def test_empty_cells_are_no_class(audio: Path):
    (audio / "list.csv").write_text("path,label\naudio/0.flac,\naudio/1.flac,NA\naudio/2.flac,cat\n")
    dataset = load_audio_dataset(str(audio / "list.csv"))["train"]
    assert dataset.features["label"].names == ["NA", "cat"] and dataset["label"][:] == [None, 0, 1]
    (audio / "list.csv").write_text("path,label\naudio/0.flac,cat\n,dog\n")
    with pytest.raises(ValueError, match="list.csv, line 3, has no path of an audio file in its column path"):
        load_audio_dataset(str(audio / "list.csv"))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_header_with_spaces_and_byte_order_marks(audio: Path, mark: str):
    (audio / "list.csv").write_text(f"{mark} path , label\naudio/1.flac,cat\n", encoding="utf-8")
    assert labels(load_audio_dataset(str(audio / "list.csv"))["train"]) == ["cat"]
    (audio / "list.txt").write_text(f"{mark}audio/1.flac\n", encoding="utf-8")
    assert numbers(load_audio_dataset(str(audio / "list.txt"))["train"]) == [1]


def test_tables_of_different_types(audio: Path):
    (audio / "train_a.csv").write_text("path,group\naudio/0.flac,x\n")
    (audio / "train_b.csv").write_text("path,group\naudio/1.flac,2\n")
    with pytest.raises(ValueError, match="train_a.csv.*train_b.csv cannot be read together: .*group"):
        load_audio_dataset(str(audio / "train_*.csv"))


def test_a_list_is_divided_at_the_ends_of_its_lines_alone(audio: Path):
    name = "a\u2028b\x85c.flac"
    (audio / "audio" / "0.flac").rename(audio / "audio" / name)
    (audio / "list.txt").write_text(f"audio/{name}\r\naudio/1.flac\n", "utf-8", newline="")
    rows = load_audio_dataset(str(audio / "list.txt"))["train"]
    assert [Path(clip["path"]).name for clip in rows["audio"]] == [name, "1.flac"]


# Metadata


def test_metadata_that_contradict_each_other(audio: Path):
    (audio / "audio" / "metadata.csv").write_text("file_name,label\n0.flac,cat\n1.flac,cat\n")
    (audio / "audio" / "metadata.jsonl").write_text('{"file_name": "0.flac", "label": "dog"}\n')
    with pytest.raises(ValueError, match=r"metadata.jsonl and .*metadata.csv both have a row for the file .*0\.flac"):
        load_audio_dataset(str(audio / "audio"))
    (audio / "audio" / "metadata.jsonl").write_text('{"file_name": "2.flac", "label": 3}\n')
    with pytest.raises(ValueError, match="The metadata in .* cannot be read together: .*label"):
        load_audio_dataset(str(audio / "audio"))


def test_metadata_with_two_rows_for_a_file(audio: Path):
    (audio / "audio" / "metadata.csv").write_text("file_name,label\n0.flac,cat\n1.flac,cat\n0.flac,dog\n")
    with pytest.raises(ValueError, match=r"metadata.csv has 2 rows for the file .*0\.flac"):
        load_audio_dataset(str(audio))


def test_metadata_of_a_folder_of_audio(audio: Path, caplog):
    rows = ["0.flac,purr,1", "2.flac,bark,2", "9.flac,bark,3"]
    (audio / "audio" / "metadata.csv").write_text("\n".join(["file_name,label,group", *rows]))
    dataset = load_audio_dataset(str(audio))["train"]
    assert numbers(dataset) == [0, 2] and labels(dataset) == ["purr", "bark"] and dataset["group"][:] == [1, 2]
    assert "2 audio files are left out, which the metadata do not list" in caplog.text
    assert "1 files that the metadata list are not there" in caplog.text


def test_metadata_of_splits_and_without_labels(audio: Path):
    for split, number in {"train": 5, "test": 6}.items():
        for label in ("a", "b"):
            write_flac(audio / "sets" / split / label / "x.flac", numbered_clip(number))
        rows = [json.dumps({"file_name": f"{label}/x.flac", "rating": 0.5}) for label in ("a", "b")]
        (audio / "sets" / split / "metadata.jsonl").write_text("\n".join(rows))
    splits = load_audio_dataset(str(audio / "sets"))
    assert {split: numbers(rows) for split, rows in splits.items()} == {"test": [6, 6], "train": [5, 5]}
    assert labels(splits["test"]) == ["a", "b"] and splits["train"]["rating"][:] == [0.5, 0.5]


# `save_to_disk`


def test_saved_data_sets(audio: Path):
    (audio / "list.csv").write_text(CSV)
    splits = load_audio_dataset(str(audio / "list.csv"))
    for name, saved in {"audio/dict": splits, "audio/single": splits["train"]}.items():
        saved.save_to_disk(audio / name)
        loaded = load_audio_dataset(str(audio / name))
        assert isinstance(loaded, DatasetDict) and numbers(loaded["train"]) == [1, 0]
        assert labels(loaded["train"]) == ["dog", "cat"]


# Tar files


def test_tar_files_with_labels(tmp_path: Path):
    clips = [flac(numbered_clip(number)) for number in range(4)]
    first = {"a/0.flac": clips[0], "a/0.cls": b"cat\n", "a/1.cls": b"dog", "a/1.flac": clips[1]}
    second = {"2.json": b'{"label": "cat", "id": 3}', "2.flac": clips[2], "3.flac": clips[3], "3.txt": b"no label"}
    write_tar(tmp_path / "train-0.tar", first)
    write_tar(tmp_path / "train-1.tar", second)
    write_tar(tmp_path / "test-0.tar", first)
    splits = load_audio_dataset(str(tmp_path))
    assert isinstance(splits["train"], IterableDataset) and sorted(splits) == ["test", "train"]
    rows = list(splits["train"])
    assert numbers(rows) == [0, 1, 2, 3] and [row["label"] for row in rows] == ["cat", "dog", "cat", None]
    assert len(list(splits["test"])) == 2 and not isinstance(splits["test"].features["label"], ClassLabel)


def test_names_with_full_stops_in_tar_files(tmp_path: Path):
    """They are one sample, but a label belongs to the clip of its name."""
    clips = [flac(numbered_clip(number)) for number in range(4)]
    files = {"x.0.flac": clips[0], "x.0.cls": b"cat", "x.1.flac": clips[1], "x.1.cls": b"dog"}
    files |= {"y.left.flac": clips[2], "y.right.flac": clips[3], "y.json": b'{"label": "eel"}'}
    write_tar(tmp_path / "a.tar", files)
    rows = list(load_audio_dataset(str(tmp_path))["train"])
    assert numbers(rows) == [0, 1, 2, 3] and [row["label"] for row in rows] == ["cat", "dog", "eel", "eel"]


def test_a_first_clip_without_a_label_leaves_the_others_theirs(tmp_path: Path):
    files = {"0.flac": flac(numbered_clip(0)), "1.flac": flac(numbered_clip(1)), "1.cls": b"dog"}
    write_tar(tmp_path / "a.tar", files)
    assert [row["label"] for row in load_audio_dataset(str(tmp_path))["train"]] == [None, "dog"]
