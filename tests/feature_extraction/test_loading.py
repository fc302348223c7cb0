"""Loading of data sets: folders of audio, Parquet, WebDataset, and which column holds the audio."""

import io
import tarfile
from pathlib import Path

import pytest
from datasets import Audio, ClassLabel, Dataset, IterableDataset

from feature_extraction import find_audio_column, load_audio_dataset
from helpers import AUDIOSET, flac, numbered_clip, write_flac


# Folders of audio


def test_folder_with_labels(tmp_path):
    for name in ("cat/a.flac", "cat/deep/er/b.FLAC", "dog/c.Wav", "dog/.d.flac", ".hidden/e.flac", "dog/notes.txt"):
        write_flac(tmp_path / name, numbered_clip(1))
    data = load_audio_dataset(str(tmp_path))
    assert list(data) == ["train"]
    train = data["train"]
    assert train.features["audio"] == Audio(decode=False)
    assert train.features["label"] == ClassLabel(names=["cat", "dog"])
    assert [Path(audio["path"]).name for audio in train["audio"]] == ["a.flac", "b.FLAC", "c.Wav"]
    assert train["label"][:] == [0, 0, 1]


@pytest.mark.parametrize(
    "names", [["a.flac", "b.flac"], ["only/a.flac", "only/b.flac"], ["a.flac", "cat/b.flac", "dog/c.flac"]]
)
def test_folder_without_labels(tmp_path, names):
    for name in names:
        write_flac(tmp_path / name, numbered_clip(1))
    train = load_audio_dataset(str(tmp_path))["train"]
    assert train.column_names == ["audio"] and len(train) == len(names)


def test_folder_of_splits(tmp_path):
    for split, label in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        write_flac(tmp_path / split / label / "a.flac", numbered_clip(1))
    write_flac(tmp_path / "train" / "dog" / "b.flac", numbered_clip(1))
    data = load_audio_dataset(str(tmp_path))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 3, "test": 2}
    assert data["train"]["label"][:] == [0, 1, 1]


def test_a_label_is_the_same_number_in_every_split(tmp_path):
    for name in ("train/cat/a.flac", "train/dog/a.flac", "train/eel/a.flac", "test/dog/a.flac", "test/eel/a.flac"):
        write_flac(tmp_path / name, numbered_clip(1))
    data = load_audio_dataset(str(tmp_path))
    assert data["test"].features["label"].names == data["train"].features["label"].names


def test_relative_folder(tmp_path, monkeypatch):
    write_flac(tmp_path / "audio" / "a.flac", numbered_clip(1))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert len(load_audio_dataset("../audio")["train"]) == 1


def test_folder_inside_a_hidden_one(tmp_path):
    write_flac(tmp_path / ".cache" / "audio" / "a.flac", numbered_clip(1))
    assert len(load_audio_dataset(str(tmp_path / ".cache" / "audio"))["train"]) == 1


def test_folder_called_like_a_file_is_no_clip(tmp_path):
    write_flac(tmp_path / "a.wav" / "b.flac", numbered_clip(1))
    train = load_audio_dataset(str(tmp_path))["train"]
    assert [Path(audio["path"]).name for audio in train["audio"]] == ["b.flac"]


def test_empty_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no audio.*flac.*parquet"):
        load_audio_dataset(str(tmp_path))


# Parquet


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("pattern, expected", [("", 24), ("*.parquet", 24), ("train-00002-of-00004.parquet", 6)])
def test_parquet(parquet, pattern, expected, streaming):
    data = load_audio_dataset(str(parquet / pattern), streaming=streaming)
    train = data["train"]
    assert isinstance(train, IterableDataset if streaming else Dataset)
    assert set(train.features) == set(AUDIOSET) and isinstance(train.features["audio"], Audio)
    rows = list(train.cast_column("audio", Audio(decode=False)))
    assert len(rows) == len({row["video_id"] for row in rows}) == expected
    assert rows[0]["audio"]["bytes"] == flac(numbered_clip(int(rows[0]["video_id"])))


def test_parquet_splits(parquet, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}-00000-of-00001.parquet").write_bytes(next(parquet.iterdir()).read_bytes())
    assert set(load_audio_dataset(str(tmp_path))) == {"train", "test"}


# WebDataset


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("pattern", ["", "*.tar"])
def test_webdataset(tmp_path, pattern, streaming):
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard:03}.tar", "w") as tar:
            for i in range(shard, 8, 2):
                for name, data in ((f"{i}.flac", flac(numbered_clip(i))), (f"{i}.json", b'{"id": 1}')):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    train = load_audio_dataset(str(tmp_path / pattern), streaming=streaming)["train"]
    assert train.num_shards == 2 and find_audio_column(train) == "audio"
    rows = [row["audio"] for row in train]
    assert [row["path"] for row in rows] == [f"{i}.flac" for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert rows[1]["bytes"] == flac(numbered_clip(2))


def test_damaged_tar_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"This is no tar file." * 100)
    train = load_audio_dataset(str(tmp_path))["train"]
    with pytest.raises(ValueError, match=r"a\.tar is not a whole tar file"):
        next(iter(train))


# The audio column


def test_find_audio_column():
    one = Dataset.from_dict({"sound": ["a.wav"], "text": ["b"]}).cast_column("sound", Audio())
    assert find_audio_column(one) == "sound"
    assert find_audio_column(one.cast_column("sound", Audio(decode=False))) == "sound"
    assert find_audio_column(one.to_iterable_dataset()) == "sound"
    assert find_audio_column(one, "text") == "text"


def test_find_audio_column_errors():
    one = Dataset.from_dict({"sound": ["a.wav"], "text": ["b"]}).cast_column("sound", Audio())
    with pytest.raises(ValueError, match="no column 'noise'.*'sound', 'text'"):
        find_audio_column(one, "noise")
    with pytest.raises(ValueError, match="0 columns.*'text': 'Value'"):
        find_audio_column(one.remove_columns("sound"))
    two = one.cast_column("text", Audio())
    with pytest.raises(ValueError, match="2 columns.*'sound': 'Audio', 'text': 'Audio'"):
        find_audio_column(two)
