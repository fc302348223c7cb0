"""The index of a search: where it is kept, when it is made anew, and how much memory it takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT
from run_scripts.embedding import search
from run_scripts.embedding.parts import SETTINGS, PartWriter
from run_scripts.embedding.search import Index


def write_part(folder: Path, number: int, num_rows: int = 8, hidden_size: int = 16) -> np.ndarray:
    """Writes a part of random vectors, and returns these."""
    vectors = np.random.default_rng(number).standard_normal((num_rows, hidden_size)).astype(np.float32)
    writer = PartWriter(folder / f"part-{number:05}.parquet", hidden_size, False, True)
    for i, block in enumerate(np.array_split(vectors, 8)):
        writer.add(number, f"{number}-{i}.wav", f"label {number}", 1.0, block, [None] * len(block))
    writer.close()
    (folder / SETTINGS).write_text(json.dumps({"model_name_or_path": None}))
    return vectors


def test_it_is_written_once_and_anew_when_the_parts_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vectors = write_part(tmp_path, 0)
    first = Index(tmp_path)
    assert first.search(vectors[3])[0] == {
        "similarity": pytest.approx(1),
        "clip": 0,
        "path": "0-3.wav",
        "seconds": 1.0,
        "label": "label 0",
    }
    with monkeypatch.context() as patch:
        patch.setattr(search, "write_index", None)
        np.testing.assert_array_equal(Index(tmp_path).vectors, first.vectors)
    more = write_part(tmp_path, 1)
    grown = Index(tmp_path)
    assert len(grown.rows) == 16 and grown.search(more[5])[0]["path"] == "1-5.wav"
    np.testing.assert_allclose(grown.mean, np.concatenate([vectors, more]).mean(axis=0), atol=1e-6)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_that_cannot_be_written_to_is_searched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vectors = write_part(tmp_path, 0)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(search.os, "access", lambda *_: False)
    index = Index(tmp_path)
    assert index.search(vectors[3])[0]["path"] == "0-3.wav"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process in this way")
def test_a_search_needs_less_memory_than_the_vectors(tmp_path: Path):
    """The index is made and searched where memory of a third of the vectors' size may be allocated."""
    for number in range(4):
        vectors = write_part(tmp_path, number, 10_000, 1024)
    np.save(tmp_path / "query.npy", vectors[-1])
    code = """
import re, resource, sys
from pathlib import Path
import numpy as np
from run_scripts.embedding import search
search.BLOCK_ROWS = 1024
np.ones((512, 512)) @ np.ones((512, 512))  # starts the threads of NumPy
used = 1024 * int(re.search("VmData:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1])
limit = used + 40_000 * 1024 * 4 // 3
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
folder = Path(sys.argv[1])
print(search.Index(folder).search(np.load(folder / "query.npy"))[0]["path"])
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.check_output(command, text=True, cwd=ROOT).split() == ["3-7.wav"]
