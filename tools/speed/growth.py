"""
How time and memory grow with the size of the input.

Each point is measured in a process of its own, whose peak of memory is its own too. The memory is what is added to
that of the libraries, the model and the input.
"""

import atexit
import io
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


MIB = 2**20


@dataclass(frozen=True)
class Growth:
    """
    What grows, and with what.

    Args:
        title (`str`):
            What is measured.
        size (`str`):
            What the sizes are of.
        measurement (`str`):
            The function of this module that measures one size.
        sizes (`tuple[int, ...]`):
            The sizes to measure.
        quick_sizes (`tuple[int, ...]`):
            The sizes to measure in quick mode.
    """

    title: str
    size: str
    measurement: str
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]


GROWTHS = {
    "recording": Growth("One recording in one call", "minutes", "embed_recording", (1, 10, 60, 600), (1,)),
    "stream": Growth("A stream of short clips", "rows", "read_stream", (1000, 10_000, 100_000, 1_000_000), (50,)),
    "clips": Growth("Embedding short clips", "clips", "embed_shards", (1000, 10_000, 100_000), (50,)),
    "search": Growth("The first search", "vectors", "search_first", (10_000, 100_000, 1_000_000), (50,)),
    "search_again": Growth("A later search", "vectors", "search_again", (10_000, 100_000, 1_000_000), (50,)),
    "loss": Growth(
        "The loss of one process, forward and backward",
        "pairs, of as many candidates",
        "contrast",
        (512, 1024, 2048, 4096, 8192),
        (64,),
    ),
}


def measure(growth: Growth, is_quick: bool) -> dict[int, tuple[float, float]]:
    """The seconds and the MiB of memory that each size takes."""
    points = {}
    for size in growth.quick_sizes if is_quick else growth.sizes:
        command = [sys.executable, "-m", "tools.speed.growth", growth.measurement, str(size)]
        seconds, memory = subprocess.check_output(command, text=True).split()[-2:]
        points[size] = float(seconds), float(memory)
    return points


def embed_recording(minutes: int) -> Callable[[], object]:
    """Log-mel and compact embeddings of a recording of this length, which is in memory, in one call."""
    from tools.speed.workloads import cola_embedder, noise

    embed = cola_embedder("compact")
    embed(noise(1, 10))  # to warm up
    waveforms = noise(1, 60 * minutes)
    return lambda: embed(waveforms)


def read_stream(num_rows: int) -> Callable[[], object]:
    """The segment pairs of an endless stream, as pre-training reads them, up to this number of rows."""
    from itertools import islice

    from datasets import Audio, Features, IterableDataset

    from feature_extraction import SegmentPairs

    row = {"audio": _encoded_noise(400)}

    def rows() -> object:
        for _ in range(num_rows):
            yield row

    dataset = IterableDataset.from_generator(rows, features=Features(audio=Audio(decode=False)))
    pairs = iter(SegmentPairs(dataset, 400, buffer_size=64))
    return lambda: sum(1 for _ in islice(pairs, num_rows))


def embed_shards(num_clips: int) -> Callable[[], object]:
    """`run_embedding.py` on a stream of shards of 1,000 clips of 0.1 s."""
    from datasets import Audio, Dataset

    from run_scripts import run_embedding

    folder, clip = _temporary_folder(), _encoded_noise(1600)
    for first in range(0, num_clips, 1000):
        rows = Dataset.from_dict({"audio": [clip] * min(1000, num_clips - first)})
        rows.cast_column("audio", Audio(decode=False)).to_parquet(folder / f"train-{first:07}.parquet")
    arguments = ["--dataset_name", str(folder), "--streaming", "--output_dir", str(folder / "vectors")]
    return lambda: run_embedding.main(arguments)


def search_first(num_vectors: int) -> Callable[[], object]:
    """The first search of random vectors of 1,536 numbers, which writes the index. What it maps counts as memory."""
    import json

    import numpy as np

    from run_scripts.embedding.parts import SETTINGS, PartWriter
    from run_scripts.embedding.search import Index

    folder, rng = _temporary_folder(), np.random.default_rng(0)
    (folder / SETTINGS).write_text(json.dumps({"model_name_or_path": None}))
    for first in range(0, num_vectors, 2**14):
        writer = PartWriter(folder / f"part-{first:08}.parquet", 1536, False, True)
        for start in range(first, min(first + 2**14, num_vectors), 1024):
            vectors = rng.random((min(1024, num_vectors - start), 1536), "f4")
            writer.add(start, f"{start}.wav", "label", 1.0, vectors, [None] * len(vectors))
        writer.close()
    query = rng.random(1536, "f4")
    return lambda: Index(folder).search(query)


def search_again(num_vectors: int) -> Callable[[], object]:
    """A search of the same vectors by the index that an earlier process wrote."""
    import multiprocessing

    search = search_first(num_vectors)
    earlier = multiprocessing.get_context("fork").Process(target=search)
    earlier.start()
    earlier.join()
    return search


def _encoded_noise(num_samples: int) -> dict[str, Any]:
    """A clip of noise as it is stored in shards."""
    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(num_samples), 16000, format="WAV")
    return {"bytes": file.getvalue(), "path": "clip.wav"}


def _temporary_folder() -> Path:
    """A folder that is removed when this process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return Path(folder)


def contrast(num_pairs: int) -> Callable[[], object]:
    """The bilinear similarities and the loss of this number of pairs, with gradients."""
    import torch

    from modeling_cola import COLAConfig, COLAForPreTraining, contrastive_loss

    similarity = COLAForPreTraining(COLAConfig(encoder="compact")).similarity
    anchors, positives = torch.randn(2, num_pairs, 512).requires_grad_()
    contrastive_loss(similarity(anchors[:8], positives[:8]))[0].backward()
    return lambda: contrastive_loss(similarity(anchors, positives))[0].backward()


def peak_memory() -> float:
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak * 1024 / MIB


def main(measurement: str, size: str) -> None:
    """Measures one size in this process, and prints the seconds and the MiB."""
    run = globals()[measurement](int(size))
    memory, started = peak_memory(), time.perf_counter()
    run()
    print(time.perf_counter() - started, peak_memory() - memory)


if __name__ == "__main__":
    main(*sys.argv[1:])
