"""Small folders of audio, made by code."""

from pathlib import Path

import numpy as np
import pytest
import soundfile


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


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 16 clips of 2 s."""
    return write_tones(tmp_path_factory.mktemp("tones"), {"low": 150.0, "middle": 600.0, "high": 2400.0}, 16)


@pytest.fixture(scope="session")
def pretrained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after four steps on the tones."""
    import run_pretraining

    return run_pretraining.main(pretraining_arguments(tones, tmp_path_factory.mktemp("pretrained")))


def pretraining_arguments(data: Path, output_dir: Path, *more: str) -> list[str]:
    similarity = () if "--objective" in more else ("--similarity", "cosine")
    return [
        *("--dataset_name", str(data), "--output_dir", str(output_dir), "--encoder", "compact"),
        *(*similarity, "--recipe", "modern", "--per_device_train_batch_size", "8", "--max_steps", "4"),
        *("--logging_steps", "1", "--eval_steps", "2", "--save_steps", "2", "--dataloader_num_workers", "0"),
        *more,
    ]
