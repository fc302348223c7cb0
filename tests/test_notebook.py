"""The notebook runs from start to end."""

from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


@pytest.mark.extra
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
    for package in ("feature_extraction", "modeling_cola", "run_scripts"):
        (tmp_path / package).symlink_to(ROOT / package)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    notebook = nbformat.read(ROOT / "docs" / "cola.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert (tmp_path / "outputs" / "notebook" / "cola-mine" / "model.safetensors").is_file()
