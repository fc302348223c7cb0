"""Loading of data sets: folders of audio, Parquet, WebDataset, and which column holds the audio."""

import gzip
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, IterableDataset, List
from huggingface_hub import HfApi

from feature_extraction import (
    CorruptShardError,
    describe_splits,
    find_audio_column,
    load_audio,
    load_audio_dataset,
    loading,
    undecoded,
)
from feature_extraction.lost_clips import is_lost
from helpers import AUDIOSET, flac, numbered_clip, write_flac, write_tar


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


# Splits


@pytest.mark.parametrize(
    "folders, expected",
    [
        (["training", "testing"], ["test", "train"]),
        (["Train", "TEST"], ["test", "train"]),
        (["train", "dev", "evaluation"], ["test", "train", "validation"]),
        (["Training", "Valid"], ["train", "validation"]),
    ],
)
def test_folders_named_like_splits(tmp_path, folders, expected):
    for folder in folders:
        for label in ("cat", "dog"):
            write_flac(tmp_path / folder / label / "a.flac", numbered_clip(1))
    data = load_audio_dataset(str(tmp_path))
    assert list(data) == expected
    assert all(rows.features["label"].names == ["cat", "dog"] and len(rows) == 2 for rows in data.values())


def test_two_folders_of_one_split(tmp_path):
    for name in ("train/a.flac", "dev/b.flac", "valid/c.flac"):
        write_flac(tmp_path / name, numbered_clip(1))
    assert {split: len(rows) for split, rows in load_audio_dataset(str(tmp_path)).items()} == {
        "train": 1,
        "validation": 2,
    }


def test_splits_beside_other_folders_are_classes_with_a_warning(tmp_path, caplog):
    for name in ("train/a.flac", "test/b.flac", "tram/c.flac"):
        write_flac(tmp_path / name, numbered_clip(1))
    assert load_audio_dataset(str(tmp_path))["train"].features["label"].names == ["test", "train", "tram"]
    assert "test, train are read as classes, not as splits" in caplog.text and "tram" in caplog.text


def test_file_beside_splits_is_left_out_with_a_warning(tmp_path, caplog):
    for name in ("train/a.flac", "test/b.flac", "stray.flac"):
        write_flac(tmp_path / name, numbered_clip(1))
    assert {split: len(rows) for split, rows in load_audio_dataset(str(tmp_path)).items()} == {"train": 1, "test": 1}
    assert "1 files beside the splits are left out, for example stray.flac" in caplog.text


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_file_beside_classes_is_warned_of(tmp_path, caplog, prefix):
    for name in ("cat/a.flac", "dog/b.flac", "stray.flac"):
        write_flac(tmp_path / prefix / name, numbered_clip(1))
    assert load_audio_dataset(str(tmp_path))["train"].column_names == ["audio"]
    assert "no clip has a label, because 1 audio files lie beside the folders of the 2 classes" in caplog.text
    assert f"for example {prefix}stray.flac" in caplog.text


def test_describe_splits(tmp_path, parquet):
    for name in ("train/cat/a.flac", "train/dog/a.flac", "train/dog/b.flac", "test/cat/a.flac"):
        write_flac(tmp_path / name, numbered_clip(1))
    classes = "2 classes (cat, dog)"
    assert describe_splits(load_audio_dataset(str(tmp_path))) == f"test: 1 clips, {classes}; train: 3 clips, {classes}"
    assert describe_splits(load_audio_dataset(str(parquet))) == "train: 24 clips, no classes"
    assert (
        describe_splits(load_audio_dataset(str(parquet), streaming=True)) == "train: a stream of 4 shards, no classes"
    )


# Folders of several kinds


