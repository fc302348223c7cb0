"""
Checks this project on a GPU in about ten minutes, without any download, and writes the tables for docs/scaling.md.

    python -m tools.gpu_check --output_dir outputs/gpu-check

It runs the tests that need a GPU; compares the loss and the vectors of the checkpoints with those of the CPU; measures
training steps, a short pre-training from prepared shards, and embedding; and, in the time that is left, training steps
with a compiled encoder. Each step adds its table to `gpu_check.md` when it is done, whatever became of the others. The
exit status is 1 if a step failed or if a difference is above its tolerance.
"""

import copy
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from run_scripts.common.checkpoints import load_encoder
from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError
from run_scripts.embedding.embedders import Embedder, encoder_embedder
from run_scripts.embedding.encode import embed_in_batches
from run_scripts.pretraining.arguments import PretrainingArguments
from run_scripts.pretraining.recipes import ModelSettings
from run_scripts.pretraining.train import build_model
from tools.measure_speed import machine
from tools.speed.workloads import Run, noise, training_step
from tools.synthesis.corpus import synthesize_clip, write_corpus
from tools.synthesis.families import FAMILIES


ROOT = Path(__file__).parents[1]

# How far the results of the device may be from those of the CPU in float32: a loss relatively, a vector as the length
# of the difference, relative to its own. In bfloat16, a number has 8 significant bits.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}


@dataclass(frozen=True)
class Encoder:
    """An encoder as a recipe trains it, and the checkpoint of it that ships with the project."""

    name: str
    checkpoint: str
    recipe: str
    settings: ModelSettings


ENCODERS = [
    Encoder("EfficientNet-B0", "cola-efficientnet-b0", "paper", ModelSettings()),
    Encoder(
        "base",
        "cola-base",
        "best",
        ModelSettings(compact_channels=[64, 128, 128], compact_depth=2, pooling_stages=2),
    ),
    Encoder("compact", "cola-compact", "best", ModelSettings()),
]


@dataclass(frozen=True)
class Sizes:
    """How much is computed: batch sizes in pairs, the seconds of a measurement, and the clips of 10 s to embed."""

    batch_sizes: tuple[int, ...]
    compiled_batch_sizes: tuple[int, ...]
    compared_pairs: int
    seconds: float
    embedded_clips: int
    clips_per_family: int
    pretraining_batch_size: int
    pretraining_steps: int


# Of the compiled batch sizes, the later ones are left out if there is no time.
ON_GPU = Sizes((64, 256, 1024, 2048), (2048, 64, 256, 1024), 64, 1.0, 256, 200, 256, 200)
ON_CPU = Sizes((4,), (), 32, 0.0, 2, 4, 4, 4)


@dataclass
class GpuCheckArguments:
    output_dir: str = field(metadata={"help": "Folder of the tables, and of the short run."})
    cpu: bool = field(
        default=False, metadata={"help": "Run on the CPU, in tiny sizes, which tests nothing but this program."}
    )
    minutes: float = field(default=9.0, metadata={"help": "After this time, nothing more is compiled."})


