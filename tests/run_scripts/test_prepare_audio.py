"""Preparing audio: what the shards hold, what is left out, and runs that were stopped."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, Value

from feature_extraction import SegmentPairs, find_audio_column, load_audio, load_audio_dataset
from helpers import AUDIOSET, audio_dataset, times_of_finished_files, write_tar
from run_scripts import prepare_audio
from run_scripts.common import source
from run_scripts.common.files import is_disk_full
from run_scripts.preparation import shards


ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_home(monkeypatch, tmp_path_factory):
    """Keeps the cache out of the home folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def noise(seconds: float = 0.2, rate: int = 16000, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))


def encoded(samples: np.ndarray, rate: int = 16000, container: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container)
    return file.getvalue()


def clip(number: int) -> np.ndarray:
    """A clip of 50 ms that tells its number."""
    return np.full(800, (number + 1) / 1024)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Two classes of clips of several kinds; four can be used."""
    folder = tmp_path_factory.mktemp("mixed")
    files = {
        "cat/8kHz.wav": encoded(noise(0.5, 8000), 8000),
        "cat/stereo.flac": encoded(noise(1.5, 44100, 2), 44100, "FLAC"),
        "cat/empty.wav": b"",
        "cat/text.wav": b"This is no audio. " * 100,
        "dog/deep/vorbis.ogg": encoded(noise(1.0), container="OGG"),
        "dog/short.flac": encoded(noise(0.01), container="FLAC"),
        "dog/silent.wav": encoded(np.zeros(8000)),
        "dog/truncated.flac": encoded(noise(1.0), container="FLAC")[:9000],
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """300 small clips."""
    folder = tmp_path_factory.mktemp("numbered")
    for i in range(300):
        soundfile.write(folder / f"{i:03}.flac", clip(i), 16000)
    return folder


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    """Four shards of ten clips in AudioSet's schema; the third of each has no samples, and the last no name."""
    folder = tmp_path_factory.mktemp("audioset")
    stored = Features(AUDIOSET | {"audio": {"bytes": Value("binary"), "path": Value("string")}})
    for shard in range(4):
        ids = range(10 * shard, 10 * shard + 10)
        columns = {
            "video_id": [f"id{i}" for i in ids],
            "audio": [
                {"bytes": b"" if i % 10 == 2 else encoded(clip(i)), "path": None if i % 10 == 9 else f"audio/{i}.wav"}
                for i in ids
            ],
            "labels": [["/m/0", f"/m/{i}"] for i in ids],
            "human_labels": [["Speech"] for i in ids],
        }
        rows = Dataset.from_dict(columns, features=stored).cast(AUDIOSET)
        rows.to_parquet(folder / f"train-{shard:05}-of-00004.parquet")
    return folder


def arguments(data: Path, output_dir: Path, *more: str) -> list[str]:
    return ["--dataset_name", str(data), "--output_dir", str(output_dir), "--num_workers", "2", *more]


def rows(output_dir: Path, streaming: bool = False) -> list[dict[str, Any]]:
    """Those of all the shards, in order, with their audio still encoded, under the name `audio`."""
    train = load_audio_dataset(str(output_dir), streaming=streaming)["train"]
    column = find_audio_column(train)
    return [row | {"audio": row[column]} for row in train.cast_column(column, Audio(decode=False))]


def numbers(output_dir: Path) -> list[int]:
    """Which clips the shards hold."""
    return [round(1024 * float(load_audio(row["audio"])[0])) - 1 for row in rows(output_dir, streaming=True)]


def leftovers(output_dir: Path) -> list[Path]:
    return [
        path for path in output_dir.rglob("*") if path.suffix in (".tmp", ".parquet") and path.name[:6] != "train-"
    ]


# What the shards hold


