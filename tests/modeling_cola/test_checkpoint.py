"""The checkpoints that are in the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAForAudioClassification, COLAForPreTraining, COLAModel
from run_scripts.embedding.embedders import encoder_embedder
from tools.synthesis.corpus import FAMILIES, synthesize_clip


ROOT = Path(__file__).parents[2]
CHECKPOINTS = sorted((ROOT / "modeling_cola").glob("cola-*"))
SOURCES = [
    "modeling_cola/configuration_cola.py",
    "modeling_cola/modeling_cola.py",
    "feature_extraction/feature_extraction_cola.py",
]
HALVES = (slice(0, 16000), slice(16000, 32000))


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda path: path.name)
def checkpoint(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> COLAModel:
    return COLAModel.from_pretrained(checkpoint)


def test_the_checkpoints_are_there():
    assert [path.name for path in CHECKPOINTS] == ["cola-base", "cola-compact", "cola-efficientnet-b0"]


def test_is_small_and_whole(model: COLAModel, checkpoint: Path):
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < 15 * 2**20
    _, info = COLAModel.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    sizes = {"cola-base": 3072, "cola-compact": 1536, "cola-efficientnet-b0": 1280}
    assert model.config.hidden_size == sizes[checkpoint.name]
    assert not model.training
    assert all(value.dtype == torch.float32 for value in model.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("cls", [COLAForAudioClassification, COLAForPreTraining])
def test_is_a_start_for_training(model: COLAModel, checkpoint: Path, cls: type):
    encoder = cls.from_pretrained(checkpoint).cola.state_dict()
    assert all(torch.equal(encoder[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("source", SOURCES)
def test_code_beside_the_weights_is_the_projects(checkpoint: Path, source: str):
    source = ROOT / source
    copy = checkpoint / source.name
    assert not copy.is_symlink()
    assert copy.read_bytes() == source.read_bytes(), "The checkpoint's code is out of date: run make checkpoints."


def test_copy_loads_where_the_project_is_not_installed(model: COLAModel, checkpoint: Path, tmp_path: Path):
    copy = shutil.copytree(checkpoint, tmp_path / checkpoint.name, symlinks=True)
    code = f"""
import sys
sys.modules["modeling_cola"] = sys.modules["feature_extraction"] = None  # importing them is an ImportError
import numpy
from transformers import AutoFeatureExtractor, AutoModel
extractor = AutoFeatureExtractor.from_pretrained({str(copy)!r}, trust_remote_code=True)
model = AutoModel.from_pretrained({str(copy)!r}, trust_remote_code=True)
waveform = numpy.random.default_rng(0).standard_normal(40000)
inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
numpy.save("embedding.npy", model(**inputs).pooler_output.detach().numpy())
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    waveform = np.random.default_rng(0).standard_normal(40000)
    inputs = COLAFeatureExtractor.from_pretrained(checkpoint)(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).pooler_output.numpy()
    np.testing.assert_allclose(np.load(tmp_path / "embedding.npy"), expected, rtol=1e-4, atol=1e-5)


def test_matches_the_halves_of_recordings_better_than_random_weights(model: COLAModel, checkpoint: Path):
    clips = [synthesize_clip(family, i, duration=2.0) for family in FAMILIES for i in range(8)]

    def accuracy(model: COLAModel) -> float:
        embed = encoder_embedder(model, COLAFeatureExtractor.from_pretrained(checkpoint))
        halves = np.stack([embed([clip[half] for clip in clips]) for half in HALVES])
        halves = (halves - halves.mean((0, 1))) / halves.std((0, 1)).clip(1e-6)
        first, second = halves / np.linalg.norm(halves, axis=-1, keepdims=True)
        return float(((first @ second.T).argmax(1) == np.arange(len(clips))).mean())

    torch.manual_seed(0)
    untrained = COLAModel(COLAConfig.from_pretrained(checkpoint))
    assert accuracy(model) > max(0.85, accuracy(untrained) + 0.1)