@dataclass
class Check:
    """What the steps share: where they run, how much they do, and what is wrong so far."""

    device: torch.device
    sizes: Sizes
    folder: Path
    deadline: float
    failures: list[str] = field(default_factory=list)

    def run(self, *command: str) -> str:
        """
        Runs a Python module in the root of the repository, and returns what it prints.

        Raises:
            `RuntimeError`: With the end of its output, if it fails.
        """
        environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if self.device.type == "cpu" else {})
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
        return done.stdout

    def synchronize(self) -> None:
        """Waits for the device, which works on while Python goes ahead."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds_of(self, run: Run) -> float:
        """The mean time of a run that has run before."""
        started = self._now()
        run()
        count = max(math.ceil(self.sizes.seconds / (self._now() - started)), 3)
        started = self._now()
        for _ in range(count):
            run()
        return (self._now() - started) / count

    def _now(self) -> float:
        self.synchronize()
        return time.perf_counter()

    def compare(self, what: str, dtype: str, difference: float) -> str:
        """Returns the row of a comparison with the CPU, and notes it if it fails."""
        tolerance = TOLERANCES[dtype]
        is_close = difference <= tolerance  # which NaN is not
        if not is_close:
            self.failures.append(f"{what} in {dtype} differs by {difference:.2g}, more than {tolerance:g}.")
        return f"| {what} | {dtype} | {difference:.1e} | {tolerance:g} | {'yes' if is_close else '**no**'} |"


def run_gpu_tests(check: Check) -> list[str]:
    """Runs the tests marked `gpu`, or on a CPU collects them."""
    options = ["--collect-only"] if check.device.type == "cpu" else []
    output = check.run("pytest", "-q", "-m", "gpu", *options, "tests")
    return [f"`pytest -m gpu`: {output.strip().splitlines()[-1].strip('= ')}."]


@contextmanager
def exact_float32() -> Iterator[None]:
    """Multiplies float32 numbers as they are: by default, convolutions on GPUs round them to TF32."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    allowed = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, is_allowed in zip(backends, allowed):
            backend.allow_tf32 = is_allowed


def compare_with_cpu(check: Check) -> list[str]:
    """Compares the loss of each encoder with random weights, and the vectors of each checkpoint, with the CPU's."""
    rows = ["| compared with float32 on the CPU | precision | difference | tolerance | within |"]
    rows += ["| --- | --- | ---: | ---: | --- |"]
    families = islice(cycle(FAMILIES), 2 * check.sizes.compared_pairs)
    pairs = [synthesize_clip(family, number, duration=1.0) for number, family in enumerate(families)]
    clips = [synthesize_clip(family, 0, duration=1.0 + number) for number, family in enumerate(FAMILIES)]
    for encoder in ENCODERS:
        for what, compute in (("loss", loss_of(encoder, pairs)), ("vectors", vectors_of(encoder, clips))):
            expected = compute(torch.device("cpu"), "float32")
            for dtype in TOLERANCES:
                with exact_float32():
                    found = compute(check.device, dtype)
                distance = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
                rows.append(check.compare(f"{encoder.name}, {what}", dtype, distance.max().item()))
    return rows


# Computes numbers on a device in a precision, and returns them as float32 on the CPU; the last dimension is a vector.
Computation = Callable[[torch.device, str], torch.Tensor]


def loss_of(encoder: Encoder, segments: list[np.ndarray]) -> Computation:
    """The loss of a training step, without what is random in it; the first half of the segments are the anchors."""
    torch.manual_seed(0)
    model, extractor = build_model(PretrainingArguments(output_dir="", recipe=encoder.recipe), encoder.settings)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    length = extractor.num_samples(model.config.window_size)
    waveforms = torch.from_numpy(np.stack([segment[:length] for segment in segments]))

    def compute(device: torch.device, dtype: str) -> torch.Tensor:
        on_device = copy.deepcopy(model).to(device, memory_format=model.memory_format)
        lengths = torch.full((len(waveforms),), length, device=device)
        anchors, positives = extractor.log_mel(waveforms.to(device), lengths)[0].chunk(2)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = on_device(input_values=anchors, positive_values=positives).loss
        return loss.detach().float().cpu()[None]

    return compute