@pytest.mark.parametrize("format", ["flac", "pcm"])
def test_every_kind_of_file(mixed, tmp_path, format):
    report = prepare_audio.main(arguments(mixed, tmp_path / "out", "--format", format))
    assert report["clips"] == 4 and report["skipped"] == {"empty": 1, "damaged": 2, "silent": 1}
    assert report["hours"] == pytest.approx((0.5 + 1.5 + 1.0 + 0.01) / 3600, rel=1e-3)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report

    skipped = [line.split("\t") for line in (tmp_path / "out" / "skipped.tsv").read_text().splitlines()]
    assert {Path(name).name: kind for kind, name, _ in skipped} == {
        "empty.wav": "empty",
        "text.wav": "damaged",
        "truncated.flac": "damaged",
        "silent.wav": "silent",
    }
    assert all(reason for _, _, reason in skipped)

    suffix, container = {"flac": (".flac", "FLAC"), "pcm": (".wav", "WAV")}[format]
    names = ["cat/8kHz", "cat/stereo", "dog/deep/vorbis", "dog/short"]
    for row, name in zip(rows(tmp_path / "out"), names, strict=True):
        info = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, container, "PCM_16")
        assert row["audio"]["path"] == name + suffix
        source = next(mixed.glob(f"{name}.*"))
        np.testing.assert_allclose(load_audio(row["audio"]), load_audio(source), atol=0.6 / 2**15)


@pytest.mark.parametrize("streaming", [False, True])
def test_shards_are_read_as_training_data(mixed, tmp_path, streaming):
    prepare_audio.main(arguments(mixed, tmp_path))
    splits = load_audio_dataset(str(tmp_path), streaming=streaming)
    assert list(splits) == ["train"]
    train = splits["train"]
    assert train.features == Features({"audio": Audio(sampling_rate=16000), "label": ClassLabel(names=["cat", "dog"])})
    assert [row["label"] for row in rows(tmp_path, streaming)] == [0, 0, 1, 1]
    pairs = iter(SegmentPairs(train, 4000, shuffle=False))
    assert [len(next(pairs).anchor) for _ in range(4)] == [4000, 4000, 4000, 160]


def test_formats_have_the_same_samples(mixed, tmp_path):
    for format in ("flac", "pcm"):
        prepare_audio.main(arguments(mixed, tmp_path / format, "--format", format))
    for flac, pcm in zip(rows(tmp_path / "flac"), rows(tmp_path / "pcm"), strict=True):
        np.testing.assert_array_equal(load_audio(flac["audio"]), load_audio(pcm["audio"]))


def test_sixteen_bits_at_16_kilohertz_are_kept_exactly(tmp_path):
    samples = np.array([-32768, -1, 0, 1, 2, 32767] * 50, np.int16)
    (tmp_path / "source").mkdir()
    soundfile.write(tmp_path / "source" / "a.wav", samples, 16000)
    prepare_audio.main(arguments(tmp_path / "source", tmp_path / "out"))
    (row,) = rows(tmp_path / "out")
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")[0], samples)


def test_loud_samples_are_clipped_and_infinite_ones_skipped(tmp_path):
    (tmp_path / "source").mkdir()
    for name, value in (("loud", 3.0), ("infinite", np.inf)):
        soundfile.write(tmp_path / "source" / f"{name}.wav", np.array([value, -value] * 50), 16000, subtype="FLOAT")
    report = prepare_audio.main(arguments(tmp_path / "source", tmp_path / "out"))
    assert report["clips"] == 1 and report["skipped"] == {"not finite": 1}
    (row,) = rows(tmp_path / "out")
    np.testing.assert_allclose(load_audio(row["audio"])[:2], [1.0, -1.0], atol=1e-4)


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_in_the_schema_of_audioset(parquet, tmp_path, streaming):
    report = prepare_audio.main(arguments(parquet, tmp_path, *(["--streaming"] if streaming else [])))
    assert report["clips"] == 36 and report["skipped"] == {"empty": 4}
    assert "empty\taudio/2.wav\t" in (tmp_path / "skipped.tsv").read_text()
    train = load_audio_dataset(str(tmp_path))["train"]
    assert train.features == Features(AUDIOSET | {"audio": Audio(sampling_rate=16000)})
    kept = [i for i in range(40) if i % 10 != 2]
    assert numbers(tmp_path) == kept
    for row, i in zip(rows(tmp_path), kept, strict=True):
        assert (row["video_id"], row["labels"], row["human_labels"]) == (f"id{i}", ["/m/0", f"/m/{i}"], ["Speech"])
        assert row["audio"]["path"] == (None if i % 10 == 9 else f"audio/{i}.flac")


