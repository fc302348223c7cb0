"""Saving and loading, also where the project is not installed (`trust_remote_code`)."""

import math

import pytest
import timm
import torch

from feature_extraction import COLAFeatureExtractor
from model_helpers import (
    CLASSES,
    ROOT,
    assert_same_outputs,
    assert_same_weights,
    batch_for,
    build,
    classes,
    encoders,
    run_script,
    tiny_config,
)
from modeling_cola import COLAForAudioClassification, COLAForPreTraining, COLAModel


# Save and load


@encoders
@classes
def test_save_and_load_gives_the_same_outputs(tmp_path, cls, encoder):
    model = build(cls, encoder)
    inputs = batch_for(cls)
    model.save_pretrained(tmp_path)
    loaded, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert not loaded.training
    assert_same_weights(loaded, model)
    with torch.no_grad():
        assert_same_outputs(loaded(**inputs), model(**inputs))


@classes
def test_saved_files(tmp_path, cls):
    build(cls).save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "configuration_cola.py", "modeling_cola.py"} <= names
    assert not any(name.endswith((".bin", ".pt")) for name in names)
    for name in ("configuration_cola.py", "modeling_cola.py"):
        assert (tmp_path / name).read_text() == (ROOT / "modeling_cola" / name).read_text()


@encoders
@pytest.mark.parametrize("head", [COLAForPreTraining, COLAForAudioClassification])
def test_base_model_from_a_checkpoint_with_a_head(tmp_path, head, encoder):
    model = build(head, encoder)
    model.save_pretrained(tmp_path)
    base, info = COLAModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_same_weights(base, model.base_model)
    inputs = batch_for(COLAModel)
    assert_same_outputs(base(**inputs), model.cola(**inputs))


@encoders
@pytest.mark.parametrize(
    "saved, head",
    [
        (COLAModel, COLAForPreTraining),
        (COLAModel, COLAForAudioClassification),
        (COLAForPreTraining, COLAForAudioClassification),
    ],
)
def test_new_head_on_a_checkpoint_keeps_the_encoder(tmp_path, saved, head, encoder):
    model = build(saved, encoder)
    model.save_pretrained(tmp_path)
    loaded, info = head.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] and not any(key.startswith("cola.") for key in info["missing_keys"])
    assert_same_weights(loaded.base_model, model.base_model)
    assert all(parameter.isfinite().all() for parameter in loaded.parameters())


def test_mismatched_head_is_an_error_unless_ignored(tmp_path):
    model = build(COLAForAudioClassification)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        COLAForAudioClassification.from_pretrained(tmp_path, num_labels=5)
    loaded, info = COLAForAudioClassification.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key for key, *_ in info["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    assert_same_weights(loaded.cola, model.cola)
    assert loaded(**batch_for(COLAForAudioClassification)).logits.shape == (2, 5)
    # Keras' initialisation: Xavier uniform and zeros.
    bound = math.sqrt(6 / (88 + 5))
    assert 0.7 * bound < loaded.classifier.weight.abs().max() <= bound
    assert not loaded.classifier.bias.any()


@encoders
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_load_in_half_precision(tmp_path, encoder, dtype):
    model = build(COLAForAudioClassification, encoder)
    model.save_pretrained(tmp_path)
    loaded = COLAForAudioClassification.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    inputs = batch_for(COLAForAudioClassification)
    with torch.no_grad():
        full, half = model(**inputs).logits, loaded(**inputs).logits
        cast = model.to(dtype)(**inputs).logits
    assert half.dtype == dtype
    torch.testing.assert_close(half, cast)
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1 * full.abs().max().item())


def test_keys_of_the_compact_checkpoint_are_stable():
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    backbone = [f"blocks.{i}.0.weight" for i in range(3)] + [f"blocks.{i}.1.{n}" for i in range(3) for n in norm]
    base = {f"encoder.backbone.{key}" for key in backbone}
    base |= {f"encoder.pooling.dense.{i}.{name}" for i in (0, 3) for name in ("weight", "bias")}
    head = {"projection.dense.weight", "projection.dense.bias", "similarity.weight"}
    head |= {"projection.layer_norm.weight", "projection.layer_norm.bias"}
    assert set(COLAModel(tiny_config()).state_dict()) == base
    inside = {f"cola.{key}" for key in base}
    assert set(COLAForPreTraining(tiny_config()).state_dict()) == inside | head
    cosine = COLAForPreTraining(tiny_config(similarity="cosine"))
    assert set(cosine.state_dict()) == inside | head - {"similarity.weight"}
    classifier = COLAForAudioClassification(tiny_config())
    assert set(classifier.state_dict()) == inside | {"classifier.weight", "classifier.bias"}


