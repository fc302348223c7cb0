"""
Measures how much `tune_cpu` and `channels_last` speed up a training step on this machine's CPU.

    python run_scripts/measure_speed.py --encoder compact

Each variant runs in a process of its own, since the settings cannot be undone. The variants take turns, so that other
load on the machine affects all of them alike. The table has the median duration of a step, and the speed-up over the
plain variant.
"""

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser

from modeling_cola import COLAConfig, COLAForPreTraining
from run_scripts.common.command_line import run_job
from run_scripts.common.cpu import tune_cpu


# Whether each variant uses `channels_last`, and whether it uses `tune_cpu`.
VARIANTS = {"plain": (False, False), "channels_last": (True, False), "channels_last and tune_cpu": (True, True)}


@dataclass
class SpeedArguments:
    encoder: str = field(default="compact", metadata={"help": "The encoder to train."})
    batch_size: int = field(default=64, metadata={"help": "Number of pairs per step."})
    rounds: int = field(default=3, metadata={"help": "How often to measure each variant."})
    variant: str | None = field(
        default=None,
        metadata={
            "help": f"Measure only this variant, in this process, and print its seconds: {', '.join(VARIANTS)}."
        },
    )

    def __post_init__(self) -> None:
        if self.variant is not None and self.variant not in VARIANTS:
            raise ValueError(f"--variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")


def step_time(encoder: str, batch_size: int, channels_last: bool, tuned: bool, num_steps: int = 6) -> float:
    """Returns the median duration of a training step in seconds, after two steps to warm up."""
    if tuned:
        tune_cpu()
    model = COLAForPreTraining(COLAConfig(encoder=encoder)).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    anchors, positives = torch.randn(2, batch_size, 96, 64)
    times = []
    for _ in range(2 + num_steps):
        started = time.perf_counter()
        model(anchors, positives).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def step_time_in_own_process(variant: str, args: SpeedArguments) -> float:
    """Runs this job for one variant in a new process, and returns the seconds that it prints."""
    command = [sys.executable, "-m", "run_scripts.measure_speed", "--variant", variant]
    command += ["--encoder", args.encoder, "--batch_size", str(args.batch_size)]
    return float(subprocess.check_output(command, text=True).split()[-1])


def main(argv: list[str] | None = None) -> None:
    """Runs the job with the arguments of a command line, by default those of the process."""
    (args,) = HfArgumentParser(SpeedArguments).parse_args_into_dataclasses(argv)
    if args.variant is not None:
        channels_last, tuned = VARIANTS[args.variant]
        print(step_time(args.encoder, args.batch_size, channels_last, tuned))
        return
    times = {variant: [] for variant in VARIANTS}
    for _ in range(args.rounds):
        for variant in VARIANTS:
            times[variant].append(step_time_in_own_process(variant, args))
    plain = statistics.median(times["plain"])
    print(f"| {args.encoder}, {args.batch_size} pairs per step | seconds | speed-up |\n| --- | ---: | ---: |")
    for variant, values in times.items():
        seconds = statistics.median(values)
        print(f"| {variant} | {seconds:.2f} | {plain / seconds:.2f} |")


if __name__ == "__main__":
    run_job(main)
