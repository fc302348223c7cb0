"""
What the pipelines of Transformers take: the table in docs/integrations.md. What they refuse works once `load_audio`
has decoded it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Pipeline, pipeline

from feature_extraction import COLAFeatureExtractor, load_audio
from helpers import audio_dataset, encode
from model_helpers import build
from modeling_cola import COLAForAudioClassification, COLAModel


WAVE = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype(np.float32)
SLOW = WAVE[::2].copy()  # taken to be sampled at 8 kHz
STEREO = np.stack([WAVE, WAVE])
DECODED = audio_dataset([{"bytes": encode(WAVE, subtype="FLOAT"), "path": None}])


@pytest.fixture(scope="module")
def classify() -> Pipeline:
    torch.manual_seed(0)
    model = build(COLAForAudioClassification, id2label={0: "cat", 1: "dog", 2: "rain"})
    return pipeline("audio-classification", model=model, feature_extractor=COLAFeatureExtractor())


def scores(results: list[dict[str, Any]]) -> dict[str, float]:
    return {result["label"]: result["score"] for result in results}


@pytest.mark.parametrize(
    "given",
    [
        WAVE,
        WAVE.astype(np.float64),
        (WAVE * 2**15).round().astype(np.int16),
        torch.from_numpy(WAVE),
        {"raw": WAVE, "sampling_rate": 16000},
        {"array": WAVE, "sampling_rate": 16000, "path": "dog.wav"},
    ],
    ids=["float32", "float64", "int16", "tensor", "raw", "array"],
)
def test_what_is_classified_as_it_is(classify: Pipeline, given: Any):
    assert scores(classify(given)) == pytest.approx(scores(classify(WAVE)), abs=1e-3)


def test_the_rate_of_a_dictionary_is_converted(classify: Pipeline):
    resampled = scores(classify({"array": SLOW, "sampling_rate": 8000}))
    assert resampled == pytest.approx(scores(classify(load_audio({"array": SLOW, "sampling_rate": 8000}))), abs=0.02)
    assert resampled != pytest.approx(scores(classify(SLOW)), abs=0.02)  # an array has no rate that could be checked


REFUSED = {
    "channels": lambda: (STEREO, {"array": STEREO, "sampling_rate": 16000}),
    "channels of a dictionary": lambda: ({"array": STEREO, "sampling_rate": 16000},) * 2,
    "decoder": lambda: (DECODED[0]["audio"],) * 2,
    "encoded": lambda: (DECODED.with_format("arrow")[0]["audio"][0].as_py(),) * 2,
    "path object": lambda: (Path("dog.wav"),) * 2,
    "list of samples": lambda: (WAVE[:3].tolist(), {"array": WAVE, "sampling_rate": 16000}),
    "list in a dictionary": lambda: ({"array": WAVE.tolist(), "sampling_rate": 16000},) * 2,
    "integers of another rate": lambda: ({"array": (SLOW * 2**15).astype(np.int16), "sampling_rate": 8000},) * 2,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_can_be_decoded(
    classify: Pipeline, torchcodec: None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("dog.wav").write_bytes(encode(WAVE, subtype="FLOAT"))
    refused, source = REFUSED[kind]()
    with pytest.raises((TypeError, ValueError)):
        classify(refused)
    results = scores(classify(load_audio(source)))
    if kind != "integers of another rate":
        assert results == pytest.approx(scores(classify(WAVE)), abs=1e-3)


@pytest.mark.parametrize("of", [str, lambda path: Path(path).read_bytes()], ids=["path", "bytes"])
def test_files_need_ffmpeg(
    classify: Pipeline, of: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "dog.wav"
    path.write_bytes(encode(WAVE, subtype="FLOAT"))
    if shutil.which("ffmpeg"):
        assert scores(classify(of(path))) == pytest.approx(scores(classify(WAVE)), abs=1e-3)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="ffmpeg was not found"):
        classify(of(path))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("container", [list, iter], ids=["list", "generator"])
def test_several_clips_are_classified_as_each_alone(classify: Pipeline, batch_size: int, container: Callable):
    clips = [WAVE, WAVE[:9000], {"array": SLOW[:4000], "sampling_rate": 8000}, WAVE[:2000]]
    given = (clip for clip in clips) if container is iter else clips
    together = list(classify(given, batch_size=batch_size))
    assert len(together) == len(clips)
    for results, clip in zip(together, clips):
        assert scores(results) == pytest.approx(scores(classify(clip)), abs=1e-5)


def test_features_need_the_extractor_in_place_of_a_tokenizer(tmp_path: Path, torchcodec: None):
    model, extractor = build(COLAModel), COLAFeatureExtractor()
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tokenizer"):
        pipeline("feature-extraction", model=str(tmp_path))
    with torch.no_grad():
        windows = model(**extractor(WAVE, sampling_rate=16000, return_tensors="pt")).last_hidden_state
    embed = pipeline(
        "feature-extraction", model=str(tmp_path), tokenizer=extractor, tokenize_kwargs={"sampling_rate": 16000}
    )
    for given in (WAVE, {"raw": WAVE, "sampling_rate": 16000}, DECODED[0]["audio"]):
        torch.testing.assert_close(embed(given, return_tensors=True), windows, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="waveform 0 has 8000 Hz"):
        embed({"array": SLOW, "sampling_rate": 8000})
    with pytest.raises(ValueError, match="got str.*load_audio"):
        embed("dog.wav")