def vectors_of(encoder: Encoder, clips: list[np.ndarray]) -> Computation:
    """The vectors that the checkpoint gives for clips of several lengths."""
    model, extractor = load_encoder(ROOT / "modeling_cola" / encoder.checkpoint)

    @torch.inference_mode()
    def compute(device: torch.device, dtype: str) -> torch.Tensor:
        on_device = copy.deepcopy(model).eval().to(device)
        features = extractor(clips, extractor.sampling_rate, return_tensors="pt", device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return on_device(**features).pooler_output.float().cpu()

    return compute


def measure_steps(check: Check) -> list[str]:
    """Training steps of each encoder and batch size, with log-mel features and augmentation."""
    rows = ["| encoder | pairs | float32: steps/s | memory | bfloat16: steps/s | memory |"]
    rows += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for encoder in ENCODERS:
        for num_pairs in check.sizes.batch_sizes:
            cells = [cell for part in ((), ("bf16",)) for cell in time_step(check, encoder, num_pairs, *part)[:2]]
            rows.append(f"| {encoder.name} | {num_pairs:,} | {' | '.join(cells)} |")
    return rows


def measure_compiled_steps(check: Check) -> list[str]:
    """The same in bfloat16 with a compiled encoder, as far as there is time."""
    rows = ["| encoder, compiled | pairs | bfloat16: steps/s | memory | first step |"]
    rows += ["| --- | ---: | ---: | ---: | ---: |"]
    for num_pairs in check.sizes.compiled_batch_sizes:
        for encoder in ENCODERS:
            if time.monotonic() > check.deadline:
                cells = ["not measured: out of time", "", ""]
            else:
                cells = time_step(check, encoder, num_pairs, "bf16", "compiled")
            rows.append(f"| {encoder.name} | {num_pairs:,} | {' | '.join(cells)} |")
    return rows if len(rows) > 2 else []


def time_step(check: Check, encoder: Encoder, num_pairs: int, *parts: str) -> list[str]:
    """
    Times a training step, and notes it if it fails for another reason than a lack of memory.

    Returns:
        The steps in a second, the most memory that was allocated, and the time of the first step, as cells of a table.
    """
    print(f"  {', '.join([encoder.name, f'{num_pairs} pairs', *parts])}", flush=True)
    if "compiled" in parts:
        torch.compiler.reset()  # or the next batch size would be compiled for sizes of any kind
    free_memory(check.device)
    try:
        step = training_step(
            encoder.recipe,
            "features",
            *parts,
            num_pairs=num_pairs,
            model_settings=encoder.settings,
            device=check.device.type,
        )
        started = time.perf_counter()
        step()
        check.synchronize()
        first = time.perf_counter() - started
        for _ in range(2):  # which may still choose algorithms
            step()
        speed = 1 / check.seconds_of(step)
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
            return ["out of memory", "", ""]
        traceback.print_exc()
        check.failures.append(f"A step of {encoder.name} with {num_pairs} pairs {parts} failed: {error!r}")
        return ["failed", "", ""]
    return [f"{speed:.3g}", peak_memory(check.device), f"{first:.0f} s"]


def free_memory(device: torch.device) -> None:
    """Gives the memory of what came before back to the GPU, and counts its peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> str:
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else "–"


def pretrain(check: Check) -> list[str]:
    """Pre-trains for a few hundred steps from shards that `prepare_audio.py` writes, as docs/scaling.md describes."""
    free_memory(check.device)  # which the runs need, as processes of their own
    size, steps = check.sizes.pretraining_batch_size, check.sizes.pretraining_steps
    workers = min(os.cpu_count(), 8) if check.device.type == "cuda" else 1
    rows = [f"| {size} pairs, `--dataloader_num_workers {workers}` | segments/s | data wait | loss |"]
    rows += ["| --- | ---: | ---: | --- |"]
    with tempfile.TemporaryDirectory(dir=check.folder) as folder:
        write_corpus(f"{folder}/clips", check.sizes.clips_per_family)
        check.run("run_scripts.prepare_audio", "--dataset_name", f"{folder}/clips", "--output_dir", f"{folder}/shards")
        for recipe in ("paper", "best"):
            command = ["run_scripts.run_pretraining", "--dataset_name", f"{folder}/shards", "--streaming", "--bf16"]
            command += ["--recipe", recipe, "--output_dir", f"{folder}/{recipe}", "--max_steps", str(steps)]
            command += ["--per_device_train_batch_size", str(size), "--dataloader_num_workers", str(workers)]
            check.run(*command, "--logging_steps", str(steps // 4), "--validation_clips", "16")
            history = json.loads(Path(folder, recipe, "training_state.json").read_text())["history"]
            log = [entry for entry in history if "data_wait" in entry]
            speed, wait = log[-1]["segments_per_second"], log[-1]["data_wait"]
            losses = f"{log[0]['loss']:.2f} to {log[-1]['loss']:.2f}"
            rows.append(f"| `--recipe {recipe}` | {speed:,.0f} | {100 * wait:.0f} % | {losses} |")
    return rows


def measure_embedding(check: Check) -> list[str]:
    """Embedding clips of 10 s that are in memory, log-mel features included, by the loop of all scripts."""
    clips = noise(check.sizes.embedded_clips, 10)
    rows = [f"| embedding {len(clips)} clips of 10 s | x real time | memory |", "| --- | ---: | ---: |"]
    for encoder in ENCODERS:
        free_memory(check.device)
        model, extractor = load_encoder(ROOT / "modeling_cola" / encoder.checkpoint)
        embed = encoder_embedder(model.to(check.device), extractor)
        run = partial(embed_all, embed, clips)
        run()  # to warm up
        speed = 10 * len(clips) / check.seconds_of(run)
        rows.append(f"| {encoder.checkpoint} | {speed:,.0f} | {peak_memory(check.device)} |")
    return rows


def embed_all(embed: Embedder, clips: list[np.ndarray]) -> None:
    for _ in embed_in_batches(embed, enumerate(clips)):
        pass


STEPS = {
    "Tests on the GPU": run_gpu_tests,
    "Agreement with the CPU": compare_with_cpu,
    "Training steps": measure_steps,
    "Pre-training": pretrain,
    "Embedding": measure_embedding,
    "Compiled training steps": measure_compiled_steps,
}


def describe_machine(device: torch.device) -> str:
    if device.type == "cpu":
        return f"No GPU. {machine()}"
    properties = torch.cuda.get_device_properties(device)
    gpu = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return f"{gpu}, torch {torch.__version__}. {machine()}"


def main(argv: list[str] | None = None) -> Path:
    """
    Runs the script with command-line arguments and returns its folder.

    Raises:
        [`UserError`]: If there is no GPU, and `--cpu` was not given.
        `SystemExit`: With status 1, if anything failed.
    """
    (args,) = ArgumentParser(GpuCheckArguments).parse(argv)
    if not (args.cpu or torch.cuda.is_available()):
        raise UserError("There is no GPU that PyTorch can use. --cpu tests this program on the CPU.")
    device = torch.device("cpu" if args.cpu else "cuda")
    deadline = time.monotonic() + 60 * args.minutes
    check = Check(device, ON_CPU if args.cpu else ON_GPU, Path(args.output_dir), deadline)
    check.folder.mkdir(parents=True, exist_ok=True)
    report = [describe_machine(device)]
    for number, (title, step) in enumerate(STEPS.items(), 1):
        print(f"{number}/{len(STEPS)} {title}", flush=True)
        try:
            rows = step(check)
        except Exception as error:
            traceback.print_exc()
            rows = [f"{title}: failed."]
            check.failures.append(f"{title}: {error!r}")
        report += ["", *rows] if rows else []
        # After each step, since all of them take a while.
        (check.folder / "gpu_check.md").write_text("\n".join(report) + "\n")
    print("\n".join(["", *report, ""]))
    if check.failures:
        print("\n".join(["Failed:", *check.failures]), file=sys.stderr)
        raise SystemExit(1)
    print(f"All is within the tolerances. Saved {check.folder / 'gpu_check.md'}.")
    return check.folder


if __name__ == "__main__":
    run_script(main)