def test_keys_of_a_timm_checkpoint_are_timms():
    network = timm.create_model("test_efficientnet", in_chans=1, num_classes=0, global_pool="")
    model = COLAModel(tiny_config("test_efficientnet"))
    assert set(model.state_dict()) == {f"encoder.backbone.{key}" for key in network.state_dict()}


# Loading on a machine where this project is not installed


REMOTE = """
    import importlib.abc, sys

    class NotInstalled(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("modeling_cola", "feature_extraction"):
                raise ImportError(f"{name} is not installed")

    sys.meta_path.insert(0, NotInstalled())
    for name in ("modeling_cola", "feature_extraction"):
        try:
            __import__(name)
        except ImportError:
            continue
        raise AssertionError(f"{name} can be imported")

    from pathlib import Path
    import torch
    import transformers

    results = {}
    wave = torch.load("wave.pt").numpy()
    for checkpoint in ("COLAModel", "COLAForPreTraining", "COLAForAudioClassification"):
        extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint, trust_remote_code=True)
        inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
        for auto_class in ("AutoModel", "AutoModelForPreTraining", "AutoModelForAudioClassification"):
            model = getattr(transformers, auto_class).from_pretrained(checkpoint, trust_remote_code=True)
            with torch.no_grad():
                result = {"class": type(model).__name__, "embedding": model.base_model(**inputs).pooler_output}
                if auto_class == "AutoModelForAudioClassification":
                    result["logits"] = model(**inputs).logits
            results[checkpoint, auto_class] = result
    model.save_pretrained("again")
    extractor.save_pretrained("again")
    again = transformers.AutoModelForAudioClassification.from_pretrained("again", trust_remote_code=True)
    results["again"] = {"class": type(again).__name__, "logits": again(**inputs).logits.detach()}
    results["again"]["auto_map"] = again.config.auto_map
    torch.save(results, "results.pt")
"""
AUTO_CLASSES = {
    "AutoModel": "COLAModel",
    "AutoModelForPreTraining": "COLAForPreTraining",
    "AutoModelForAudioClassification": "COLAForAudioClassification",
}


@pytest.fixture(scope="module")
def remote(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("remote")
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(40000)
    torch.save(wave, folder / "wave.pt")
    extractor = COLAFeatureExtractor()
    inputs = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    expected = {}
    for cls in CLASSES:
        model = build(cls)
        model.save_pretrained(folder / cls.__name__)
        extractor.save_pretrained(folder / cls.__name__)
        with torch.no_grad():
            expected[cls.__name__] = {"embedding": model.base_model(**inputs).pooler_output}
            if cls is COLAForAudioClassification:
                expected[cls.__name__]["logits"] = model(**inputs).logits
    run_script(REMOTE, folder, HF_HOME=str(folder / "home"), HF_MODULES_CACHE=str(folder / "modules"))
    return {"actual": torch.load(folder / "results.pt"), "expected": expected, "folder": folder}


@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
@pytest.mark.parametrize("checkpoint", [cls.__name__ for cls in CLASSES])
def test_remote_code(remote, checkpoint, auto_class):
    actual, expected = remote["actual"][checkpoint, auto_class], remote["expected"][checkpoint]
    assert actual["class"] == AUTO_CLASSES[auto_class]
    assert actual["embedding"].shape == (1, 88)
    torch.testing.assert_close(actual["embedding"], expected["embedding"])
    if auto_class == "AutoModelForAudioClassification" and "logits" in expected:
        torch.testing.assert_close(actual["logits"], expected["logits"])


def test_remote_code_saved_again(remote):
    again = remote["actual"]["again"]
    assert again["class"] == "COLAForAudioClassification"
    torch.testing.assert_close(again["logits"], remote["expected"]["COLAForAudioClassification"]["logits"])
    assert set(again["auto_map"]) == {"AutoConfig", *AUTO_CLASSES}
    names = {path.name for path in (remote["folder"] / "again").iterdir()}
    assert {"configuration_cola.py", "modeling_cola.py", "feature_extraction_cola.py"} <= names


@classes
@encoders
def test_a_whole_model_is_saved_by_torch(tmp_path, cls, encoder):
    model = build(cls, encoder)
    torch.save(model, tmp_path / "model.pt")
    inputs = batch_for(cls)
    with torch.no_grad():
        outputs, expected = torch.load(tmp_path / "model.pt", weights_only=False)(**inputs), model(**inputs)
    torch.testing.assert_close(outputs.to_tuple(), expected.to_tuple(), rtol=0, atol=0)
