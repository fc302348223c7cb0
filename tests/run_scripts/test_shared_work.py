"""Jobs that several processes share: embedding and preparing give what one process gives, and go on after a kill."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from helpers import audio_dataset, run_processes, times_of_finished_files, write_tones
from run_scripts import prepare_audio, run_embedding
from run_scripts.common.skipped import read_notes
from run_scripts.embedding import embed
from run_scripts.embedding.parts import find_parts, is_complete


# What a process runs in place of a script: the same, after a change of the code that a test is about.
SCRIPT = """
import os, signal, sys
from run_scripts import prepare_audio, run_embedding
from run_scripts.common.command_line import run_script
from run_scripts.embedding import embed
from run_scripts.preparation import workers
RANK = int(os.environ["RANK"])
{change}
run_script({script}.main)
"""


def run(tmp_path: Path, script: str, arguments: list[str], num_processes: int = 2, change: str = ""):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(script=script, change=change))
    return run_processes(path, arguments, num_processes, use_cpu=script == "run_embedding")


def succeeds(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 short clips in two folders, of which the third cannot be used."""
    folder = write_tones(tmp_path_factory.mktemp("data"), {"a": 200.0, "b": 900.0}, 12, seconds=0.5)
    (folder / "a" / "10.wav").write_text("no audio")
    return folder


@pytest.fixture(scope="module")
def shards(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips in two Parquet files."""
    folder = tmp_path_factory.mktemp("shards")
    clips = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(data.rglob("*.wav"))]
    for number, part in enumerate((clips[:10], clips[10:])):
        audio_dataset(part).to_parquet(folder / f"train-{number}.parquet")
    return folder


def embedding_arguments(data: Path, folder: Path, *more: str) -> list[str]:
    return ["--dataset_name", str(data), "--output_dir", str(folder), *more]


def rows(folder: Path) -> Dataset:
    cache = str(folder / "cache")
    return Dataset.from_parquet([str(part) for part in find_parts(folder)], cache_dir=cache).with_format("numpy")


def equal(folder: Path, other: Path) -> None:
    """Checks that two folders have the same rows and skipped clips. Vectors may differ by how clips are batched."""
    left, right = rows(folder), rows(other)
    assert left.remove_columns("vector").to_list() == right.remove_columns("vector").to_list()
    np.testing.assert_allclose(left["vector"], right["vector"], atol=1e-5)
    assert [note.name for note in read_notes(folder / "skipped.tsv")] == [
        note.name for note in read_notes(other / "skipped.tsv")
    ]
    assert len(read_notes(folder / "skipped.tsv")) == 1 and is_complete(folder)


def test_two_processes_embed_what_one_does(data: Path, tmp_path: Path):
    run_embedding.main(embedding_arguments(data, tmp_path / "one"))
    done = run(
        tmp_path, "run_embedding", embedding_arguments(data, tmp_path / "two", "--query", str(data / "a/0.wav"))
    )
    succeeds(done)
    equal(tmp_path / "two", tmp_path / "one")
    assert len(find_parts(tmp_path / "two")) == 8
    # The main process alone speaks, and searches when all have done their share.
    assert done.stderr.count(f"23 clips, 0.00 h, are embedded in {tmp_path / 'two'}. Skipped: 1 damaged") == 1


def test_a_process_without_work_waits_for_the_others(shards: Path, tmp_path: Path):
    """Three processes, and a stream of two shards. Which clip is which is known when all of them are read."""
    more = ["--streaming", "--windows"]
    run_embedding.main(embedding_arguments(shards, tmp_path / "one", *more))
    done = run(tmp_path, "run_embedding", embedding_arguments(shards, tmp_path / "three", *more), 3)
    succeeds(done)
    equal(tmp_path / "three", tmp_path / "one")
    assert "There are 2 shards, so only 2 of 3 processes are used." in done.stderr


def test_embedding_goes_on_after_a_process_was_killed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A part for each clip. The second process is killed after five parts, and a single one goes on."""
    monkeypatch.setattr(embed, "PART_SECONDS", 0)
    run_embedding.main(embedding_arguments(data, tmp_path / "one"))
    change = """
embed.PART_SECONDS = 0
save, saved = embed.PartStore.save, []
def save_and_die(self, *args):
    save(self, *args)
    saved.append(args)
    if RANK == 1 and len(saved) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
embed.PartStore.save = save_and_die
"""
    arguments = embedding_arguments(data, tmp_path / "killed")
    assert run(tmp_path, "run_embedding", arguments, change=change).returncode != 0
    times = times_of_finished_files(tmp_path / "killed")
    assert 5 <= len(times) < 24 and not is_complete(tmp_path / "killed")
    run_embedding.main(arguments)
    equal(tmp_path / "killed", tmp_path / "one")
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_all_processes_end_when_one_fails(data: Path, tmp_path: Path):
    change = """
from run_scripts.common.errors import UserError
def fail(*args):
    raise UserError("The model has gone.")
if RANK == 1:
    embed.embed_clips = fail
"""
    done = run(tmp_path, "run_embedding", embedding_arguments(data, tmp_path / "out"), change=change)
    assert done.returncode == 1
    assert "error: The model has gone." in done.stderr
    assert "Process 0 ends, because another process has failed" in done.stderr


def preparation_arguments(data: Path, folder: Path, num_workers: int) -> list[str]:
    more = ["--shard_size", "0.02", "--format", "pcm", "--num_workers", str(num_workers)]
    return [*embedding_arguments(data, folder), *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("num_processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_preparing_goes_on_after_a_process_was_killed(data: Path, tmp_path: Path, num_processes: int):
    """
    The files are those of one process with as many workers as all processes have together. Nothing says that CPUs are
    to be used, since preparing uses nothing else.
    """
    prepare_audio.main(preparation_arguments(data, tmp_path / "one", num_processes))
    change = """
convert_all = workers.convert_all
def convert_and_die(*args):
    convert_all(*args)
    os.kill(os.getpid(), signal.SIGKILL)
if RANK == 1:
    from run_scripts.preparation import prepare
    prepare.convert_all = convert_and_die
"""
    arguments = preparation_arguments(data, tmp_path / "killed", 1)
    done = run(tmp_path, "prepare_audio", arguments, num_processes, change)
    assert done.returncode != 0 and not (tmp_path / "killed" / "report.json").exists()
    times = times_of_finished_files(tmp_path / "killed")
    assert times
    done = run(tmp_path, "prepare_audio", arguments, num_processes)
    succeeds(done)
    assert contents(tmp_path / "killed") == contents(tmp_path / "one")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert done.stderr.count("Wrote 23 clips") == 1
