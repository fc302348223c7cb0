"""
Measures what `tune_cpu` and `channels_last` do for a training step on this machine's CPU, as ratios within one run.

    python run_scripts/measure_speed.py --encoder compact

Each variant runs in a process of its own (the settings cannot be taken back), in turns, so that what else the machine
does meets all of them alike; the median step counts.
"""

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser

from modeling_cola import COLAConfig, COLAForPreTraining
from run_scripts.common.cpu import tune_cpu


VARIANTS = {"plain": (), "channels_last": ("channels_last",), "channels_last and tune_cpu": ("channels_last", "tuned")}


@dataclass
class SpeedArguments:
    encoder: str = field(default="compact", metadata={"help": "The encoder to train."})
    batch_size: int = field(default=64, metadata={"help": "Pairs a step."})
    rounds: int = field(default=3, metadata={"help": "Turns of each variant."})
    settings: list[str] | None = field(default=None, metadata={"help": "Run one variant and print its step time."})


def step_time(encoder: str, batch_size: int, settings: list[str], num_steps: int = 6) -> float:
    """Median seconds of a training step after two to warm up."""
    if "tuned" in settings:
        tune_cpu()
    model = COLAForPreTraining(COLAConfig(encoder=encoder)).train()
    if "channels_last" in settings:
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


def main() -> None:
    (args,) = HfArgumentParser(SpeedArguments).parse_args_into_dataclasses()
    if args.settings is not None:
        print(step_time(args.encoder, args.batch_size, args.settings))
        return
    times = {variant: [] for variant in VARIANTS}
    for _ in range(args.rounds):
        for variant, settings in VARIANTS.items():
            command = [sys.executable, __file__, "--encoder", args.encoder, "--batch_size", str(args.batch_size)]
            printed = subprocess.check_output([*command, "--settings", "variant", *settings], text=True)
            times[variant].append(float(printed.split()[-1]))
    plain = statistics.median(times["plain"])
    print(f"| {args.encoder}, {args.batch_size} pairs a step | seconds | speed-up |\n| --- | ---: | ---: |")
    for variant, values in times.items():
        seconds = statistics.median(values)
        print(f"| {variant} | {seconds:.2f} | {plain / seconds:.2f} |")


if __name__ == "__main__":
    main()
