"""Small folders of audio and a small checkpoint, made once for all tests of the jobs."""

from pathlib import Path

import pytest

from helpers import pretraining_arguments, write_tones


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 16 clips of 2 s."""
    return write_tones(tmp_path_factory.mktemp("tones"), {"low": 150.0, "middle": 600.0, "high": 2400.0}, 16)


@pytest.fixture(scope="session")
def pretrained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after four steps on the tones."""
    from run_scripts import run_pretraining

    return run_pretraining.main(pretraining_arguments(tones, tmp_path_factory.mktemp("pretrained")))
