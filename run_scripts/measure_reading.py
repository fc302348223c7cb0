"""
Measures how many segment pairs a second one core reads: from clips as AudioSet has them, and from prepared shards.

    python run_scripts/measure_reading.py
    python run_scripts/measure_reading.py --dataset_name path/to/parquet --num_workers 0 1 2

Without `--dataset_name` it writes 10 s clips of tones in noise as AudioSet's (FLAC, 48 kHz, stereo, 24 bits), prepares
them in both formats, and reads each of the three as a stream.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
from datasets import Audio, Dataset, IterableDataset
from torch.utils.data import DataLoader
from transformers import HfArgumentParser

from feature_extraction import COLAFeatureExtractor, SegmentPairs, collate_segment_pairs, load_audio_dataset
from run_scripts import prepare_audio


@dataclass
class ReadingArguments:
    dataset_name: str | None = field(default=None, metadata={"help": "Data to read, in place of made-up clips."})
    num_workers: list[int] = field(default_factory=lambda: [0], metadata={"help": "Processes that read."})
    num_clips: int = field(default=240, metadata={"help": "Clips to make up."})
    seconds: float = field(default=10.0, metadata={"help": "How long to read."})


def pairs_per_second(dataset: IterableDataset, num_workers: int, seconds: float) -> float:
    """Of the processor's time without workers, which other jobs do not move; of the clock's with them."""
    clock = time.process_time if num_workers == 0 else time.perf_counter
    pairs = SegmentPairs(dataset, COLAFeatureExtractor().num_samples(96), buffer_size=64)
    batches = iter(DataLoader(pairs, batch_size=32, num_workers=num_workers, collate_fn=collate_segment_pairs))
    for _ in range(8):
        next(batches)
    started, number = clock(), 0
    while clock() - started < seconds:
        number += len(next(batches)["lengths"]) // 2
    return number / (clock() - started)


def write_clips(folder: Path, number: int) -> None:
    """Four Parquet shards of FLAC files in AudioSet's format."""
    rng = np.random.default_rng(0)
    time_axis = np.arange(480_000) / 48_000
    paths = []
    for i in range(number):
        tones = sum(np.sin(2 * np.pi * rng.uniform(100, 5000) * time_axis) for _ in range(4))
        stereo = 0.05 * tones[:, None] + 0.05 * rng.standard_normal((len(time_axis), 2))
        paths.append(str(folder / f"{i}.flac"))
        soundfile.write(paths[-1], stereo, 48_000, subtype="PCM_24")
    (folder / "parquet").mkdir()
    for shard in range(4):
        rows = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in paths[shard::4]]
        data = Dataset.from_dict({"audio": rows}).cast_column("audio", Audio(decode=False))
        data.to_parquet(folder / "parquet" / f"train-{shard:05}-of-00004.parquet")


def main(argv: list[str] | None = None) -> None:
    (args,) = HfArgumentParser(ReadingArguments).parse_args_into_dataclasses(argv)
    torch.set_num_threads(1)
    print("| data | workers | pairs/s |\n| --- | ---: | ---: |")

    def measure(name: str, label: str) -> None:
        dataset = load_audio_dataset(name, streaming=True)["train"]
        for num_workers in args.num_workers:
            print(f"| {label} | {num_workers} | {pairs_per_second(dataset, num_workers, args.seconds):.0f} |")

    if args.dataset_name:
        measure(args.dataset_name, Path(args.dataset_name).name)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), args.num_clips)
        source = f"{folder}/parquet"
        measure(source, "FLAC, 48 kHz, stereo, 24 bits")
        for format in prepare_audio.FORMATS:
            output = f"{folder}/{format}"
            prepare_audio.main(["--dataset_name", source, "--streaming", "--output_dir", output, "--format", format])
            measure(output, f"prepared, {format}")


if __name__ == "__main__":
    main()
