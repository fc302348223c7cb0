"""
Pre-trains on messy data for a long time under kills, and checks that nothing is lost, repeated or leaked.

    python -m tools.soak --output_dir outputs/soak

Two runs of the same command train side by side. One is never interrupted. The other is killed about every minute and
resumed. A tenth of the recordings are bad, in every way that pre-training knows of, and one in a hundred is ten
minutes long. At the end it is checked that both runs have the same log, the same weights and the same list of skipped
clips, and that the memory of the uninterrupted run did not grow. If any of this fails, the exit status is not 0.
"""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import soundfile
import torch
from safetensors.torch import load_file

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError


logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
RATE = 16000
# What an interruption must not change.
EXACT = ("step", "loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy")
# Memory may differ by so much between the second and the last quarter of a run.
MAX_GROWTH = 0.1


@dataclass
class SoakArguments:
    output_dir: str = field(metadata={"help": "Folder of the data and of both runs. It must not exist."})
    max_steps: int = field(default=4000, metadata={"help": "Steps of each run; 4,000 take about an hour on 2 cores."})
    num_clips: int = field(default=1000, metadata={"help": "Recordings to make up, the bad ones included."})
    kill_every: float = field(default=60.0, metadata={"help": "Mean seconds from one kill to the next."})
    seed: int = field(default=0, metadata={"help": "Seed of the recordings and of the times of the kills."})


