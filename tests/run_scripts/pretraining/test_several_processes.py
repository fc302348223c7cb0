"""Several processes: what they share, what each draws for itself, and how they end when one of them fails."""

import subprocess
from pathlib import Path

import pytest
import torch

from helpers import pretraining_arguments, run_processes


# What a process runs in place of `run_pretraining.py`: the same, after a change of the code that a test is about.
SCRIPT = """
import os
from pathlib import Path
import torch
from run_scripts import run_pretraining
from run_scripts.pretraining import augmentation, loop
RANK = int(os.environ["RANK"])
FOLDER = Path(__file__).parent
{change}
run_pretraining.run()
"""


def run_two(tmp_path: Path, change: str, arguments: list[str]) -> subprocess.CompletedProcess:
    """Runs two processes."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(change=change))
    return run_processes(script, arguments)


def test_each_process_starts_from_the_same_weights_and_augments_in_its_own_way(tones: Path, tmp_path: Path):
    change = """
prepare, equalize = loop.PretrainingTrainer._prepare, augmentation.random_equalizer

def prepare_and_save(self, model):
    torch.save(model.state_dict(), FOLDER / f"weights_{RANK}.pt")
    prepare(self, model)

def equalize_and_save(values, *args):
    torch.save(equalize(torch.zeros_like(values), 0.5, -11.5)[:, 0], FOLDER / f"drawn_{RANK}.pt")
    return equalize(values, *args)

loop.PretrainingTrainer._prepare, augmentation.random_equalizer = prepare_and_save, equalize_and_save
"""
    done = run_two(tmp_path, change, pretraining_arguments(tones, tmp_path / "out", "--max_steps", "1"))
    assert done.returncode == 0, done.stderr
    weights, others = (torch.load(tmp_path / f"weights_{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    drawn, other = (torch.load(tmp_path / f"drawn_{rank}.pt") for rank in (0, 1))
    assert (drawn - other).abs().amax(-1).min() > 0.05  # no pair of one process is filtered as that of the other


def ends_with(done: subprocess.CompletedProcess, rank: int, message: str) -> None:
    """Checks that the process with this rank ended by a message, and the other one because of it."""
    assert done.returncode == 1
    assert message in done.stderr
    assert f"Process {1 - rank} ends, because another process has failed" in done.stderr
    assert "Connection closed" not in done.stderr


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_all_end_when_one_fails(tones: Path, tmp_path: Path, rank: int):
    change = f"""
from run_scripts.common.errors import MissingFileError
next_batch = loop.PretrainingTrainer._next_batch

def fail(self, batches):
    if self.state.step == 1 and RANK == {rank}:
        raise MissingFileError("The disk has gone.")
    return next_batch(self, batches)

loop.PretrainingTrainer._next_batch = fail
"""
    done = run_two(tmp_path, change, pretraining_arguments(tones, tmp_path / "out", "--max_steps", "1000"))
    ends_with(done, rank, "error: The disk has gone.")


def test_all_end_when_one_has_no_clips(tones: Path, tmp_path: Path):
    change = """
from feature_extraction import segment_stream
clips = segment_stream.ClipReader.clips
segment_stream.ClipReader.clips = lambda self, start: iter(()) if self.reader == 1 else clips(self, start)
"""
    done = run_two(tmp_path, change, pretraining_arguments(tones, tmp_path / "out", "--max_steps", "1000"))
    ends_with(done, 1, "An epoch of 0 clips has 0 that can be read by worker 0 of rank 1, but 8 are needed")


@pytest.mark.slow
def test_all_end_by_the_same_error_where_the_loss_of_one_is_not_finite(tones: Path, tmp_path: Path):
    change = """
training_step = loop.PretrainingTrainer._training_step

def step(self, batch):
    outputs = training_step(self, batch)
    if RANK == 1:
        outputs.loss = outputs.loss * float("inf")
    return outputs

loop.PretrainingTrainer._training_step = step
"""
    done = run_two(tmp_path, change, pretraining_arguments(tones, tmp_path / "out", "--max_steps", "1000"))
    assert done.returncode == 1 and done.stderr.count("The loss is not finite at step 1") == 2
    assert "because another process" not in done.stderr
