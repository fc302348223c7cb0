"""
Measures how fast several processes prepare and embed clips together.

    python -m tools.measure_sharing --output_dir outputs/sharing
    python -m tools.measure_sharing --output_dir outputs/sharing --num_processes 1 2 4

The clips are noise of 10 s in AudioSet's format, in eight Parquet shards. They are prepared, by one worker of each
process, and what was prepared is embedded by cola-compact as a stream, with one thread in each process. The time that
the same command takes when there is nothing left to do is subtracted, so that the rates are those of the work alone.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError
from tools.speed.workloads import audioset_clips, write_audioset_shards


NUM_SHARDS = 8
SECONDS = 10


@dataclass
class SharingArguments:
    output_dir: str = field(metadata={"help": "Folder of the clips and of what is made of them. It must not exist."})
    num_processes: list[int] = field(
        default_factory=lambda: [1, 2], metadata={"help": "The numbers of processes to measure with."}
    )
    num_clips: int = field(default=1600, metadata={"help": "Number of clips."})


def time_twice(script: str, arguments: list[str], num_processes: int) -> float:
    """Seconds that a script takes more than when there is nothing left to do."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run([*command, "-m", f"run_scripts.{script}", *arguments], env=environment, check=True)
        seconds.append(time.perf_counter() - started)
    return seconds[0] - seconds[1]


def main(argv: list[str] | None = None) -> None:
    """Runs the script with command-line arguments."""
    (args,) = ArgumentParser(SharingArguments).parse(argv)
    root = Path(args.output_dir)
    if root.exists():
        raise UserError(f"--output_dir {root} exists: give a new folder.")
    clips = list(islice(cycle(audioset_clips(16)), args.num_clips))  # as few different ones are as fast to read
    write_audioset_shards(root / "clips", clips, NUM_SHARDS)
    rows = ["| processes | clips/s prepared | clips/s embedded | x real time |", "| ---: | ---: | ---: | ---: |"]
    for number in args.num_processes:
        folders = {name: str(root / f"{name}-{number}") for name in ("prepared", "vectors")}
        source = ["--dataset_name", str(root / "clips"), "--streaming", "--num_workers", "1"]
        prepared = args.num_clips / time_twice("prepare_audio", [*source, "--output_dir", folders["prepared"]], number)
        source = ["--dataset_name", folders["prepared"], "--streaming"]
        embedded = args.num_clips / time_twice("run_embedding", [*source, "--output_dir", folders["vectors"]], number)
        rows.append(f"| {number} | {prepared:.0f} | {embedded:.1f} | {SECONDS * embedded:.0f} |")
    print("\n".join(rows))


if __name__ == "__main__":
    run_script(main)
