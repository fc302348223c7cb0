"""run_embedding.py: what it writes, what it skips, how it goes on, and what it finds."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset

from feature_extraction import COLAFeatureExtractor
from helpers import audio_dataset, encode, write_tones
from model_helpers import build
from run_scripts import run_embedding
from run_scripts.common.errors import UserError
from run_scripts.common.skipped import read_notes
from run_scripts.embedding import embed, search
from run_scripts.embedding.encode import embed_files
from run_scripts.embedding.parts import PartWriter, find_parts
from run_scripts.embedding.search import Index, embed_query, parse_query


def run(output_dir: Path, *more) -> dict:
    return run_embedding.main(["--output_dir", str(output_dir), *map(str, more)])


def rows(folder: Path) -> Dataset:
    files = [str(part) for part in find_parts(folder)]
    return load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))["train"].with_format("numpy")


def paths(tones: Path) -> list[str]:
    return sorted(str(path) for path in tones.rglob("*.wav"))


# What it writes


def test_each_clip_has_a_row(tones: Path, embedded: Path, encoder):
    table = rows(embedded)
    assert table.column_names == ["clip", "path", "seconds", "label", "vector"]
    assert list(table["path"]) == paths(tones) and list(table["clip"]) == list(range(48))
    assert list(table["label"]) == [Path(path).parent.name for path in paths(tones)]
    assert set(table["seconds"]) == {2.0}
    np.testing.assert_allclose(table["vector"], embed_files(*encoder, paths(tones)), atol=1e-5)


def test_each_window_has_a_row_with_its_time(tones: Path, tmp_path: Path, encoder):
    run(tmp_path, "--dataset_name", tones, "--windows")
    table = rows(tmp_path)
    assert table.column_names == ["clip", "path", "seconds", "label", "time", "vector"]
    np.testing.assert_allclose(table["time"], [0.0, 0.96] * 48)
    first = embed_files(*encoder, paths(tones)[:1], windows=True)[0]
    np.testing.assert_allclose(table["vector"][:2], first, atol=1e-5)
    query = f"{paths(tones)[5]}@1.5"
    (best, *_) = run(tmp_path, "--query", query)[query]
    assert (best["path"], best["time"]) == (paths(tones)[5], pytest.approx(0.96))
    assert best["similarity"] == pytest.approx(1, abs=1e-4)


def test_the_start_of_a_window_names_it(tmp_path: Path, encoder):
    """Even where rounding makes it a little less than a whole number of windows."""
    path = tmp_path / "long.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16000 * 66), 16000)
    (windows,) = embed_files(*encoder, [str(path)], windows=True)
    assert 64.32 * 16000 / 15360 < 67
    np.testing.assert_allclose(embed_query(*encoder, f"{path}@64.32"), windows[67], atol=1e-5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, tones: Path) -> Path:
    """Two Parquet files of the splits train and test, with audio in them, two clips without a name and no labels."""
    folder = tmp_path_factory.mktemp("shards")
    clips = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in paths(tones)]
    for name, part in {"train-0": clips[:6], "train-1": clips[6:9], "test": clips[16:20]}.items():
        part = [part[0] | {"path": None}, *part[1:]]
        audio_dataset(part).to_parquet(folder / f"{name}.parquet")
    return folder


def test_all_splits_of_parquet_are_embedded_and_a_stream_gives_the_same(shards, tmp_path, encoder, tones):
    run(tmp_path / "rows", "--dataset_name", shards)
    run(tmp_path / "stream", "--dataset_name", shards, "--streaming")
    table, stream = rows(tmp_path / "rows"), rows(tmp_path / "stream")
    assert table["path"][0] is None and table["path"][1] == "1.wav" and len(table) == 13
    assert "label" not in table.column_names
    np.testing.assert_array_equal(table["vector"], stream["vector"])
    expected = embed_files(*encoder, [*paths(tones)[16:20], *paths(tones)[:9]])
    by_split = np.concatenate([table["vector"][9:], table["vector"][:9]])
    np.testing.assert_allclose(by_split, expected, atol=1e-5)
    run(tmp_path / "test", "--dataset_name", shards, "--dataset_split", "test")
    assert len(rows(tmp_path / "test")) == 4


# What it skips


def test_bad_clips_are_listed_and_skipped(tmp_path: Path):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 900.0}, 3, seconds=0.3)
    (data / "a" / "1.wav").write_text("no audio")
    (data / "b" / "0.wav").write_bytes(b"")
    run(tmp_path / "out", "--dataset_name", data)
    assert [Path(path).stem for path in rows(tmp_path / "out")["path"]] == ["0", "2", "1", "2"]
    assert list(rows(tmp_path / "out")["clip"]) == [0, 2, 4, 5]
    notes = read_notes(tmp_path / "out" / "skipped.tsv")
    assert [(note.kind, Path(note.name).name) for note in notes] == [("damaged", "1.wav"), ("empty", "0.wav")]


def test_a_corrupt_shard_is_skipped(shards: Path, tmp_path: Path):
    data = Path(shutil.copytree(shards, tmp_path / "data"))
    whole = (data / "train-0.parquet").read_bytes()
    (data / "train-0.parquet").write_bytes(whole[: len(whole) // 2])
    run(tmp_path / "out", "--dataset_name", data, "--streaming")
    assert len(rows(tmp_path / "out")) == 7
    (note,) = read_notes(tmp_path / "out" / "skipped.tsv")
    assert note.kind == "corrupt shard" and note.name.endswith("train-0.parquet")


def test_clips_of_which_none_can_be_used_are_an_error(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").write_text("no audio")
    for _ in range(2):  # the second time, when all is done, too
        with pytest.raises(ValueError, match="No clip could be used: .*skipped.tsv lists the reasons"):
            run(tmp_path / "out", "--dataset_name", tmp_path / "data")
    assert (tmp_path / "out" / "skipped.tsv").exists()


def test_no_list_is_named_where_there_is_none(tmp_path: Path):
    (tmp_path / "data").mkdir()
    audio_dataset([]).to_parquet(tmp_path / "data" / "train.parquet")
    with pytest.raises(ValueError, match="There are no clips: the data set has no rows"):
        run(tmp_path / "out", "--dataset_name", tmp_path / "data", "--streaming")


# How it goes on


@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_that_was_killed_goes_on(shards: Path, tmp_path: Path, monkeypatch, streaming: bool):
    """A part for each clip, and a kill while the eighth is written."""
    more = ["--dataset_name", shards, *["--streaming"] * streaming]
    run(tmp_path / "whole", *more)
    monkeypatch.setattr(embed, "PART_SECONDS", 0)
    close, closed = PartWriter.close, []

    def killed(writer, *args):
        if len(closed) == 7:
            raise KeyboardInterrupt
        close(writer, *args)
        closed.append(writer)

    monkeypatch.setattr(PartWriter, "close", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", *more)
    assert len(find_parts(tmp_path / "out")) == 7
    before = [part.stat().st_mtime_ns for part in find_parts(tmp_path / "out")]
    monkeypatch.setattr(PartWriter, "close", close)
    run(tmp_path / "out", *more)
    assert [part.stat().st_mtime_ns for part in find_parts(tmp_path / "out")[:7]] == before
    whole, resumed = rows(tmp_path / "whole"), rows(tmp_path / "out")
    np.testing.assert_allclose(resumed["vector"], whole["vector"], atol=1e-5)
    assert resumed.remove_columns("vector").to_list() == whole.remove_columns("vector").to_list()
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_other_settings_are_refused_by_name(tones: Path, embedded: Path, tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match="other settings: windows was False and is now True"):
        run(embedded, "--dataset_name", tones, "--windows")
    monkeypatch.setattr(embed, "embed_clips", None)
    run(embedded, "--dataset_name", tones)  # which is complete
    (tmp_path / "part-00000.parquet").touch()
    with pytest.raises(ValueError, match="Parquet files that no earlier run wrote"):
        run(tmp_path, "--dataset_name", tones)


def remove(data: Path) -> None:
    (data / "b" / "2.wav").unlink()


def rename(data: Path) -> None:
    (data / "b" / "2.wav").rename(data / "b" / "3.wav")


def replace(data: Path) -> None:
    os.utime(shutil.copy(data / "a" / "0.wav", data / "b" / "2.wav"), (0, 0))


def add(data: Path) -> None:
    shutil.copy(data / "a" / "0.wav", data / "b" / "3.wav")


def replace_shard(data: Path) -> None:
    path = next(data.glob("*.parquet"))
    os.utime(path, (0, 0))


@pytest.mark.parametrize("change", [remove, rename, replace, add, replace_shard])
@pytest.mark.parametrize("is_complete", [True, False])
def test_other_files_are_refused(tmp_path: Path, shards: Path, change: Callable, is_complete: bool):
    if change is replace_shard:
        data, more = Path(shutil.copytree(shards, tmp_path / "data")), ["--streaming"]
        out = tmp_path / "vectors"
    else:
        data, more = write_tones(tmp_path / "data", {"a": 200.0, "b": 900.0}, 3, seconds=0.3), []
        out = data / "vectors"  # which is not part of the data
    run(out, "--dataset_name", data, *more)
    if not is_complete:
        find_parts(out)[-1].unlink()
    else:
        run(out, "--dataset_name", data, *more)  # nothing has changed
    before = [part.stat().st_mtime_ns for part in find_parts(out)]
    change(data)
    with pytest.raises(ValueError, match=f"of --dataset_name {data} are not those that the run in {out} began with"):
        run(out, "--dataset_name", data, *more)
    assert [part.stat().st_mtime_ns for part in find_parts(out)] == before


def test_a_part_that_is_missing_is_noticed_and_made_again(tmp_path: Path, monkeypatch, caplog):
    data, out = write_tones(tmp_path / "data", {"a": 200.0, "b": 900.0}, 3, seconds=0.3), tmp_path / "out"
    monkeypatch.setattr(embed, "PART_SECONDS", 0)
    run(out, "--dataset_name", data)
    whole = rows(out).to_list()
    first, second, *_ = find_parts(out)
    time = first.stat().st_mtime_ns
    second.unlink()
    Index(out)
    assert f"{out} is not complete" in caplog.text
    run(out, "--dataset_name", data)
    assert f"Missing in {out}: part-00001.parquet: the run continues from there" in caplog.text
    assert first.stat().st_mtime_ns == time and [row["clip"] for row in whole] == list(rows(out)["clip"])
    for row, again in zip(whole, rows(out).to_list(), strict=True):
        np.testing.assert_allclose(row.pop("vector"), again.pop("vector"), atol=1e-5)
        assert row == again


# What it finds


def test_a_column_of_labels_that_is_not_there_is_refused_with_those_that_are(tones: Path, tmp_path: Path):
    with pytest.raises(UserError, match="--label_column nope: the data set has no such column.* audio, label"):
        run(tmp_path, "--dataset_name", tones, "--label_column", "nope")
    assert find_parts(tmp_path) == []


def test_the_column_of_labels_has_any_name_or_is_not_there(tmp_path: Path):
    sound = {"bytes": encode(0.1 * np.random.default_rng(0).standard_normal(16000)), "path": None}
    columns = Features({"audio": Audio(), "species": Value("string")})
    audio_dataset([sound], columns, species=["owl"]).to_parquet(tmp_path / "data.parquet")
    run(tmp_path / "named", "--dataset_name", tmp_path / "data.parquet", "--label_column", "species")
    assert list(rows(tmp_path / "named")["label"]) == ["owl"]
    run(tmp_path / "none", "--dataset_name", tmp_path / "data.parquet")
    assert "label" not in rows(tmp_path / "none").column_names


def test_splits_may_have_classes_of_their_own_or_no_labels(tmp_path: Path):
    sound = {"bytes": encode(0.1 * np.random.default_rng(0).standard_normal(16000)), "path": None}
    splits = {"unlabelled": audio_dataset([sound], Features({"audio": Audio()}))}
    for split, names in {"train": ["cat", "dog"], "test": ["dog", "cat"]}.items():
        columns = Features({"audio": Audio(), "label": ClassLabel(names=names)})
        splits[split] = audio_dataset([sound], columns, label=[names.index("dog")])
    DatasetDict(splits).save_to_disk(tmp_path / "data")
    run(tmp_path / "out", "--dataset_name", tmp_path / "data")
    assert list(rows(tmp_path / "out")["label"]) == [None, "dog", "dog"]


def test_a_query_finds_clips_that_sound_alike(tones: Path, embedded: Path, monkeypatch, capsys):
    monkeypatch.setattr(embed, "write_parts", None)  # nothing is embedded again
    query = str(tones / "high" / "3.wav")
    found = run(embedded, "--query", query, "--top_k", 3)[query]
    assert found[0]["path"] == query and found[0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert [hit["label"] for hit in found] == ["high"] * 3
    assert f"{query}  (high)" in capsys.readouterr().out


def test_queries_that_cannot_be_answered(tones: Path, embedded: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no vectors: pass --dataset_name"):
        run(tmp_path, "--query", tones / "low" / "0.wav")
    with pytest.raises(FileNotFoundError, match="No such file: .*none.wav"):
        run(embedded, "--query", tmp_path / "none.wav")
    with pytest.raises(ValueError, match="0.wav is 2.00 s long, and 3.5 s is not in it"):
        run(embedded, "--query", f"{tones}/low/0.wav@3.5")
    build().save_pretrained(tmp_path)
    COLAFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has other weights"):
        run(embedded, "--query", tones / "low" / "0.wav", "--model_name_or_path", tmp_path)


def test_the_time_of_a_query(tmp_path: Path):
    assert parse_query("a@b.wav@12.5") == ("a@b.wav", 12.5)
    assert parse_query("a.wav") == ("a.wav", None) and parse_query("a@b.wav") == ("a@b.wav", None)
    (tmp_path / "a@2").touch()
    assert parse_query(f"{tmp_path}/a@2") == (f"{tmp_path}/a@2", None)


def test_similarity_is_the_cosine_of_standardised_vectors(embedded: Path, monkeypatch):
    monkeypatch.setattr(search, "BLOCK_ROWS", 10)
    index, vectors = Index(embedded), np.stack(rows(embedded)["vector"])
    standardised = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    standardised /= np.linalg.norm(standardised, axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors, standardised, atol=1e-5)
    similarities = standardised @ standardised[7]
    found = index.search(vectors[7], 5)
    assert [hit["clip"] for hit in found] == np.argsort(-similarities)[:5].tolist()
    np.testing.assert_allclose([hit["similarity"] for hit in found], np.sort(similarities)[::-1][:5], atol=1e-5)
    assert [hit["clip"] for hit in index.search(vectors[7], 100)] == np.argsort(-similarities, kind="stable").tolist()


@pytest.mark.parametrize("count", [1, 2])
def test_an_index_of_one_sound(tones: Path, tmp_path: Path, count: int):
    (tmp_path / "data").mkdir()
    for number in range(count):
        shutil.copy(tones / "low" / "0.wav", tmp_path / "data" / f"{number}.wav")
    run(tmp_path / "out", "--dataset_name", tmp_path / "data")
    same, other = (str(tones / name / "0.wav") for name in ("low", "high"))
    found = run(tmp_path / "out", "--query", same, other)
    assert [hit["similarity"] for hit in found[same]] == pytest.approx([1.0] * count, abs=1e-4)
    assert max(hit["similarity"] for hit in found[other]) < 0.99
