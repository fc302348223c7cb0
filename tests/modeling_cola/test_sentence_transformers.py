"""sentence-transformers and MAEB take a checkpoint as it is (extras `st` and `maeb`)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from hub_server import serving_hub
from model_helpers import CLASSES, ROOT, build, run_script
from modeling_cola import SENTENCE_TRANSFORMERS_FILES, COLAModel


CHECKPOINT = ROOT / "modeling_cola" / "cola-compact"


def contents(folder: Path) -> dict:
    return {name: json.loads((folder / name).read_text()) for name in SENTENCE_TRANSFORMERS_FILES}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_checkpoint_has_the_files(tmp_path: Path, cls: type):
    build(cls).save_pretrained(tmp_path)
    assert contents(tmp_path) == SENTENCE_TRANSFORMERS_FILES


def test_only_the_main_process_writes_them(tmp_path: Path):
    build().save_pretrained(tmp_path, is_main_process=False)
    assert not any((tmp_path / name).exists() for name in SENTENCE_TRANSFORMERS_FILES)


def test_the_checkpoint_of_the_project_has_the_files():
    assert contents(CHECKPOINT) == SENTENCE_TRANSFORMERS_FILES


@pytest.mark.parametrize("save", [False, True], ids=["push_to_hub", "save_pretrained"])
def test_they_are_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: bool):
    with serving_hub(monkeypatch) as hub:
        if save:
            build().save_pretrained(tmp_path / "model", push_to_hub=True, repo_id="user/model", token="token")
        else:
            build().push_to_hub("user/model", token="token")
    assert set(SENTENCE_TRANSFORMERS_FILES) <= hub.commits[0].keys()


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.1, 0.1, length).astype(np.float32) for length in (80000, 240000, 300, 40000)]


@pytest.fixture(scope="module")
def expected(waveforms: list[np.ndarray]) -> np.ndarray:
    """The embedding of each waveform by itself."""
    extractor, model = COLAFeatureExtractor.from_pretrained(CHECKPOINT), COLAModel.from_pretrained(CHECKPOINT)
    with torch.inference_mode():
        inputs = [extractor(waveform, sampling_rate=16000, return_tensors="pt") for waveform in waveforms]
        return torch.cat([model(**clip).pooler_output for clip in inputs]).numpy()


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["arrays", "dicts", "one by one"])
def test_sentence_transformers_gives_the_embeddings(kind: str, waveforms: list[np.ndarray], expected: np.ndarray):
    library = pytest.importorskip("sentence_transformers", reason="needs the extra `st`")
    model = library.SentenceTransformer(str(CHECKPOINT), trust_remote_code=True, device="cpu")
    if kind == "arrays":
        embeddings = model.encode(waveforms)
    elif kind == "dicts":
        embeddings = model.encode([{"array": waveform, "sampling_rate": 16000} for waveform in waveforms])
    else:
        embeddings = np.stack([model.encode(waveform) for waveform in waveforms])
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-6)
    assert model.get_embedding_dimension() == expected.shape[1]


MOCK_TASKS = """
    import mteb

    model = mteb.get_model("user/cola", trust_remote_code=True)
    assert model.mteb_model_meta.modalities == ["audio"], model.mteb_model_meta
    results = {task: result for task, result in mteb.mock_run(model).task_results.items() if result is not None}
    failed = {task: result.exception for task, result in results.items() if hasattr(result, "exception")}
    assert not failed, failed
    assert len(results) >= 7, list(results)
"""


@pytest.mark.extra
@pytest.mark.slow
def test_maebs_mock_tasks_run_on_a_pushed_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mteb", reason="needs the extra `maeb`")
    pytest.importorskip(
        "torchcodec", reason="needs the extra `maeb`, and FFmpeg", exc_type=(ImportError, RuntimeError)
    )
    with serving_hub(monkeypatch) as hub:
        COLAModel.from_pretrained(CHECKPOINT).push_to_hub("user/cola", token="token")
        COLAFeatureExtractor.from_pretrained(CHECKPOINT).push_to_hub("user/cola", token="token")
        run_script(MOCK_TASKS, tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "home"))
