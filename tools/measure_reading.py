"""
Measures how many segment pairs a CPU core reads per second, from clips in AudioSet's format and from prepared shards.

    python -m tools.measure_reading
    python -m tools.measure_reading --dataset_name path/to/parquet --num_workers 0 1 2

Without `--dataset_name`, it writes clips of 10 s in AudioSet's format (FLAC, 48 kHz, stereo, 24 bits), tones in noise,
prepares them in both formats of `prepare_audio.py`, and measures all three as streams.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader

from feature_extraction import COLAFeatureExtractor, SegmentPairs, collate_segment_pairs, load_audio_dataset
from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.source_arguments import SourceArguments
from run_scripts.preparation.arguments import SUFFIXES, PreparationArguments
from run_scripts.preparation.prepare import prepare
from tools.speed.workloads import audioset_clips, write_audioset_shards


@dataclass
class ReadingArguments:
    dataset_name: str | None = field(
        default=None, metadata={"help": "The data set to read. Defaults to synthetic clips."}
    )
    num_workers: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "Numbers of worker processes to measure with."}
    )
    num_clips: int = field(default=240, metadata={"help": "Number of synthetic clips."})
    seconds: float = field(default=10.0, metadata={"help": "Duration of each measurement."})


def pairs_per_second(dataset: IterableDataset, num_workers: int, seconds: float) -> float:
    """
    Measures the rate at which segment pairs are read.

    Without workers it is a rate per second of CPU time, which other programs do not affect; with workers it is one per
    second of elapsed time.
    """
    clock = time.process_time if num_workers == 0 else time.perf_counter
    pairs = SegmentPairs(dataset, COLAFeatureExtractor().num_samples(96), buffer_size=64)
    batches = iter(DataLoader(pairs, batch_size=32, num_workers=num_workers, collate_fn=collate_segment_pairs))
    for _ in range(8):  # to fill the buffers
        next(batches)
    started, number = clock(), 0
    while clock() - started < seconds:
        number += len(next(batches)["lengths"]) // 2
    return number / (clock() - started)


def print_rates(name: str, label: str, args: ReadingArguments) -> None:
    """Measures a data set with each number of workers, and prints the rows of the table."""
    dataset = load_audio_dataset(name, streaming=True)["train"]
    for num_workers in args.num_workers:
        print(f"| {label} | {num_workers} | {pairs_per_second(dataset, num_workers, args.seconds):.0f} |")


def main(argv: list[str] | None = None) -> None:
    """Runs the script with command-line arguments."""
    (args,) = ArgumentParser(ReadingArguments).parse(argv)
    torch.set_num_threads(1)
    print("| data | workers | pairs/s |\n| --- | ---: | ---: |")
    if args.dataset_name:
        print_rates(args.dataset_name, Path(args.dataset_name).name, args)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_audioset_shards(Path(folder, "parquet"), audioset_clips(args.num_clips), num_shards=4)
        source = SourceArguments(dataset_name=f"{folder}/parquet", streaming=True)
        print_rates(source.dataset_name, "FLAC, 48 kHz, stereo, 24 bits", args)
        for format in SUFFIXES:
            output_dir = f"{folder}/{format}"
            prepare(source, PreparationArguments(output_dir=output_dir, format=format))
            print_rates(output_dir, f"prepared, {format}", args)


if __name__ == "__main__":
    run_script(main)
