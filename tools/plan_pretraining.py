"""
Computes what a pre-training run takes, from rates that were measured: time, price, reading, network and memory.

    python -m tools.plan_pretraining --pairs_per_second 2000 --price_per_gpu_hour 2.5

The defaults are the full AudioSet, 50 epochs, EfficientNet-B0 with the paper's projection head, and the rates of
docs/scaling.md. Give your own: `python -m tools.measure_reading` measures how many pairs a core reads, and the
progress bar of a run says how many segments it trains on in a second, of which a pair has two.
"""

import math
from dataclasses import dataclass, field

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError


PROJECTION_SIZE = 512  # dimensions of a projected segment
BYTES = 4  # of a number in float32
SECONDS_PER_HOUR = 3600


@dataclass
class PlanArguments:
    """A run, and the rates of the machines that it is planned for."""

    clips: int = field(default=1_790_000, metadata={"help": "Recordings of the data set."})
    epochs: float = field(default=50, metadata={"help": "How often each recording is used."})
    num_gpus: list[int] = field(default_factory=lambda: [1, 8, 64], metadata={"help": "Numbers of GPUs to compare."})
    per_device_train_batch_size: int = field(default=256, metadata={"help": "Pairs of a step and GPU."})
    pairs_per_second: float = field(
        default=2000, metadata={"help": "Pairs that one GPU trains on in a second. The default was not measured."}
    )
    pairs_per_core: float = field(
        default=916, metadata={"help": "Pairs that one CPU core reads in a second; the default is of prepared FLAC."}
    )
    megabytes_per_clip: float = field(
        default=0.25, metadata={"help": "Size of a stored recording; the default is of 10 s of prepared FLAC."}
    )
    million_parameters: float = field(default=4.93, metadata={"help": "Parameters of the model, with its heads."})
    megabytes_per_pair: float = field(
        default=10.9,
        metadata={"help": "Activations of a pair; the default is of EfficientNet-B0 in bf16."},
    )
    price_per_gpu_hour: float | None = field(
        default=None, metadata={"help": "Price of an hour of one GPU, in any currency. Without it no price is shown."}
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            numbers = value if isinstance(value, list) else [value]
            if value is not None and not (numbers and all(0 < number < math.inf for number in numbers)):
                raise UserError(f"--{name} must be above 0 and finite, got {value}.")


def plan(args: PlanArguments, num_gpus: int) -> dict[str, str]:
    """Computes the rows of one column of the table: what the run takes on this number of GPUs."""
    pairs, rate = args.clips * args.epochs, args.pairs_per_second * num_gpus
    batch_size = args.per_device_train_batch_size * num_gpus
    hours = pairs / rate / SECONDS_PER_HOUR
    parameters = 1e6 * args.million_parameters
    gradients = 2 * BYTES * parameters * (num_gpus - 1) / num_gpus  # ring all-reduce
    # Each process gathers the positives of the others, and sends their gradients back.
    positives = 2 * BYTES * PROJECTION_SIZE * args.per_device_train_batch_size * (num_gpus - 1)
    rows = {
        "steps": f"{pairs / batch_size:,.0f}",
        "time": f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.0f} min",
        "GPU hours": f"{hours * num_gpus:,.1f}",
    }
    if args.price_per_gpu_hour is not None:
        rows["price"] = f"{hours * num_gpus * args.price_per_gpu_hour:,.2f}"
    return rows | {
        "bytes read": f"{_size(1e6 * args.megabytes_per_clip * rate)}/s",
        "CPU cores per GPU that read": f"{args.pairs_per_second / args.pairs_per_core:.1f}",
        "sent per process and step: gradients": _size(gradients),
        "sent per process and step: positives, forward and backward": _size(positives),
        "memory per process: weights, gradients, Adam": _size(4 * BYTES * parameters),
        "memory per process: activations": _size(1e6 * args.megabytes_per_pair * args.per_device_train_batch_size),
        "memory per process: logits": _size(BYTES * args.per_device_train_batch_size * batch_size),
    }


def _size(num_bytes: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.3g} {unit}"
    return f"{num_bytes / 1e6:.1g} MB"


def main(argv: list[str] | None = None) -> None:
    """Prints the table in Markdown."""
    (args,) = ArgumentParser(PlanArguments).parse(argv)
    columns = {num_gpus: plan(args, num_gpus) for num_gpus in args.num_gpus}
    print("| quantity | " + " | ".join(f"{n} GPU{'s' * (n > 1)}" for n in columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for row in next(iter(columns.values())):
        print(f"| {row} | " + " | ".join(column[row] for column in columns.values()) + " |")


if __name__ == "__main__":
    run_script(main)