@pytest.mark.parametrize("num_audio, num_tars, num_parquet", [(3, 1, 1), (1, 2, 0), (1, 0, 3), (1, 1, 1)])
def test_the_kind_of_most_files_is_read(tmp_path, parquet, caplog, num_audio, num_tars, num_parquet):
    for i in range(num_audio):
        write_flac(tmp_path / "audio" / f"{i}.flac", numbered_clip(i))
    for i in range(num_tars):
        write_tar(tmp_path / f"{i}.tar", {"a.flac": flac(numbered_clip(1))})
    for i in range(num_parquet):
        (tmp_path / f"train-{i}.parquet").write_bytes(next(parquet.iterdir()).read_bytes())
    train = load_audio_dataset(str(tmp_path))["train"]
    if num_audio == 3:
        assert len(train) == 3 and "3 audio files are read, and 1 tar files are not, for example 0.tar" in caplog.text
    elif num_parquet == 3:
        assert len(train) == 18 and "3 Parquet files are read, and 1 audio files are not" in caplog.text
    else:
        assert [row["audio"]["path"] for row in train] == ["a.flac"] * num_tars
    assert len(caplog.records) == (num_audio > 0) + (num_tars > 0) + (num_parquet > 0) - 1


def test_unsupported_audio_and_metadata_are_warned_of(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("feature_extraction.audio.has_ffmpeg", lambda: False)
    for name in ("cat/a.flac", "dog/b.flac", "dog/c.m4a", "dog/d.M4A", "dog/e.wma", "metadata.csv", "notes.txt"):
        write_flac(tmp_path / name, numbered_clip(1))
    assert len(load_audio_dataset(str(tmp_path))["train"]) == 2
    unsupported, metadata = [record.message for record in caplog.records]
    assert "Unsupported audio is left out (2 .m4a, 1 .wma; for example dog/c.m4a)" in unsupported
    assert f"The metadata are left out: {tmp_path / 'metadata.csv'} cannot be read" in metadata


def test_nothing_but_unsupported_audio(tmp_path, monkeypatch):
    monkeypatch.setattr("feature_extraction.audio.has_ffmpeg", lambda: False)
    (tmp_path / "a.m4a").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no audio.*Unsupported audio is left out \(1 .m4a"):
        load_audio_dataset(str(tmp_path))


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="file names are always Unicode")
def test_names_that_are_not_utf_8(tmp_path):
    for folder, name in ((b"caf\xe9", b"\xff.flac"), (b"dog", b"a.flac")):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + folder + b"/" + name))
        write_flac(path, numbered_clip(1))
    write_tar(tmp_path / "tar" / "a.tar", {os.fsdecode(b"\xff.flac"): flac(numbered_clip(2))})
    train = load_audio_dataset(str(tmp_path))["train"]
    assert train.features["label"].names == [r"caf\xe9", "dog"]
    assert train[0]["audio"]["path"] == str(tmp_path / r"caf\xe9" / r"\xff.flac")
    np.testing.assert_allclose(load_audio(train[0]["audio"]), numbered_clip(1), atol=1e-6)
    (row,) = load_audio_dataset(str(tmp_path / "tar"))["train"]
    assert row["audio"]["path"] == r"\xff.flac"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read every folder")
def test_forbidden_folder_is_warned_of(tmp_path, caplog):
    for name in ("cat/a.flac", "dog/b.flac"):
        write_flac(tmp_path / name, numbered_clip(1))
    (tmp_path / "dog").chmod(0)
    assert len(load_audio_dataset(str(tmp_path))["train"]) == 1
    assert "dog is left out because it cannot be read: Permission denied" in caplog.text
    (tmp_path / "dog").chmod(0o700)


# Names of nothing


@pytest.mark.parametrize(
    "name",
    [
        "./audio",
        "../audio",
        "/no/audio",
        "~/no/audio",
        "a/b/c",
        "audio/",
        "a.flac",
        "b.m4a",
        "c.zip",
        "d.tar",
        "e*.parquet",
    ],
)
def test_path_of_nothing_is_not_looked_for_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_dataset", None)
    monkeypatch.setattr(loading, "load_dataset_builder", None)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_audio_dataset(name)