def write_bad_clip(path: Path, number: int, sound: np.ndarray) -> None:
    """Writes a clip that is bad in one of the ways that pre-training has to survive; `number` chooses the way."""
    kind = number % 7
    if kind == 0:
        path.with_suffix(".wav").write_bytes(b"")
    elif kind == 1:
        path.with_suffix(".mp3").write_text("this is not audio " * 100)
    elif kind == 2:
        soundfile.write(path.with_suffix(".flac"), sound, RATE)
        content = path.with_suffix(".flac").read_bytes()
        path.with_suffix(".flac").write_bytes(content[: len(content) // 3])
    elif kind == 3:
        soundfile.write(path.with_suffix(".wav"), np.zeros(len(sound)), RATE)
    elif kind == 4:
        soundfile.write(path.with_suffix(".wav"), np.full(len(sound), np.nan), RATE, subtype="FLOAT")
    elif kind == 5:
        path.with_suffix(".wav").symlink_to(path.with_name("nowhere.wav"))
    else:  # a rate that shares no factor with 16,000, under a name that is not UTF-8: odd, but it can be used
        soundfile.write(path.with_suffix(".flac"), sound, 11_127)
        os.rename(os.fsencode(path.with_suffix(".flac")), os.fsencode(path.parent) + b"/odd-\xff-%d.flac" % number)


def write_recordings(folder: Path, num_clips: int, seed: int) -> None:
    """Writes tones in noise of 3 s, of which every tenth is bad and every hundredth lasts ten minutes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(num_clips):
        seconds = 600 if i % 100 == 50 else 3
        time_axis = np.arange(seconds * RATE) / RATE
        tone = np.sin(
            2 * np.pi * rng.uniform(100, 4000) * time_axis * (1 + 0.1 * np.sin(rng.uniform(1, 5) * time_axis))
        )
        sound = rng.uniform(0.05, 0.5) * tone + 0.02 * rng.standard_normal(len(time_axis))
        if i % 10 == 5:
            write_bad_clip(folder / f"{i:05}", i // 10, sound)
        else:
            soundfile.write(folder / f"{i:05}.flac", sound, RATE)


def start_run(name: str, args: SoakArguments) -> subprocess.Popen:
    """Starts, or resumes, one of the two runs."""
    root = Path(args.output_dir)
    command = [sys.executable, "-m", "run_scripts.run_pretraining", "--dataset_name", str(root / "data")]
    command += ["--output_dir", str(root / name), "--recipe", "best", "--per_device_train_batch_size", "32"]
    command += ["--max_steps", str(args.max_steps), "--dataloader_num_workers", "2", "--validation_clips", "32"]
    command += ["--logging_steps", "10", "--eval_steps", "200", "--save_steps", "5", "--resume_from_checkpoint"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HOME": str(root / "cache")}
    with open(root / f"{name}.log", "a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def memory_of(process: subprocess.Popen) -> int:
    """Bytes that a process and its workers hold, what they share counted once for each."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return sum(member.memory_info().rss for member in family)
    except psutil.NoSuchProcess:
        return 0


def run_both(args: SoakArguments) -> tuple[int, list[int]]:
    """
    Runs both to their ends.

    Returns:
        How often the one was killed, and the memory of the other in bytes, every five seconds.

    Raises:
        `RuntimeError`: if a run fails by itself.
    """
    rng, kills, memory = random.Random(args.seed), 0, []
    whole, killed = start_run("whole", args), start_run("killed", args)
    kill_at = time.monotonic() + args.kill_every
    while whole.poll() is None or killed.poll() is None:
        time.sleep(5)
        for name, process in (("whole", whole), ("killed", killed)):
            if process.poll() not in (None, 0):
                raise RuntimeError(f"The run ended with status {process.poll()}: see {args.output_dir}/{name}.log.")
        if whole.poll() is None:
            memory.append(memory_of(whole))
        if killed.poll() is None and time.monotonic() > kill_at:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            kills += 1
            logger.info(f"Kill {kills}.")
            killed = start_run("killed", args)
            kill_at = time.monotonic() + rng.uniform(0.5, 1.5) * args.kill_every
    return kills, memory


def compare(root: Path) -> list[str]:
    """Compares the two runs. Returns what differs."""
    states = [json.loads((root / name / "training_state.json").read_text()) for name in ("whole", "killed")]
    logs = [[{key: entry.get(key) for key in EXACT} for entry in state["history"]] for state in states]
    weights = [load_file(root / name / "model.safetensors") for name in ("whole", "killed")]
    skipped = [set((root / name / "skipped_0.tsv").read_bytes().splitlines()) for name in ("whole", "killed")]
    differences = []
    if logs[0] != logs[1]:
        differences.append(f"the log, from entry {next(i for i, pair in enumerate(zip(*logs)) if pair[0] != pair[1])}")
    if not all(torch.equal(value, weights[1][name]) for name, value in weights[0].items()):
        differences.append("the weights")
    if skipped[0] != skipped[1]:
        differences.append("the lists of skipped clips")
    return differences


def main(argv: list[str] | None = None) -> None:
    """
    Runs the script.

    Raises:
        [`UserError`]: If the output folder exists.
        `RuntimeError`: if a run failed, or if a check did.
    """
    (args,) = ArgumentParser(SoakArguments).parse(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    root = Path(args.output_dir)
    if root.exists():
        raise UserError(f"--output_dir {root} exists: give a new folder.")
    write_recordings(root / "data", args.num_clips, args.seed)
    started = time.monotonic()
    kills, memory = run_both(args)
    differences = compare(root)
    quarter = max(len(memory) // 4, 1)
    early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
    if late > (1 + MAX_GROWTH) * early:
        differences.append(f"the memory, from {early / 1e6:.0f} to {late / 1e6:.0f} MB")
    num_listed = len((root / "whole" / "skipped_0.tsv").read_bytes().splitlines())
    logger.info(f"{args.max_steps} steps in {(time.monotonic() - started) / 60:.0f} minutes, with {kills} kills.")
    logger.info(f"{num_listed} clips were skipped or short.")
    logger.info(
        f"Memory of the uninterrupted run: {early / 1e6:.0f} MB in its second quarter, {late / 1e6:.0f} MB later."
    )
    if differences:
        raise RuntimeError(f"The runs differ, or one grew: {'; '.join(differences)}.")
    shutil.rmtree(root / "data")
    logger.info("Nothing was lost, repeated or leaked.")


if __name__ == "__main__":
    run_script(main)
