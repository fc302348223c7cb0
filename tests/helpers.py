"""What several test files need: small audio made by code, and the arguments of short runs."""

from pathlib import Path

import numpy as np
import soundfile
from datasets import Audio, Features, List, Value
from pytest import MonkeyPatch


# The columns of AudioSet's copy on the Hub.
AUDIOSET = Features(
    {
        "video_id": Value("string"),
        "audio": Audio(),
        "labels": List(Value("string")),
        "human_labels": List(Value("string")),
    }
)


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