@pytest.mark.parametrize("name", ["audoi", "data/audoi"])
def test_name_of_nothing_on_the_hub(monkeypatch, tmp_path, name):
    """It is told of after one question to the Hub; `load_dataset` asks it again and again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_dataset", None)
    monkeypatch.setattr(loading, "load_dataset_builder", None)
    monkeypatch.setattr(loading, "HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))  # where nobody answers
    with pytest.raises(FileNotFoundError, match=f"no folder {name}, and no data set of this name.*Connection refused"):
        load_audio_dataset(name)


def test_a_data_set_that_was_loaded_before_is_loaded_without_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "HfApi", None)
    (tmp_path / "datasets--some--one").mkdir()
    monkeypatch.setattr(loading, "load_dataset", lambda *_: {})
    assert load_audio_dataset("some/one") == {}


@pytest.mark.parametrize("name", ["", " "])
def test_empty_name(name):
    with pytest.raises(ValueError, match="--dataset_name. is empty"):
        load_audio_dataset(name)


def test_single_file(tmp_path):
    write_flac(tmp_path / "a.flac", numbered_clip(1))
    write_flac(tmp_path / "b.flac", numbered_clip(2))
    (row,) = load_audio_dataset(str(tmp_path / "a.flac"))["train"]
    assert row["audio"]["path"] == str(tmp_path / "a.flac")
    (tmp_path / "notes.doc").touch()
    with pytest.raises(ValueError, match="notes.doc is neither audio nor CSV"):
        load_audio_dataset(str(tmp_path / "notes.doc"))


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


# Parquet that names files


def parquet_of_paths(folder: Path, *paths: str | None) -> Path:
    rows = [{"bytes": None, "path": path} for path in paths] + [{"bytes": b"", "path": "../../held.flac"}, None]
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pydict({"audio": rows}, Features({"audio": Audio()}).arrow_schema)
    pq.write_table(table, folder / "train.parquet")
    return folder


@pytest.mark.parametrize("pattern", ["", "*.parquet", "train.parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_may_name_files_of_their_own_folder(tmp_path, streaming, pattern):
    folder = parquet_of_paths(tmp_path / "data", str(tmp_path / "data" / "deep" / "a.flac"), None)
    rows = load_audio_dataset(str(folder / pattern), streaming=streaming)["train"]
    assert len(list(rows.cast_column("audio", Audio(decode=False)))) == 4


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{data}/../a.flac",
        "{data}er/a.flac",
        "https://a.b/c.flac",
        "file://{data}/a.flac",
        "{data}/link/a",
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_may_name_no_other_files(tmp_path, monkeypatch, streaming, path):
    path = path.format(data=tmp_path / "data")
    folder = parquet_of_paths(tmp_path / "data", path)
    (folder / "link").symlink_to(tmp_path)
    monkeypatch.chdir(folder)

    def load(**kwargs) -> list[dict]:
        rows = load_audio_dataset(str(folder), streaming=streaming, **kwargs)["train"]
        return list(rows.cast_column("audio", Audio(decode=False)))

    with pytest.raises(
        PermissionError, match=f"{folder} has a row that names the audio file {path}, .*--allow_remote"
    ):
        load()
    assert load(allow_remote_audio=True)[0]["audio"]["path"] == path


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["text", "path", "csv", "saved", "metadata"])
def test_a_column_that_is_named_as_audio_may_name_no_other_files(tmp_path, kind, streaming):
    write_flac(tmp_path / "data" / "a.flac", numbered_clip(1))
    write_flac(tmp_path / "outside.flac", numbered_clip(2))
    inside, outside, folder = str(tmp_path / "data" / "a.flac"), str(tmp_path / "outside.flac"), tmp_path / "data"
    name = str(folder)

    def write(path: str) -> None:
        nonlocal name
        if kind in ("text", "path"):
            pq.write_table(pa.table({"other": [path if kind == "text" else {"path": path}]}), folder / "a.parquet")
            name = str(folder / "a.parquet")
        elif kind == "csv":
            (folder / "a.csv").write_text(f"path,other\na.flac,{path}\n")
            name = str(folder / "a.csv")
        elif kind == "saved":
            shutil.rmtree(folder / "saved", ignore_errors=True)
            Dataset.from_dict({"other": [path], "number": [hash(path)]}).save_to_disk(folder / "saved")
            name = str(folder / "saved")
        else:
            (folder / "metadata.csv").write_text(f"file_name,other\na.flac,{path}\n")

    def read(**kwargs) -> int:
        rows = load_audio_dataset(name, streaming=streaming, audio_column="other", **kwargs)["train"]
        assert find_audio_column(rows, "other") == "other"
        (row,) = undecoded(rows, "other")
        return int(100 * load_audio(row["other"])[0])

    write(outside)
    with pytest.raises(PermissionError, match=f"names the audio file {outside}, .*--allow_remote_audio"):
        read()
    assert read(allow_remote_audio=True) == 2
    with pytest.raises(ValueError, match="'other' is of type .*, not Audio"):
        find_audio_column(load_audio_dataset(name, streaming=streaming)["train"], "other")
    if kind != "saved":
        write(inside)
        assert read() == 1


def test_a_folder_may_have_links_to_audio_elsewhere(tmp_path):
    write_flac(tmp_path / "elsewhere.flac", numbered_clip(2))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.flac").symlink_to(tmp_path / "elsewhere.flac")
    assert len(load_audio_dataset(str(tmp_path / "data"))["train"]) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_the_hub_may_name_no_files_of_this_computer(tmp_path, monkeypatch, streaming):
    folder = parquet_of_paths(tmp_path, "hf://datasets/some/one@main/a.flac", str(tmp_path / "a.flac"))
    load, build = loading.load_dataset, loading.load_dataset_builder
    monkeypatch.setattr(loading, "load_dataset", lambda *_: load("parquet", data_dir=str(folder)))
    monkeypatch.setattr(loading, "load_dataset_builder", lambda *_: build("parquet", data_dir=str(folder)))
    monkeypatch.setattr(loading, "look_up_on_hub", lambda _: None)
    with pytest.raises(PermissionError, match=f"some/one has a row that names the audio file {tmp_path}/a.flac"):
        next(
            iter(
                load_audio_dataset("some/one", streaming=streaming)["train"].cast_column("audio", Audio(decode=False))
            )
        )
    assert load_audio_dataset("some/one", streaming=streaming, allow_remote_audio=True)["train"]


@pytest.mark.parametrize("damage", [b"", b"This is no Parquet file."])
def test_no_whole_parquet(tmp_path, damage):
    (tmp_path / "a.parquet").write_bytes(damage)
    with pytest.raises(ValueError, match="None of the 1 Parquet files can be read. The first is .*a.parquet"):
        load_audio_dataset(str(tmp_path), streaming=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_without_rows_or_with_other_types(tmp_path, streaming):
    clip = {"bytes": flac(numbered_clip(1)), "path": "a.flac"}
    empty = pa.schema({"audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.null()})
    with pq.ParquetWriter(tmp_path / "a.parquet", empty) as writer:
        writer.write_table(empty.empty_table())
    pq.write_table(pa.table({"audio": [clip], "label": pa.array([1], pa.int32())}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"audio": [clip], "label": [2]}), tmp_path / "c.parquet")
    rows = load_audio_dataset(str(tmp_path), streaming=streaming)["train"]
    assert [row["label"] for row in rows] == [1, 2]
    pq.write_table(pa.table({"audio": [clip], "label": ["dog"]}), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="d.parquet cannot be read together with .*a.parquet: .*label"):
        load_audio_dataset(str(tmp_path), streaming=streaming)


@pytest.mark.parametrize("several_labels", [False, True])
def test_parquet_of_other_classes(tmp_path, several_labels: bool):
    for name, classes in {"a": ["cat", "dog"], "b": ["dog", "eel"]}.items():
        feature, label = ClassLabel(names=classes), 1
        if several_labels:
            feature, label = List(feature), [label]
        rows = Dataset.from_dict({"text": [name], "label": [label]}).cast_column("label", feature)
        rows.to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match="b.parquet has other classes in its column label than .*a.parquet"):
        load_audio_dataset(str(tmp_path), streaming=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_column_of_arrays(tmp_path, streaming):
    pq.write_table(pa.table({"audio": [{"array": [0.1, 0.2], "sampling_rate": 16000}]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="The column audio of .* is of type struct<array.*Write decoded samples"):
        load_audio_dataset(str(tmp_path), streaming=streaming, audio_column="audio")


def lost_clips(audio: dict) -> tuple[str, int]:
    """What a row says that stands for lost clips: their name and their number."""
    with pytest.raises(CorruptShardError) as error:
        load_audio(audio)
    assert error.value.kind == "corrupt shard" and audio["path"] == error.value.path
    return error.value.path, error.value.num_clips


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_row_stands_for_the_clips_of_a_parquet_file_that_cannot_be_read(parquet, tmp_path, number, streaming):
    shutil.copytree(parquet, tmp_path / "data")
    path = tmp_path / "data" / f"train-0000{number}-of-00004.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    train = load_audio_dataset(str(tmp_path / "data"), streaming=streaming)["train"]
    rows = list(train.cast_column("audio", Audio(decode=False)))
    (lost,) = (row for row in rows if row["video_id"] is None)
    assert len(rows) == 19 and rows.index(lost) == 6 * number
    assert lost_clips(lost["audio"]) == (str(path), 6)
    with pytest.raises(CorruptShardError, match=f"{path} is not a whole Parquet file: "):
        load_audio(lost["audio"])


def test_a_stream_of_parquet_knows_its_number_of_clips(parquet):
    train = load_audio_dataset(str(parquet), streaming=True)["train"]
    assert train.info.splits["train"].num_examples == 24


# WebDataset


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("pattern", ["", "*.tar"])
def test_webdataset(tmp_path, pattern, streaming):
    for shard in range(2):
        files = {f"{i}.flac": flac(numbered_clip(i)) for i in range(shard, 8, 2)}
        write_tar(tmp_path / f"train-{shard:03}.tar", files | {"0.json": b'{"id": 1}'})
    train = load_audio_dataset(str(tmp_path / pattern), streaming=streaming)["train"]
    assert train.num_shards == 2 and find_audio_column(train) == "audio"
    rows = [row["audio"] for row in train]
    assert [row["path"] for row in rows] == [f"{i}.flac" for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert rows[1]["bytes"] == flac(numbered_clip(2))


def test_links_are_named(tmp_path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "birds").mkdir()
    (tmp_path / "clips" / "cats").mkdir(parents=True)
    first = tmp_path / "clips" / "cats" / "a.wav"
    soundfile.write(first, np.zeros(1600), 16000)
    os.link(first, first.with_name("b.wav"))
    first.with_name("c.wav").symlink_to("a.wav")
    (tmp_path / "clips" / "birds").symlink_to(tmp_path / "birds", target_is_directory=True)
    assert len(load_audio_dataset(str(tmp_path / "clips"))["train"]) == 3
    assert "birds is left out because it is a symbolic link" in caplog.text
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for name in ("a.wav", "b.wav", "c.wav"):
            tar.add(first.with_name(name), name)
    rows = list(load_audio_dataset(str(tmp_path / "clips.tar"))["train"])
    assert [is_lost(row["audio"]) for row in rows] == [False, True, True]
    assert b"c.wav" in rows[2]["audio"]["bytes"] and b"it is a link to a.wav" in rows[2]["audio"]["bytes"]


def test_a_row_stands_for_what_is_no_tar_file(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"This is no tar file." * 100)
    (row,) = load_audio_dataset(str(tmp_path))["train"]
    assert lost_clips(row["audio"]) == (str(tmp_path / "a.tar"), 1)


@pytest.mark.parametrize("compression", ["", "gz"])
@pytest.mark.parametrize("damage", ["truncated in a clip", "truncated in a header"])
def test_a_row_stands_for_the_rest_of_a_truncated_tar(tmp_path, damage, compression):
    """`tarfile` takes a truncated header for the end of the file."""
    write_tar(tmp_path / "a.tar", {f"{i}.wav": bytes(1024) for i in range(4)})
    data = (tmp_path / "a.tar").read_bytes()
    data = data[: {"truncated in a clip": 2 * 1536 + 700, "truncated in a header": 2 * 1536 + 100}[damage]]
    (tmp_path / "a.tar").write_bytes(gzip.compress(data) if compression else data)
    *rows, last = [row["audio"] for row in load_audio_dataset(str(tmp_path))["train"]]
    assert [row["path"] for row in rows] == ["0.wav", "1.wav"]
    assert lost_clips(last) == (str(tmp_path / "a.tar"), 1)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("first, num_lost", [(0, 1), (3, 1), (3, 2), (9, 1)])
def test_clips_after_a_damaged_member_of_a_tar_are_read(tmp_path, first, num_lost, format):
    """A long name has a header of its own in the last two formats; the damage is in the one after it."""
    names = [f"{'x' * 90 * (format != tarfile.USTAR_FORMAT)}{i}.wav" for i in range(10)]
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as tar:
        for i, name in enumerate(names):
            member = tarfile.TarInfo(("y" * 30 + "/") * (format != tarfile.USTAR_FORMAT) + name)
            member.size = 5000 + 300 * (i == 9)
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    with tarfile.open(tmp_path / "a.tar") as tar:
        offsets = [member.offset_data - 512 for member in tar]
    data = bytearray((tmp_path / "a.tar").read_bytes())
    for i in range(first, first + num_lost):
        data[offsets[i] + 100 : offsets[i] + 200] = b"x" * 100
    (tmp_path / "a.tar").write_bytes(data)
    rows = [row["audio"] for row in load_audio_dataset(str(tmp_path / "a.tar"))["train"]]
    lost = [row for row in rows if row["path"].startswith(str(tmp_path))]
    expected = names[:first] + names[first + num_lost :]
    assert [Path(row["path"]).name for row in rows if row not in lost] == expected
    assert len(lost) == 1 and rows.index(lost[0]) == first
    assert lost_clips(lost[0])[1] == num_lost


# The audio column


def test_find_audio_column():
    one = Dataset.from_dict({"sound": ["a.wav"], "text": ["b"]}).cast_column("sound", Audio())
    assert find_audio_column(one) == "sound"
    assert find_audio_column(one.cast_column("sound", Audio(decode=False))) == "sound"
    assert find_audio_column(one.to_iterable_dataset()) == "sound"
    with pytest.raises(ValueError, match="'text' is of type Value, not Audio"):
        find_audio_column(one, "text")


def test_find_audio_column_errors():
    one = Dataset.from_dict({"sound": ["a.wav"], "text": ["b"]}).cast_column("sound", Audio())
    with pytest.raises(ValueError, match="no column 'noise'.*'sound', 'text'"):
        find_audio_column(one, "noise")
    with pytest.raises(ValueError, match="0 columns.*'text': 'Value'"):
        find_audio_column(one.remove_columns("sound"))
    two = one.cast_column("text", Audio())
    with pytest.raises(ValueError, match="2 columns.*'sound': 'Audio', 'text': 'Audio'"):
        find_audio_column(two)