def test_tars(tmp_path):
    for shard in range(2):
        files = {f"{i:03}.wav": encoded(clip(i)) for i in range(3 * shard, 3 * shard + 3)}
        write_tar(tmp_path / "tars" / f"{shard}.tar", files)
    prepare_audio.main(arguments(tmp_path / "tars", tmp_path / "out"))
    assert numbers(tmp_path / "out") == list(range(6))


def test_shards_are_closed_at_their_size(numbered, tmp_path):
    report = prepare_audio.main(arguments(numbered, tmp_path, "--format", "pcm", "--shard_size", "0.02"))
    assert report["shards"] == len(list(tmp_path.glob("train-*.parquet"))) > 20
    assert numbers(tmp_path) == list(range(300))


def test_long_recordings_in_pieces(tmp_path):
    (tmp_path / "source").mkdir()
    samples = noise(1.0)
    soundfile.write(tmp_path / "source" / "long.flac", samples, 16000)
    soundfile.write(tmp_path / "source" / "short.flac", samples[:4000], 16000)
    prepare_audio.main(arguments(tmp_path / "source", tmp_path / "out", "--max_seconds", "0.3"))
    pieces = [load_audio(row["audio"]) for row in rows(tmp_path / "out")]
    assert [len(piece) for piece in pieces] == [4000] * 5
    np.testing.assert_allclose(np.concatenate(pieces[:4]), samples[:, 0], atol=1e-4)


def test_a_file_that_is_gone(numbered, tmp_path, monkeypatch):
    splits, path = load_audio_dataset(str(numbered)), numbered / "000.flac"
    clips = Dataset.from_dict({"audio": [str(path), f"{path}.gone", str(path)]})
    splits["train"] = clips.cast_column("audio", Audio(decode=False))
    monkeypatch.setattr(source, "load_audio_dataset", lambda *_, **__: splits)
    report = prepare_audio.main(arguments(numbered, tmp_path))
    assert report["clips"] == 2 and report["skipped"] == {"missing": 1}
    assert f"missing\t{path}.gone\t" in (tmp_path / "skipped.tsv").read_text()


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_corrupt_shard_is_skipped(parquet, tmp_path, kind):
    if kind == "parquet":
        shutil.copytree(parquet, tmp_path / "data")
        path = tmp_path / "data" / "train-00001-of-00004.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        kept = [i for i in range(40) if i % 10 != 2 and i // 10 != 1]
    else:
        for shard in range(3):
            files = {f"{i:03}.wav": encoded(clip(i)) for i in range(3 * shard, 3 * shard + 3)}
            write_tar(tmp_path / "data" / f"{shard}.tar", files)
        path = tmp_path / "data" / "1.tar"
        path.write_bytes(path.read_bytes()[:3000])
        kept = [0, 1, 2, 3, 6, 7, 8]
    report = prepare_audio.main(arguments(tmp_path / "data", tmp_path / "out", "--streaming"))
    assert numbers(tmp_path / "out") == kept
    lost = {"parquet": 10, "tar": 1}  # of the tar file nothing could be read from which to estimate the rest
    assert report["clips"] == len(kept) and report["skipped"]["corrupt shard"] == lost[kind]
    assert f"corrupt shard\t{path}\t{path} is not a whole" in (tmp_path / "out" / "skipped.tsv").read_text()


def test_names_lead_out_of_no_folder(tmp_path):
    names = ["../../a.wav", "/b.wav", "c/../../d.wav", "e/./f.wav"]
    clips = [{"bytes": encoded(clip(0)), "path": name} for name in names]
    (tmp_path / "data").mkdir()
    audio_dataset(clips).to_parquet(tmp_path / "data" / "train.parquet")
    prepare_audio.main(arguments(tmp_path / "data", tmp_path / "out"))
    assert [row["audio"]["path"] for row in rows(tmp_path / "out")] == ["a.flac", "b.flac", "d.flac", "e/f.flac"]


