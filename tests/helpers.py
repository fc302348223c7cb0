"""What several test files need: small audio made by code, and the arguments of short runs."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from datasets import Audio, Dataset, Features, List, Value
from pytest import MonkeyPatch

from modeling_cola import COLAConfig, COLAModel, COLAPreTrainedModel
from run_scripts.common.resume import PROGRESS_DIR
from run_scripts.pretraining.objectives import DistillationObjective


ROOT = Path(__file__).parents[1]
# Packages that take the place of what is missing on a path.
STAND_INS = Path(__file__).parent / "stand_ins"

# The columns of AudioSet's copy on the Hub.
AUDIOSET = Features(
    {
        "video_id": Value("string"),
        "audio": Audio(),
        "labels": List(Value("string")),
        "human_labels": List(Value("string")),
    }
)


def has_torchcodec() -> bool:
    """Whether torchcodec is installed and finds FFmpeg's libraries."""
    try:
        from torchcodec.decoders import AudioDecoder

        AudioDecoder(encode(np.zeros(400)))
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def count_decoded(monkeypatch: MonkeyPatch) -> list[int]:
    """A list that gets the number of samples of each read that soundfile does from here on."""
    decoded = []
    read = soundfile.SoundFile.read

    def counting_read(self, *args, **kwargs):
        samples = read(self, *args, **kwargs)
        decoded.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counting_read)
    return decoded


def encode(samples: np.ndarray, rate: int = 16000, container: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def numbered_clip(number: int, num_samples: int = 1600) -> np.ndarray:
    """Rises from number / 100 to (number + 1) / 100: any part of it says which clip it is of, and where it lies."""
    return (number + 0.1 + 0.8 * np.arange(num_samples) / num_samples) / 100


def flac(samples: np.ndarray, rate: int = 16000) -> bytes:
    """The bytes of a FLAC file that keeps apart the samples of a numbered clip."""
    return encode(samples, rate, "FLAC", "PCM_24")


def write_flac(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(flac(samples))


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """A tar file of files, by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def audio_dataset(clips: list[dict | None], features: Features | None = None, **columns) -> Dataset:
    """A data set of encoded clips. `datasets` needs torchcodec to make one directly."""
    features = features or Features({"audio": Audio()})
    stored = {"bytes": Value("binary"), "path": Value("string")}
    plain = {name: stored if isinstance(feature, Audio) else feature for name, feature in features.items()}
    return Dataset.from_dict({"audio": clips, **columns}, features=Features(plain)).cast(features)


def write_tones(folder: Path, pitches: dict[str, float], clips_per_class: int, seconds: float = 2.0) -> Path:
    """A sub-folder for each class, whose clips are tones around its pitch in noise."""
    rng = np.random.default_rng(0)
    for name, pitch in pitches.items():
        (folder / name).mkdir(parents=True)
        for i in range(clips_per_class):
            time = np.arange(int(seconds * 16000)) / 16000
            tone = np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time) * rng.uniform(0.1, 0.5)
            soundfile.write(folder / name / f"{i}.wav", tone + 0.02 * rng.standard_normal(len(time)), 16000)
    return folder


def pretraining_arguments(data: Path, output_dir: Path, *more: str) -> list[str]:
    """The command line of a pre-training run of four steps of the compact encoder."""
    arguments = ["--dataset_name", str(data), "--output_dir", str(output_dir), "--encoder", "compact"]
    if "--objective" not in more:
        arguments += ["--similarity", "cosine"]
    arguments += ["--recipe", "modern", "--per_device_train_batch_size", "8", "--max_steps", "4"]
    arguments += ["--logging_steps", "1", "--eval_steps", "2", "--save_steps", "2", "--dataloader_num_workers", "0"]
    return arguments + list(more)


def with_teacher(objective: COLAPreTrainedModel) -> COLAPreTrainedModel:
    """Gives the objective a small teacher with random weights, if it is distillation."""
    if isinstance(objective, DistillationObjective):
        values = objective.config.to_dict() | {"compact_channels": 4, "hidden_size": 24}
        random = torch.Generator().manual_seed(0)
        frames = torch.randn(256, objective.config.window_size, objective.config.num_mel_bins, generator=random)
        objective.set_teacher(COLAModel(COLAConfig(**values)))
        objective.fit_targets(frames)
    return objective


def run_processes(
    script: Path, arguments: list[str], num_processes: int = 2, use_cpu: bool = True
) -> subprocess.CompletedProcess:
    """
    Runs a script in several processes, which end within five minutes. Returns what they wrote to stderr. With
    `use_cpu`, accelerate is told to use CPUs.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["ACCELERATE_USE_CPU"] = str(use_cpu).lower()
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.run([*command, str(script), *arguments], env=environment, timeout=300, **pipes)


def times_of_finished_files(folder: Path) -> dict[Path, int]:
    """
    When the files of the output were written that its progress lists. A kill may come after a file was written and
    before it was listed, which the next run then writes again.
    """
    parts = [json.loads(path.read_text()) for path in (folder / PROGRESS_DIR).glob("part-*.json")]
    return {folder / name: (folder / name).stat().st_mtime_ns for part in parts for name in part["files"]}
