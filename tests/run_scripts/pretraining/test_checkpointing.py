"""Nothing is lost: kills, signals, damaged checkpoints, full disks, other settings."""

import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import accelerate
import pytest
import torch
from datasets import Audio, Dataset

from feature_extraction import Position, ReaderState
from helpers import pretraining_arguments
from modeling_cola import COLAForPreTraining
from run_scripts import run_pretraining
from run_scripts.common.resume import find_checkpoints
from run_scripts.pretraining.checkpointing import RunState


ROOT = Path(__file__).parents[3]
EXACT = ("loss", "accuracy", "learning_rate", "validation_loss")


def history(folder: Path) -> list[dict[str, float]]:
    """What an interruption must not change."""
    entries = json.loads((folder / "training_state.json").read_text())["history"]
    return [{key: entry[key] for key in ("step", *EXACT) if key in entry} for entry in entries]


def assert_same_run(folder: Path, other: Path) -> None:
    assert history(folder) == history(other)
    models = [COLAForPreTraining.from_pretrained(path).state_dict().values() for path in (folder, other)]
    assert all(torch.equal(a, b) for a, b in zip(*models))


def start(arguments: list[str], *launcher: str) -> subprocess.Popen:
    command = [*(launcher or [sys.executable]), str(ROOT / "run_scripts" / "run_pretraining.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process: subprocess.Popen, output_dir: Path, after: int) -> None:
    """Until there is one of a later step."""
    deadline = time.monotonic() + 120
    while not (found := find_checkpoints(output_dir)) or int(found[-1].name.split("-")[1]) <= after:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shards(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones as two Parquet shards."""
    folder = tmp_path_factory.mktemp("shards")
    files = sorted(tones.rglob("*.wav"))
    for shard in range(2):
        rows = [{"bytes": path.read_bytes(), "path": path.name} for path in files[shard::2]]
        data = Dataset.from_dict({"audio": rows}).cast_column("audio", Audio(decode=False))
        data.to_parquet(folder / f"train-{shard:05}-of-00002.parquet")
    return folder


@pytest.mark.parametrize("kind", ["map", pytest.param("stream", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_random_ends_as_if_it_was_not(
    tones: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    more = ["--max_steps", "40", "--save_steps", "2", "--eval_steps", "10", "--dataloader_num_workers", "2"]
    data = tones
    if kind == "stream":
        data, more = shards, [*more, "--streaming", "--validation_clips", "8"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    delays = random.Random(0)
    last = 0
    for number in range(2):
        process = start(pretraining_arguments(data, killed, *more, *(["--resume_from_checkpoint"] if number else [])))
        wait_for_checkpoint(process, killed, after=last)
        time.sleep(delays.uniform(0, 1.5))
        process.kill()
        process.communicate()
        last = int(find_checkpoints(killed)[-1].name.split("-")[1])
        assert last < 40, "the run ended before it was killed"
    final = start(pretraining_arguments(data, killed, *more, "--resume_from_checkpoint"))
    assert final.wait(timeout=300) == 0, final.stderr.read()
    uninterrupted = start(pretraining_arguments(data, whole, *more))
    assert uninterrupted.wait(timeout=300) == 0, uninterrupted.stderr.read()
    assert_same_run(killed, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(tones: Path, tmp_path: Path, number: signal.Signals):
    more = ["--max_steps", "2000", "--save_steps", "2", "--eval_steps", "2000", "--dataloader_num_workers", "1"]
    process = start(pretraining_arguments(tones, tmp_path, *more))
    wait_for_checkpoint(process, tmp_path, after=0)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"Stopped by {number.name}" in messages and "--resume_from_checkpoint" in messages
    step = int(find_checkpoints(tmp_path)[-1].name.split("-")[1])
    assert f"after step {step}," in messages


def test_goes_back_past_damaged_checkpoints(tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    more = ["--save_steps", "1", "--save_total_limit", "9"]
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    run_pretraining.main(pretraining_arguments(tones, whole, *more))
    for step in (1, 2, 3):
        shutil.copytree(whole / f"checkpoint-{step}", damaged / f"checkpoint-{step}")
    weights = damaged / "checkpoint-3" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (damaged / "checkpoint-2" / "progress_0.json").unlink()
    run_pretraining.main(pretraining_arguments(tones, damaged, *more, "--resume_from_checkpoint"))
    assert "checkpoint-3 is damaged (model.safetensors is not what was written)" in caplog.text
    assert "checkpoint-2 is damaged" in caplog.text and "checkpoint-1 is damaged" not in caplog.text
    assert_same_run(damaged, whole)

    for checkpoint in find_checkpoints(damaged):
        (checkpoint / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="No checkpoint in .* is whole"):
        run_pretraining.main(pretraining_arguments(tones, damaged, *more, "--resume_from_checkpoint"))


def test_other_settings_on_resume_are_named(tones: Path, pretrained: Path, tmp_path: Path):
    shutil.copytree(pretrained, tmp_path / "run")
    arguments = pretraining_arguments(
        tones, tmp_path / "run", "--resume_from_checkpoint", "--seed", "1", "--similarity", "bilinear"
    )
    with pytest.raises(
        ValueError, match="similarity was cosine and is now bilinear; seed was 0 and is now 1.*--model_name_or_path"
    ):
        run_pretraining.main(arguments)
    # These change nothing that is learnt.
    run_pretraining.main(
        pretraining_arguments(tones, tmp_path / "run", "--resume_from_checkpoint", "--save_total_limit", "1")
    )


def test_a_run_of_constant_rate_can_be_made_longer(tones: Path, tmp_path: Path):
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--recipe", "paper"))
    run_pretraining.main(
        pretraining_arguments(tones, tmp_path, "--recipe", "paper", "--max_steps", "6", "--resume_from_checkpoint")
    )
    assert [entry["step"] for entry in history(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_an_output_folder_that_cannot_be_written_is_named_early(tones: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="--output_dir .*file/out cannot be written to: Not a directory"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path / "file" / "out"))


def test_a_disk_without_room_is_told_of_early(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(OSError, match=r"1.0 MB free, but 3 checkpoints take [0-9.]+ MB"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path))


def test_a_run_resumes_on_a_disk_that_has_room_for_one_more_checkpoint(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    more = ("--save_steps", "1", "--save_total_limit", "2")
    run_pretraining.main(pretraining_arguments(tones, tmp_path, *more))
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoint-4").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 3 * size // 2))
    run_pretraining.main(pretraining_arguments(tones, tmp_path, *more, "--resume_from_checkpoint"))


def test_a_limit_of_no_checkpoints_keeps_all(tones: Path, tmp_path: Path):
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--save_steps", "1", "--save_total_limit", "-1"))
    assert [path.name for path in find_checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]


def test_resumes_from_a_named_checkpoint(tones: Path, tmp_path: Path):
    more = ("--save_steps", "1", "--save_total_limit", "9")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_pretraining.main(pretraining_arguments(tones, whole, *more))
    checkpoint = ("--resume_from_checkpoint", str(whole / "checkpoint-2"))
    run_pretraining.main(pretraining_arguments(tones, resumed, *more, *checkpoint))
    assert [path.name for path in find_checkpoints(resumed)] == ["checkpoint-3", "checkpoint-4"]
    assert_same_run(resumed, whole)
    for path, error, message in (
        (tmp_path / "nowhere", FileNotFoundError, "nowhere: there is no such folder"),
        (whole, ValueError, "damaged or not a checkpoint of pre-training"),
    ):
        with pytest.raises(error, match=message):
            run_pretraining.main(
                pretraining_arguments(tones, tmp_path / "other", "--resume_from_checkpoint", str(path))
            )


def test_a_disk_that_gets_full_costs_no_earlier_checkpoint(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_state = accelerate.Accelerator.save_state

    def fail(self: accelerate.Accelerator, folder: str) -> None:
        save_state(self, folder)
        if "checkpoint-4" in folder:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(accelerate.Accelerator, "save_state", fail)
        with pytest.raises(OSError, match="The disk is full: .*checkpoint-4 .* are free.*--resume_from_checkpoint"):
            run_pretraining.main(pretraining_arguments(tones, tmp_path))
    assert [path.name for path in find_checkpoints(tmp_path)] == ["checkpoint-2"]
    assert not list(tmp_path.glob(".checkpoint*"))
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--resume_from_checkpoint"))
    assert [entry["step"] for entry in history(tmp_path)] == [1, 2, 3, 4]


def test_two_processes(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two processes, each with a worker and a shard; and the run resumes from its checkpoint."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    # Not `accelerate launch --cpu --num_processes 2`, which starts one process where there is no mpirun.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    more = ["--streaming", "--validation_clips", "8", "--dataloader_num_workers", "1", "--save_steps", "3"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    process = start(pretraining_arguments(shards, whole, *more), *launcher)
    assert process.wait(timeout=300) == 0, process.stderr.read()
    parts = [json.loads((whole / "checkpoint-3" / f"progress_{rank}.json").read_text()) for rank in (0, 1)]
    assert [part["step"] for part in parts] == [3, 3] and parts[0]["num_clips"] == parts[1]["num_clips"] == 24
    assert json.loads((whole / "checkpoint-3" / "manifest.json").read_text())["arguments"]["num_processes"] == 2
    entries = history(whole)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert all(entry["loss"] < 4 for entry in entries)  # log 16 is 2.8
    shutil.copytree(whole / "checkpoint-3", resumed / "checkpoint-3")
    process = start(pretraining_arguments(shards, resumed, *more, "--resume_from_checkpoint"), *launcher)
    assert process.wait(timeout=300) == 0, process.stderr.read()
    assert_same_run(resumed, whole)


def test_two_processes_train_an_encoder_whose_head_is_not_used(tones: Path, tmp_path: Path, monkeypatch):
    """Parameters without a gradient would stop DistributedDataParallel at the second step."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    more = ["--encoder", "mobilenetv3_small_050", "--max_steps", "3", "--eval_steps", "3"]
    process = start(pretraining_arguments(tones, tmp_path, *more), *launcher)
    assert process.wait(timeout=300) == 0, process.stderr.read()
    assert [entry["step"] for entry in history(tmp_path)] == [1, 2, 3]


def test_the_state_of_a_run_survives_json(tmp_path: Path):
    state = RunState(
        step=3,
        next_worker=1,
        readers={
            0: (ReaderState(0, Position(0, 0, 8), 1, 9),),
            1: (ReaderState(1, Position(1, 0, 2), 1, 7), ReaderState(1)),
        },
        sums=(0.1, 2.0),
    )
    state.history.append({"step": 3})
    state.notes = {"short": 2, "empty": 1, "silent": 3}
    assert state.num_bad == 4
    (tmp_path / "progress.json").write_text(json.dumps(dataclasses.asdict(state)))
    assert RunState.load(tmp_path / "progress.json") == state