def test_rows_that_name_files_elsewhere(tmp_path):
    soundfile.write(tmp_path / "a.wav", clip(0), 16000)
    (tmp_path / "data").mkdir()
    table = pa.Table.from_pydict(
        {"audio": [{"bytes": None, "path": str(tmp_path / "a.wav")}]}, Features({"audio": Audio()}).arrow_schema
    )
    pq.write_table(table, tmp_path / "data" / "train.parquet")
    with pytest.raises(PermissionError, match="a.wav, which is not below.*--allow_remote_audio"):
        prepare_audio.main(arguments(tmp_path / "data", tmp_path / "out"))
    prepare_audio.main(arguments(tmp_path / "data", tmp_path / "out", "--allow_remote_audio"))
    assert numbers(tmp_path / "out") == [0]


def test_what_was_found_is_logged(mixed, tmp_path, caplog):
    prepare_audio.main(arguments(mixed, tmp_path))
    assert f"{mixed} has train: 8 clips, 2 classes (cat, dog)." in caplog.text


@pytest.mark.parametrize("split, expected", [("test", "test"), ("valid", "validation"), ("noisy", "train")])
def test_splits(mixed, tmp_path, monkeypatch, split, expected):
    splits = {split: load_audio_dataset(str(mixed))["train"]}
    monkeypatch.setattr(source, "load_audio_dataset", lambda *_, **__: splits)
    prepare_audio.main(arguments(mixed, tmp_path / "test" / "train", "--dataset_split", split))
    assert list(load_audio_dataset(str(tmp_path / "test" / "train"))) == [expected]


# Runs that were stopped


def contents(output_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output_dir.iterdir() if path.is_file()}


