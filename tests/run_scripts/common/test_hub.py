from pathlib import Path

import pytest

from run_scripts.common.hub import hub_name


@pytest.mark.parametrize("name", ["agkphysics/AudioSet", "speech_commands"])
def test_names_on_the_hub_are_kept(name: str):
    assert hub_name(name) == name


@pytest.mark.parametrize("name", [None, "/data/clips", "data/*.parquet", "a/b/c", "clips.csv", "me/clip.wav"])
def test_paths_are_not_names(name: str | None):
    assert hub_name(name) is None


def test_a_folder_is_not_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("me/clips").mkdir(parents=True)
    assert hub_name("me/clips") is None
