"""ONNX files do what PyTorch does (extra `onnx`)."""

from pathlib import Path

import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from model_helpers import build, encoders, log_mel
from modeling_cola import COLAModel
from run_scripts import export_onnx


pytestmark = pytest.mark.extra


@pytest.fixture(autouse=True)
def packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra `onnx`")


@pytest.mark.slow
@encoders
def test_files_are_checked_and_timed(tmp_path: Path, encoder: str):
    build(encoder=encoder).save_pretrained(tmp_path / "model")
    COLAFeatureExtractor().save_pretrained(tmp_path / "model")
    results = export_onnx.main(
        ["--checkpoint", str(tmp_path / "model"), "--output_dir", str(tmp_path / "onnx"), "--int8", "--seconds", "1"]
    )
    assert all(result["milliseconds"] > 0 for result in results.values())
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {name for name in results if "PyTorch" not in name}
    differences = {name: result["difference"] for name, result in results.items() if "difference" in result}
    assert max(differences["log-mel.onnx"], differences["waveform.onnx"]) < 1e-4
    assert 1e-4 < differences["log-mel-int8.onnx"] < 0.5


def test_another_result_than_pytorchs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build().save_pretrained(tmp_path / "model")
    COLAFeatureExtractor().save_pretrained(tmp_path / "model")
    monkeypatch.setattr("run_scripts.export.onnx.TOLERANCE", 0.0)
    with pytest.raises(ValueError, match=r"log-mel.onnx differs from PyTorch by"):
        export_onnx.main(["--checkpoint", str(tmp_path / "model"), "--output_dir", str(tmp_path), "--seconds", "1"])


@encoders
def test_transformers_exporter_takes_the_model(encoder: str):
    exporters = pytest.importorskip("transformers.exporters.exporter_onnx")
    model: COLAModel = build(encoder=encoder)
    inputs = {"input_values": log_mel(2, 300), "attention_mask": torch.ones(2, 300, dtype=torch.long)}
    exported = exporters.OnnxExporter().export(model, inputs, config=exporters.OnnxConfig(dynamic=True))
    for batch_size, num_frames in ((2, 300), (1, 96), (3, 1000)):
        inputs = {"input_values": log_mel(batch_size, num_frames)}
        inputs["attention_mask"] = torch.ones(batch_size, num_frames, dtype=torch.long)
        with torch.no_grad():
            expected = model(**inputs).pooler_output
        actual = torch.as_tensor(exported(**inputs)["pooler_output"])
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
