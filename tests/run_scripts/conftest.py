"""Small folders of audio and a small checkpoint, made once for all tests of the scripts."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from feature_extraction import COLAFeatureExtractor
from helpers import pretraining_arguments, write_tones
from model_helpers import build
from modeling_cola import COLAForAudioClassification, COLAModel


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 16 clips of 2 s."""
    return write_tones(tmp_path_factory.mktemp("tones"), {"low": 150.0, "middle": 600.0, "high": 2400.0}, 16)


@pytest.fixture(scope="session")
def pretrained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after four steps on the tones."""
    from run_scripts import run_pretraining

    return run_pretraining.main(pretraining_arguments(tones, tmp_path_factory.mktemp("pretrained")))


@pytest.fixture(scope="session")
def encoder() -> tuple[COLAModel, COLAFeatureExtractor]:
    """The checkpoint that ships with the project."""
    from run_scripts.embedding.arguments import CHECKPOINT

    return COLAModel.from_pretrained(CHECKPOINT), COLAFeatureExtractor.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="session")
def embedded(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones embedded by that checkpoint, a vector for each clip."""
    from run_scripts import run_embedding

    folder = tmp_path_factory.mktemp("embedded")
    run_embedding.main(["--dataset_name", str(tones), "--output_dir", str(folder)])
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes with random weights."""
    folder = tmp_path_factory.mktemp("classifier")
    build(COLAForAudioClassification, id2label={0: "dog", 1: "cat", 2: "cow"}).save_pretrained(folder)
    COLAFeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """A list that gets each figure that is saved."""
    saved = []
    save = Figure.savefig

    def record(self, *args, **kwargs):
        saved.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return saved
