"""
How time and memory grow with the size of the input.

Each point is measured in a process of its own, whose peak of memory is its own too. The memory is what is added to
that of the libraries, the model and the input.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


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
    import io
    from itertools import islice

    import numpy as np
    import soundfile
    from datasets import Audio, Features, IterableDataset

    from feature_extraction import SegmentPairs

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(400), 16000, format="WAV")
    row = {"audio": {"bytes": file.getvalue(), "path": "clip.wav"}}

    def rows() -> object:
        for _ in range(num_rows):
            yield row

    dataset = IterableDataset.from_generator(rows, features=Features(audio=Audio(decode=False)))
    pairs = iter(SegmentPairs(dataset, 400, buffer_size=64))
    return lambda: sum(1 for _ in islice(pairs, num_rows))


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