@pytest.mark.parametrize("source", ["files", "stream"])
def test_killed_and_resumed(numbered, parquet, tmp_path, source):
    """Each clip is slowed down, so that the run is killed in the midst of parts of which shards are there."""
    data, more = {"files": (numbered, []), "stream": (parquet, ["--streaming"])}[source]
    more = ["--format", "pcm", "--shard_size", "0.005", *more]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    prepare_audio.main(arguments(data, whole, *more))

    code = (
        "import sys, time, datasets\n"
        "from run_scripts import prepare_audio\n"
        "from run_scripts.preparation import workers\n"
        "datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0\n"
        "encode = workers.encode\n"
        "workers.encode = lambda *args: (time.sleep(0.05), encode(*args))[1]\n"
        "prepare_audio.main(sys.argv[1:])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, *arguments(data, killed, *more)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        while len(list(killed.glob("train-*.parquet"))) < 3:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.01)
        process.kill()
        process.stderr.read()  # ends when the workers, which have it too, have ended
    times = times_of_finished_files(killed)
    assert 1 <= len(times) < len(list(whole.glob("train-*.parquet")))
    assert set(numbers(killed)) <= set(numbers(whole))

    prepare_audio.main(arguments(data, killed, *more))
    assert contents(killed) == contents(whole)
    assert max(Counter(numbers(killed)).values()) == 1
    assert not leftovers(killed)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_finished_run_does_nothing(mixed, tmp_path, caplog):
    first = prepare_audio.main(arguments(mixed, tmp_path))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    # The number of workers is free to differ.
    assert prepare_audio.main([*arguments(mixed, tmp_path), "--num_workers", "1"]) == first
    assert "is finished: there is nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == times


def test_deleted_shard_is_written_anew(numbered, tmp_path):
    more = ["--shard_size", "0.01"]
    prepare_audio.main(arguments(numbered, tmp_path, *more))
    before = contents(tmp_path)
    sorted(tmp_path.glob("*.parquet"))[1].unlink()
    prepare_audio.main(arguments(numbered, tmp_path, *more))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("written", ["close", "write_table"])
def test_full_disk(numbered, tmp_path, monkeypatch, written):
    """The disk is full when the third shard is written; the run goes on when there is space again."""
    more = ["--shard_size", "0.01", "--num_workers", "1"]
    original, calls = getattr(shards.pq.ParquetWriter, written), []

    def full(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shards.pq.ParquetWriter, written, full)
        message = rf"The disk is full: {tmp_path}/train-\d+-\d+.parquet could not be written.*run the same command"
        with pytest.raises(OSError, match=message) as error:
            prepare_audio.main(arguments(numbered, tmp_path, *more))
    assert is_disk_full(error.value)
    assert numbers(tmp_path) == list(range(len(numbers(tmp_path)))) and not leftovers(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    prepare_audio.main(arguments(numbered, tmp_path, *more))
    assert numbers(tmp_path) == list(range(300))


def test_worker_that_is_killed(numbered, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shards, "load_audio", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(RuntimeError, match="worker was killed.*smaller --num_workers"):
            prepare_audio.main(arguments(numbered, tmp_path))
    prepare_audio.main(arguments(numbered, tmp_path))
    assert numbers(tmp_path) == list(range(300))


# Bad input


@pytest.mark.parametrize(
    "more, message",
    [
        (["--format", "pcm"], "format was flac and is now pcm"),
        (["--shard_size", "100"], "shard_size was 500.* and is now 100"),
        (["--max_seconds", "5"], "max_seconds was None and is now 5"),
    ],
)
def test_other_settings(mixed, tmp_path, more, message):
    prepare_audio.main(arguments(mixed, tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path} contains a run with other settings: {message}.*another"):
        prepare_audio.main(arguments(mixed, tmp_path, *more))


def test_other_source(mixed, tmp_path):
    shutil.copytree(mixed, tmp_path / "mixed")
    prepare_audio.main(arguments(tmp_path / "mixed", tmp_path / "out"))
    with pytest.raises(ValueError, match=f"dataset_name was {tmp_path / 'mixed'} and is now {mixed}"):
        prepare_audio.main(arguments(mixed, tmp_path / "out"))
    shutil.copy(mixed / "cat" / "8kHz.wav", tmp_path / "mixed" / "cat" / "more.wav")
    with pytest.raises(ValueError, match="are not those that the run in .* began with"):
        prepare_audio.main(arguments(tmp_path / "mixed", tmp_path / "out"))
    (tmp_path / "mixed" / "cat" / "8kHz.wav").rename(tmp_path / "mixed" / "cat" / "less.wav")  # as many as before
    (tmp_path / "mixed" / "cat" / "more.wav").unlink()
    with pytest.raises(ValueError, match="are not those that the run in .* began with"):
        prepare_audio.main(arguments(tmp_path / "mixed", tmp_path / "out"))


def test_output_that_cannot_be_written_to(mixed, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OSError, match=f"--output_dir {path} cannot be written to"):
            prepare_audio.main(arguments(mixed, path))


def test_output_of_something_else(mixed, parquet, tmp_path):
    shutil.copytree(parquet, tmp_path / "out")
    with pytest.raises(ValueError, match="contains Parquet files that no earlier run wrote"):
        prepare_audio.main(arguments(mixed, tmp_path / "out"))


def test_output_in_the_source(mixed):
    with pytest.raises(ValueError, match="lies in --dataset_name"):
        prepare_audio.main(arguments(mixed, mixed / "prepared"))
    assert not (mixed / "prepared").exists()


def test_nothing_that_can_be_used(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.wav").touch()
    with pytest.raises(ValueError, match="No clip could be used: .*skipped.tsv"):
        prepare_audio.main(arguments(tmp_path / "source", tmp_path / "out"))
    assert (tmp_path / "out" / "skipped.tsv").read_text().startswith("empty\t")


@pytest.mark.parametrize(
    "more, message",
    [
        (["--format", "mp3"], "--format must be one of flac, pcm, got 'mp3'"),
        (["--shard_size", "0"], "--shard_size must be more than 0"),
        (["--num_workers", "-1"], "--num_workers must be more than 0"),
        (["--dataset_split", "test"], "no split 'test'; there are train"),
        (["--audio_column", "sound"], "no column 'sound'"),
    ],
)
def test_bad_arguments(mixed, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        prepare_audio.main(arguments(mixed, tmp_path, *more))
