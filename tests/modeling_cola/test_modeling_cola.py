"""COLAModel, COLAForPreTraining and COLAForAudioClassification: Transformers' common model tests and COLA's own."""

import copy
import inspect
import math
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchaudio
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, Trainer, TrainingArguments, pipeline

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAForAudioClassification, COLAForPreTraining, COLAModel
from modeling_cola.modeling_cola import (
    COLABilinearSimilarity,
    COLACompactEncoder,
    COLACosineSimilarity,
    contrastive_loss,
    decorrelation_loss,
)


ROOT = Path(__file__).parents[2]
ENCODERS = ["compact", "test_efficientnet"]
CLASSES = [COLAModel, COLAForPreTraining, COLAForAudioClassification]
SILENCE = math.log(1e-5)
MASK_LENGTHS = [1, 40, 96, 144, 250, 300]

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
encoders = pytest.mark.parametrize("encoder", ENCODERS)
classes = pytest.mark.parametrize("cls", CLASSES)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def tiny_config(encoder: str = "compact", **kwargs) -> COLAConfig:
    tiny = {"compact_channels": 8, "pooling_hidden_size": 16, "hidden_size": 88, "projection_size": 16}
    return COLAConfig(encoder=encoder, **tiny | {"num_labels": 3} | kwargs)


def lived_in(model: PreTrainedModel) -> PreTrainedModel:
    """Moves every parameter and BatchNorm statistic off its start, where zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (
                0.1 * parameter.abs().mean().clamp_min(0.1) * torch.randn(parameter.shape, generator=generator)
            )
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    return model.eval()


def build(cls: type = COLAModel, encoder: str = "compact", **kwargs) -> PreTrainedModel:
    return lived_in(cls(tiny_config(encoder, **kwargs)))


def log_mel(batch_size: int, num_frames: int, seed: int = 0) -> torch.Tensor:
    """Frames of noise with the level and spread of log-mel, and a spectrum of its own for each clip."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.randn(batch_size, 1, 64, generator=generator)
    return spectrum - 6 + torch.randn(batch_size, num_frames, 64, generator=generator)


def batch_for(cls: type, batch_size: int = 2, num_frames: int = 200) -> dict[str, torch.Tensor]:
    inputs = {"input_values": log_mel(batch_size, num_frames)}
    if cls is COLAForPreTraining:
        inputs["positive_values"] = log_mel(batch_size, num_frames, seed=1)
    return inputs


def padded(clips: list[torch.Tensor], num_frames: int, fill: float = SILENCE) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.full((len(clips), num_frames, 64), fill)
    mask = torch.zeros(len(clips), num_frames, dtype=torch.long)
    for i, clip in enumerate(clips):
        values[i, : len(clip)] = clip
        mask[i, : len(clip)] = 1
    return values, mask


def loss_of(model: PreTrainedModel, outputs) -> torch.Tensor:
    return outputs.loss if isinstance(model, COLAForPreTraining) else outputs[0].square().mean()


def assert_same_outputs(actual, expected, atol: float = 1e-5) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=1e-5, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_same_weights(actual: nn.Module, expected: nn.Module) -> None:
    actual, expected = actual.state_dict(), expected.state_dict()
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert not different


def run_script(code: str, folder: Path, *arguments: str, **environment: str) -> None:
    """Runs Python in a process of its own, in `folder`, where PYTHONPATH is only what `environment` says."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=folder,
        env=env | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-5000:]


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


# Initialisation


@encoders
@classes
def test_all_weights_missing_are_as_fresh_ones(cls, encoder):
    torch.manual_seed(5)
    fresh = cls(tiny_config(encoder))
    torch.manual_seed(5)
    loaded = cls.from_pretrained(None, config=tiny_config(encoder), state_dict={})
    assert_same_weights(loaded, fresh)
    inputs = batch_for(cls)
    assert_same_outputs(loaded(**inputs), fresh.eval()(**inputs))


@encoders
@pytest.mark.parametrize("head", [COLAForPreTraining, COLAForAudioClassification])
def test_missing_head_is_as_a_fresh_one(head, encoder):
    torch.manual_seed(5)
    fresh = head(tiny_config(encoder))
    trained = build(head, encoder).cola.state_dict()
    torch.manual_seed(5)
    loaded = head.from_pretrained(
        None, config=tiny_config(encoder), state_dict={f"cola.{key}": value for key, value in trained.items()}
    )
    for name, child in loaded.named_children():
        if name != "cola":
            assert_same_weights(child, getattr(fresh, name))
    assert all(torch.equal(value, trained[key]) for key, value in loaded.cola.state_dict().items())


@encoders
@pytest.mark.parametrize("head", [COLAForPreTraining, COLAForAudioClassification])
def test_missing_encoder_is_as_a_fresh_one(head, encoder):
    torch.manual_seed(5)
    fresh = head(tiny_config(encoder))
    trained = {key: value for key, value in build(head, encoder).state_dict().items() if not key.startswith("cola.")}
    torch.manual_seed(5)
    loaded = head.from_pretrained(None, config=tiny_config(encoder), state_dict=trained)
    assert_same_weights(loaded.cola, fresh.cola)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in trained.items())


@encoders
def test_one_missing_weight_of_the_encoder(encoder):
    trained = build(COLAModel, encoder).state_dict()
    missing = next(key for key, value in trained.items() if value.dim() == 4 and value.shape[1] > 1)
    kept = {key: value for key, value in trained.items() if key != missing}
    model = COLAModel.from_pretrained(None, config=tiny_config(encoder), state_dict=kept)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in kept.items())
    fresh = COLAModel(tiny_config(encoder)).state_dict()[missing]
    assert not torch.equal(loaded[missing], trained[missing])
    assert loaded[missing].std() == pytest.approx(fresh.std().item(), rel=0.2)
    assert abs(loaded[missing].mean()) < 0.2 * fresh.std()


@encoders
@classes
def test_initialisation_follows_the_seed(cls, encoder):
    torch.manual_seed(5)
    first, second = cls(tiny_config(encoder)), cls(tiny_config(encoder))
    torch.manual_seed(5)
    assert_same_weights(cls(tiny_config(encoder)), first)
    drawn = [name for name, value in first.named_parameters() if value.std() > 0]
    others = second.state_dict()
    assert drawn
    assert not any(torch.equal(value, others[name]) for name, value in first.named_parameters() if name in drawn)


@pytest.mark.parametrize("encoder", [*ENCODERS, "test_resnet", "efficientnet_b0"])
@pytest.mark.parametrize("loaded", [False, True])
def test_backbone_starts_as_its_author_meant(encoder, loaded):
    config = tiny_config(encoder)
    model = COLAModel.from_pretrained(None, config=config, state_dict={}) if loaded else COLAModel(config)
    if encoder == "compact":
        reference = COLACompactEncoder(config)
    else:
        reference = timm.create_model(encoder, in_chans=1, num_classes=0, global_pool="")
    reference = reference.state_dict()
    for name, value in model.encoder.backbone.state_dict().items():
        expected = reference[name].float()
        assert value.isfinite().all() and value.abs().max() < 10, name
        if expected.numel() < 2 or expected.std() == 0:  # a constant: BatchNorm, most biases
            assert torch.equal(value, reference[name]), name
        elif expected.numel() >= 1000:
            assert value.std() == pytest.approx(expected.std().item(), rel=0.2), name
            assert abs(value.mean()) < 0.2 * expected.std(), name


def test_pretraining_head_starts_as_in_keras():
    model = COLAForPreTraining(tiny_config(projection_size=256))
    assert model.similarity.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert abs(model.similarity.weight.mean()) < 0.001
    bound = math.sqrt(6 / (88 + 256))
    weight = model.projection.dense.weight.detach()
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not model.projection.dense.bias.any() and not model.projection.layer_norm.bias.any()
    assert (model.projection.layer_norm.weight == 1).all()
    wide = COLAForPreTraining(tiny_config(projection_size=256, bilinear_init_std=0.2))
    assert wide.similarity.weight.std().item() == pytest.approx(0.2, rel=0.02)


def test_bilinear_similarity_can_start_as_a_dot_product(tmp_path):
    config = tiny_config(bilinear_init_std=1e-4, bilinear_init_diagonal=0.05)
    model = COLAForPreTraining(config)
    z = torch.randn(5, config.projection_size)
    torch.testing.assert_close(model.similarity(z, z), 0.05 * z @ z.T, atol=0.02, rtol=0.0)
    with torch.no_grad():
        model.similarity.weight.fill_(0.5)
    model.save_pretrained(tmp_path)
    loaded = COLAForPreTraining.from_pretrained(tmp_path)
    assert (loaded.similarity.weight == 0.5).all()  # nothing is added to what is loaded


# The encoder


def test_default_embedding_is_the_global_maximum():
    model = COLAModel(COLAConfig()).eval()
    x = log_mel(2, 96)
    with torch.no_grad():
        outputs = model(x)
        features = model.encoder.backbone.forward_features((x - SILENCE)[:, None])
    assert features.shape == (2, 1280, 3, 2)
    assert outputs.last_hidden_state.shape == (2, 1, 1280)
    torch.testing.assert_close(outputs.pooler_output, features.amax((2, 3)), rtol=1e-4, atol=1e-6)


def over_time(features: torch.Tensor) -> torch.Tensor:
    """`[N, channels, frames, bands]` -> the bands x channels of each time step `[N, frames, bands * channels]`."""
    return features.permute(0, 2, 3, 1).flatten(2)


POOLINGS = {
    "max": lambda x, _: x.flatten(2).amax(-1),
    "mean": lambda x, _: x.flatten(2).mean(-1),
    "mean_max": lambda x, _: x.flatten(2).mean(-1) + x.flatten(2).amax(-1),
    "dense": lambda x, dense: dense(over_time(x)).mean(1) + dense(over_time(x)).amax(1),
    "statistics": lambda x, _: torch.cat(
        [over_time(x).mean(1), over_time(x).amax(1), over_time(x).std(1, unbiased=False)], dim=1
    ),
}
poolings = pytest.mark.parametrize("pooling", POOLINGS)


@encoders
@poolings
def test_pooling(encoder, pooling):
    model = build(COLAModel, encoder, pooling=pooling)
    x = log_mel(3, 96)
    with torch.no_grad():
        features = model.encoder.backbone.forward_features((x - SILENCE)[:, None])
        expected = POOLINGS[pooling](features, model.encoder.pooling.dense)
        torch.testing.assert_close(model(x).pooler_output, expected, rtol=1e-4, atol=4e-4)
    assert expected.shape == (3, model.config.hidden_size)


@encoders
@poolings
def test_gradients_are_finite_where_nothing_moves(encoder, pooling):
    model = build(COLAModel, encoder, pooling=pooling).train()
    model(torch.full((2, 96, 64), SILENCE)).pooler_output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@poolings
def test_poolings_survive_a_round_trip(tmp_path, pooling):
    model = build(COLAForPreTraining, "test_efficientnet", pooling=pooling, encoder_stride=8)
    model.save_pretrained(tmp_path)
    loaded = COLAForPreTraining.from_pretrained(tmp_path)
    assert_same_weights(loaded, model)
    inputs = batch_for(COLAForPreTraining)
    with torch.no_grad():
        assert_same_outputs(loaded(**inputs), model(**inputs))


@pytest.mark.parametrize("encoder", ["test_efficientnet", "test_convnext", "test_resnet", "mobilenetv4_conv_small"])
@pytest.mark.parametrize("stride", [8, 16])
def test_encoder_stride_cuts_the_network_after_that_stage(encoder, stride):
    kwargs = {"encoder": encoder, "pooling": "statistics"}
    whole, cut = (COLAModel(COLAConfig(encoder_stride=s, **kwargs)) for s in (None, stride))
    cut.load_state_dict({k: v for k, v in whole.state_dict().items() if k in cut.state_dict()})
    x = log_mel(2, 96)
    with torch.no_grad():
        stages = whole.eval()(x, output_hidden_states=True).hidden_states
        h = cut.eval()(x).pooler_output
    (stage,) = [stage[:, 0] for stage in stages if stage.shape[-2] == 96 // stride]
    torch.testing.assert_close(h, POOLINGS["statistics"](stage, None), rtol=1e-4, atol=4e-4)
    assert cut.num_parameters() < whole.num_parameters()


def test_stride_that_no_stage_has_is_an_error_that_gives_the_least():
    with pytest.raises(ValueError, match="encoder_stride.*at least 2.*test_efficientnet.*got 1"):
        COLAModel(tiny_config("test_efficientnet", encoder_stride=1))


@pytest.mark.parametrize("encoder", ["test_convnext", "test_resnet", "mobilenetv4_conv_small"])
def test_other_convolutional_networks(encoder):
    model = COLAModel(COLAConfig(encoder=encoder)).eval()
    clip = log_mel(1, 130)
    values, mask = padded([clip[0], log_mel(1, 250)[0]], 250)
    with torch.no_grad():
        alone, together = model(clip).pooler_output, model(values, mask).pooler_output
    assert alone.shape == (1, model.config.hidden_size)
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_encoder_arguments_reach_timm():
    model = COLAModel(tiny_config("test_efficientnet", drop_path_rate=0.4, encoder_kwargs={"bn_eps": 0.5}))
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.5}
    assert max(getattr(m, "drop_prob", 0.0) for m in model.modules()) > 0.2


@pytest.mark.parametrize("encoder", ["efficientnet_b0", "mobilenetv4_conv_small"])
def test_residual_blocks_can_start_as_the_identity(encoder):
    def identities(zero: bool) -> list[bool]:
        model = COLAModel(tiny_config(encoder, zero_init_residual=zero)).eval()
        found = []
        for block in model.encoder.backbone.modules():
            if getattr(block, "has_skip", False):
                block.register_forward_hook(lambda _, args, output: found.append(torch.equal(args[0], output)))
        with torch.no_grad():
            model(log_mel(1, 96))
        return found

    assert identities(True) and all(identities(True))
    assert not any(identities(False))


@classes
def test_unknown_encoder_is_an_error_that_names_it(cls):
    with pytest.raises(ValueError, match="no_such_network"):
        cls(tiny_config("no_such_network"))


def test_encoder_that_is_no_convolutional_network_is_an_error():
    with pytest.raises(ValueError, match="convolutional.*test_vit"):
        COLAModel(tiny_config("test_vit", encoder_kwargs={"img_size": (96, 64)}))


@classes
@pytest.mark.parametrize("shape", [(2, 200), (2, 200, 40), (2, 1, 200, 64)])
def test_wrong_shape_is_an_error_that_gives_it(cls, shape):
    names = ["input_values", "positive_values"] if cls is COLAForPreTraining else ["input_values"]
    with pytest.raises(ValueError, match="input_values"):
        build(cls)(**{name: torch.zeros(shape) for name in names})


# Evaluation and training mode


@encoders
@classes
def test_evaluation_is_deterministic_and_changes_nothing(cls, encoder):
    model = build(cls, encoder)
    before = copy.deepcopy(model)
    inputs = batch_for(cls)
    with torch.no_grad():
        assert_same_outputs(model(**inputs), model(**inputs), atol=0)
    assert_same_weights(model, before)


@encoders
@classes
def test_training_mode_moves_batch_norm(cls, encoder):
    model = build(cls, encoder).train()
    before = copy.deepcopy(model.state_dict())
    model(**batch_for(cls))
    after = model.state_dict()
    moved = {key for key in before if not torch.equal(after[key], before[key])}
    assert moved == {key for key in before if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}


def test_training_mode_drops_out():
    model = build(pooling_dropout=0.5).train()
    x = log_mel(2, 96)
    assert not torch.equal(model(x).pooler_output, model(x).pooler_output)


@encoders
def test_batching_is_equivalent(encoder):
    model = build(COLAModel, encoder)
    x = log_mel(4, 300)
    with torch.no_grad():
        together = model(x)
        alone = [model(clip[None]) for clip in x]
    for name in ("last_hidden_state", "pooler_output", "window_mask"):
        torch.testing.assert_close(together[name], torch.cat([one[name] for one in alone]), rtol=1e-5, atol=1e-5)
    assert (together.pooler_output[0] - together.pooler_output[1]).abs().max() > 1e-3


# Exact invariance to padding


@pytest.fixture(
    scope="module",
    params=["compact-96", "compact-48", "compact-7", "compact-130", "test_efficientnet-96", "test_efficientnet-48"],
)
def invariance_model(request) -> COLAModel:
    torch.manual_seed(0)
    encoder, hop = request.param.split("-")
    return build(COLAModel, encoder, window_hop=int(hop))


@pytest.mark.parametrize("fill", [0.0, 1e4, math.nan])
def test_padding_does_not_move_the_embedding(invariance_model, fill):
    clips = [log_mel(1, length, seed=length)[0] for length in MASK_LENGTHS]
    with torch.no_grad():
        alone = torch.cat([invariance_model(clip[None]).pooler_output for clip in clips])
        for num_frames in (300, 301, 700):
            together = invariance_model(*padded(clips, num_frames, fill))
            torch.testing.assert_close(together.pooler_output, alone, rtol=1e-5, atol=1e-5)


@encoders
def test_padding_does_not_move_the_windows(encoder):
    model = build(COLAModel, encoder, window_hop=48)
    clip = log_mel(1, 210)[0]
    with torch.no_grad():
        alone = model(clip[None]).last_hidden_state
        outputs = model(*padded([clip], 500))
    num_windows = alone.shape[1]
    torch.testing.assert_close(outputs.last_hidden_state[:, :num_windows], alone, rtol=1e-5, atol=1e-5)
    assert outputs.last_hidden_state.shape[1] > num_windows
    assert not outputs.last_hidden_state[:, num_windows:].any()


def test_bool_and_float_masks_are_taken():
    model = build()
    values, mask = padded([log_mel(1, 100)[0], log_mel(1, 300)[0]], 300)
    with torch.no_grad():
        expected = model(values, mask)
        assert_same_outputs(model(values, mask.bool()), expected, atol=0)
        assert_same_outputs(model(values, mask.float()), expected, atol=0)


@encoders
@pytest.mark.parametrize("num_frames", [1, 40, 95])
def test_short_clip_is_one_window_filled_with_silence(encoder, num_frames):
    model = build(COLAModel, encoder)
    clip = log_mel(1, num_frames)[0]
    with torch.no_grad():
        outputs = model(clip[None])
        filled = model(padded([clip], 96)[0])
    assert outputs.window_mask.tolist() == [[1]]
    torch.testing.assert_close(outputs.pooler_output, filled.pooler_output, rtol=1e-5, atol=1e-5)


@encoders
@pytest.mark.parametrize("num_frames", [96, 300])
def test_fully_masked_clip_is_silence(encoder, num_frames):
    model = build(COLAModel, encoder)
    values = log_mel(2, num_frames)
    mask = torch.ones(2, num_frames, dtype=torch.long)
    mask[1] = 0
    with torch.no_grad():
        outputs = model(values, mask)
        silence = model(torch.full((1, 96, 64), SILENCE)).pooler_output
    assert outputs.pooler_output.isfinite().all()
    torch.testing.assert_close(outputs.pooler_output[1:], silence, rtol=1e-5, atol=1e-5)


def test_padding_in_half_precision_is_silence():
    model = build().bfloat16()
    clip = log_mel(1, 100)[0]
    with torch.no_grad():
        alone = model(clip[None]).pooler_output
        together = model(*padded([clip, log_mel(1, 400)[0]], 400)).pooler_output[:1]
    torch.testing.assert_close(together, alone, rtol=0.02, atol=0.02)


# Windows


def windows_by_rule(num_valid: int, size: int, hop: int) -> int:
    """The first window, and each of which at least half the frames are valid."""
    count = 1
    while 2 * min(num_valid - count * hop, size) >= size:
        count += 1
    return count


@pytest.mark.parametrize(
    "size, hop", [(96, 96), (96, 48), (96, 1), (96, 7), (96, 95), (96, 130), (8, 3), (16, 1), (9, 4), (11, 11)]
)
def test_windows_follow_the_rule(size, hop):
    # By hand: 143 frames are one window of 96 and 47 more, less than half; 144 are two.
    assert [windows_by_rule(n, 96, 96) for n in (1, 96, 143, 144, 239, 240)] == [1, 1, 1, 2, 2, 3]
    lengths = sorted(
        {*range(0, 3 * size, max(size // 6, 1)), *(size // 2 + k * hop + d for k in (1, 2) for d in (-1, 0, 1))}
    )
    model = build(window_size=size, window_hop=hop)
    values, mask = padded([log_mel(1, length)[0] for length in lengths], max(lengths))
    with torch.no_grad():
        outputs = model(values, mask)
    counts = [windows_by_rule(length, size, hop) for length in lengths]
    assert outputs.window_mask.sum(1).tolist() == counts
    assert outputs.window_mask.shape == outputs.last_hidden_state.shape[:2] == (len(lengths), max(counts))
    assert (outputs.window_mask.diff(dim=1) <= 0).all()  # the valid ones are first
    assert outputs.window_mask.dtype == torch.long


@encoders
@pytest.mark.parametrize("hop", [1, 48, 130])
def test_each_window_is_its_frames(encoder, hop):
    model = build(COLAModel, encoder, window_hop=hop)
    x = log_mel(1, 250)
    with torch.no_grad():
        outputs = model(x)
        frames = F.pad(x, (0, 0, 0, 96), value=SILENCE)
        num_windows = outputs.last_hidden_state.shape[1]
        single = torch.cat([frames[:, i * hop : i * hop + 96] for i in range(num_windows)])
        model.config.window_hop = 96
        expected = model(single).last_hidden_state[:, 0]
    torch.testing.assert_close(outputs.last_hidden_state[0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.pooler_output[0], expected.mean(0), rtol=1e-5, atol=1e-5)


@encoders
def test_chunks_do_not_change_the_output(encoder):
    values, mask = padded([log_mel(1, 900)[0], log_mel(1, 333)[0]], 900)
    model = build(COLAModel, encoder)
    with torch.no_grad():
        whole = model(values, mask, output_hidden_states=True)
        for size in (1, 4):
            model.config.window_chunk_size = size
            chunked = model(values, mask, output_hidden_states=True)
            torch.testing.assert_close(chunked.last_hidden_state, whole.last_hidden_state, rtol=1e-5, atol=1e-5)
            for stage, expected in zip(chunked.hidden_states, whole.hidden_states):
                torch.testing.assert_close(stage, expected, rtol=1e-5, atol=1e-4)


def test_training_is_not_chunked():
    """BatchNorm must see all windows at once."""
    x = log_mel(2, 600)
    whole = build(pooling_dropout=0.0).train()
    chunked = copy.deepcopy(whole)
    chunked.config.window_chunk_size = 2
    torch.testing.assert_close(chunked(x).pooler_output, whole(x).pooler_output)
    assert_same_weights(chunked, whole)


HOUR = """
    import resource
    import torch
    from modeling_cola import COLAConfig, COLAModel

    torch.set_num_threads(1)
    config = COLAConfig(encoder="compact", compact_channels=8, pooling_hidden_size=16, hidden_size=88)
    model = COLAModel(config).eval()
    x = torch.randn(1, 360_000, 64)
    with torch.no_grad():
        model(x[:, :96])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outputs = model(x)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outputs.last_hidden_state.shape == (1, 3750, 88)
    assert outputs.pooler_output.isfinite().all()
    assert growth < 600_000, f"{growth} KiB"  # all windows at once take more than 1.5 GB
"""


def test_an_hour_takes_bounded_memory(tmp_path):
    run_script(HOUR, tmp_path, PYTHONPATH=str(ROOT))


# Arguments and outputs


STAGES = {
    "compact": [(8, 48, 32), (8, 24, 16), (8, 12, 8)],
    "test_efficientnet": [(16, 48, 32), (24, 24, 16), (32, 12, 8), (48, 6, 4), (64, 3, 2)],
}


@encoders
@classes
def test_hidden_states(cls, encoder):
    model = build(cls, encoder)
    inputs = batch_for(cls, num_frames=300)
    with torch.no_grad():
        plain = model(**inputs)
        outputs = model(**inputs, output_hidden_states=True)
        model.config.output_hidden_states = True
        by_config = model(**inputs)
        off = model(**inputs, output_hidden_states=False)
    assert "hidden_states" not in plain and "hidden_states" not in off
    batch_size = 4 if cls is COLAForPreTraining else 2
    assert [tuple(stage.shape) for stage in outputs.hidden_states] == [
        (batch_size, 3, *shape) for shape in STAGES[encoder]
    ]
    for actual, expected in zip(by_config.hidden_states, outputs.hidden_states, strict=True):
        assert torch.equal(actual, expected)
    torch.testing.assert_close(outputs[0], plain[0])


@encoders
@classes
def test_tuple_holds_the_same_values(cls, encoder):
    model = build(cls, encoder)
    inputs = batch_for(cls)
    with torch.no_grad():
        outputs, values = model(**inputs), model(**inputs, return_dict=False)
    assert isinstance(values, tuple)
    for actual, expected in zip(values, outputs.to_tuple(), strict=True):
        assert torch.equal(actual, expected)


@classes
def test_tuple_by_config(cls):
    model = build(cls)
    inputs = batch_for(cls)
    with torch.no_grad():
        outputs = model(**inputs)
        model.config.return_dict = False
        values = model(**inputs)
    assert isinstance(values, tuple)
    for actual, expected in zip(values, outputs.to_tuple(), strict=True):
        assert torch.equal(actual, expected)


@classes
def test_signature(cls):
    names = list(inspect.signature(cls.forward).parameters)
    assert names[:2] == ["self", "input_values"]
    assert cls.main_input_name == "input_values"
    assert cls.base_model_prefix == "cola"
    assert not cls.accepts_loss_kwargs


@encoders
@classes
def test_deepcopy(cls, encoder):
    model = build(cls, encoder)
    inputs = batch_for(cls)
    with torch.no_grad():
        expected = model(**inputs)
        twin = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.zero_()
        assert_same_outputs(twin(**inputs), expected)


@encoders
@classes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_forward(cls, encoder, dtype):
    model = build(cls, encoder)
    inputs = batch_for(cls)
    with torch.no_grad():
        full, half = model(**inputs), model.to(dtype)(**inputs)
    name = {COLAModel: "pooler_output", COLAForPreTraining: "anchor_embeds"}.get(cls, "logits")
    assert half[name].dtype == dtype
    torch.testing.assert_close(half[name].float(), full[name], rtol=0.1, atol=0.1 * full[name].abs().max().item())


@encoders
def test_autocast_trains(encoder):
    model = build(COLAForPreTraining, encoder).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch_for(COLAForPreTraining, 4)).loss
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@encoders
def test_export(encoder):
    model = build(COLAModel, encoder)
    values, mask = padded([log_mel(1, 200)[0], log_mel(1, 120)[0]], 200)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        model, (values, mask), dynamic_shapes={"input_values": {0: batch}, "attention_mask": {0: batch}}
    )
    values, mask = padded([log_mel(1, length, seed=length)[0] for length in (60, 200, 143, 144, 0)], 200)
    with torch.no_grad():
        actual, expected = exported.module()(values, mask), model(values, mask)
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.last_hidden_state, expected.last_hidden_state, rtol=1e-5, atol=1e-5)
    assert torch.equal(actual.window_mask, expected.window_mask)


# Gradients


@encoders
@pytest.mark.parametrize("similarity", ["bilinear", "cosine"])
def test_every_parameter_gets_a_gradient(encoder, similarity):
    model = build(COLAForPreTraining, encoder, similarity=similarity).train()
    model(**batch_for(COLAForPreTraining, 4)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@encoders
@classes
def test_gradient_checkpointing_changes_no_gradient(cls, encoder):
    results = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = build(cls, encoder, pooling_dropout=0.0).train()
        if enable:
            model.gradient_checkpointing_enable()
        loss = loss_of(model, model(**batch_for(cls, 4)))
        loss.backward()
        results.append((loss, {name: p.grad for name, p in model.named_parameters()}))
    (loss, grads), (checkpointed_loss, checkpointed_grads) = results
    torch.testing.assert_close(checkpointed_loss, loss)
    torch.testing.assert_close(checkpointed_grads, grads)


@encoders
@classes
def test_gradient_checkpointing_saves_activations(cls, encoder):
    model = build(cls, encoder).train()
    inputs = batch_for(cls)

    def saved() -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model(**inputs)
        return sum(sizes)

    plain = saved()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    assert saved() < 0.6 * plain
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    assert saved() == plain


# Pre-training


@pytest.fixture(params=ENCODERS)
def pretraining_model(request) -> COLAForPreTraining:
    return build(COLAForPreTraining, request.param)


def paper_loss(logits: np.ndarray, rank: int = 0) -> tuple[float, float]:
    """Equation 1 and the pretext accuracy, clip by clip."""
    losses, hits = [], []
    for i, row in enumerate(logits.astype(np.float64)):
        own = rank * len(logits) + i
        losses.append(-math.log(math.exp(row[own]) / sum(math.exp(other) for other in row)))
        hits.append(int(np.argmax(row)) == own)
    return sum(losses) / len(losses), sum(hits) / len(hits)


def test_pretraining_outputs_are_the_papers(pretraining_model):
    inputs = batch_for(COLAForPreTraining, 5, 96)
    with torch.no_grad():
        outputs = pretraining_model(**inputs)
        hidden = [pretraining_model.cola(inputs[name]).pooler_output for name in ("input_values", "positive_values")]
        w, b = pretraining_model.projection.dense.weight, pretraining_model.projection.dense.bias
        norm = pretraining_model.projection.layer_norm
        z = [torch.tanh(F.layer_norm(h @ w.T + b, (16,), norm.weight, norm.bias, 1e-5)) for h in hidden]
    torch.testing.assert_close(outputs.anchor_embeds, z[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs.positive_embeds, z[1], rtol=1e-4, atol=1e-5)

    anchors, positives = outputs.anchor_embeds.numpy(), outputs.positive_embeds.numpy()
    weight = pretraining_model.similarity.weight.detach().numpy()
    logits = np.zeros((5, 5))
    for i in range(5):
        for j in range(5):
            for k in range(16):
                for m in range(16):
                    logits[i, j] += anchors[i, k] * weight[k, m] * positives[j, m]
    np.testing.assert_allclose(outputs.logits.numpy(), logits, rtol=1e-4, atol=1e-5)
    loss, accuracy = paper_loss(logits)
    assert outputs.loss.item() == pytest.approx(loss, rel=1e-5)
    assert outputs.accuracy.item() == pytest.approx(accuracy)


def test_cosine_similarity_is_the_papers():
    model = build(COLAForPreTraining, similarity="cosine")
    assert model.similarity.temperature == 0.2
    with torch.no_grad():
        outputs = model(**batch_for(COLAForPreTraining, 5, 96))
    logits = np.zeros((5, 5))
    for i, z in enumerate(outputs.anchor_embeds.double().numpy()):
        for j, other in enumerate(outputs.positive_embeds.double().numpy()):
            logits[i, j] = sum(z * other) / math.sqrt(sum(z**2)) / math.sqrt(sum(other**2)) / 0.2
    np.testing.assert_allclose(outputs.logits.numpy(), logits, rtol=1e-4, atol=1e-4)
    assert outputs.loss.item() == pytest.approx(paper_loss(logits)[0], rel=1e-4)


def test_cosine_similarity_ignores_scale_and_follows_temperature():
    similarity = COLACosineSimilarity(tiny_config(similarity="cosine"))
    anchors, positives = torch.randn(4, 16), torch.randn(6, 16)
    logits = similarity(anchors, positives)
    assert logits.shape == (4, 6)
    torch.testing.assert_close(similarity(100 * anchors, 0.01 * positives), logits)
    doubled = COLACosineSimilarity(tiny_config(similarity="cosine", temperature=0.1))
    torch.testing.assert_close(doubled(anchors, positives), 2 * logits)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_labels_are_shifted(rank):
    logits = torch.randn(3, 9)
    loss, accuracy = contrastive_loss(logits, 3 * rank)
    expected_loss, expected_accuracy = paper_loss(logits.numpy(), rank)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-5)
    assert accuracy.item() == pytest.approx(expected_accuracy)
    own = F.one_hot(torch.arange(3) + 3 * rank, 9).float()
    assert contrastive_loss(own, 3 * rank)[1] == 1 and contrastive_loss(-own, 3 * rank)[1] == 0


def test_clips_that_are_all_the_same_cost_log_batch_size(pretraining_model):
    x = log_mel(1, 96).expand(6, -1, -1)
    with torch.no_grad():
        assert pretraining_model(x, x).loss.item() == pytest.approx(math.log(6), rel=1e-4)


def test_gradients_of_the_objective():
    similarity = COLABilinearSimilarity(tiny_config(projection_size=5)).double()
    anchors, positives, weight = (torch.randn(n, 5, dtype=torch.double, requires_grad=True) for n in (3, 6, 5))

    def logits(a: torch.Tensor, p: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(similarity, {"weight": w}, (a, p))

    assert torch.autograd.gradcheck(logits, (anchors, positives, weight))
    # The loss is computed in float32, so its differences must be coarse.
    assert torch.autograd.gradcheck(
        lambda *inputs: contrastive_loss(logits(*inputs), offset=3)[0].double(),
        (anchors, positives, weight),
        eps=1e-2,
        atol=5e-3,
    )


def test_decorrelation_loss_is_the_mean_square_of_correlations():
    h = torch.randn(40, 6) @ torch.randn(6, 6) + 3
    correlations = np.corrcoef(h.double().numpy(), rowvar=False)
    expected = sum(correlations[i, j] ** 2 for i in range(6) for j in range(6) if i != j) / 6
    assert decorrelation_loss(h).item() == pytest.approx(expected, rel=1e-3)
    assert decorrelation_loss(100 * h).item() == pytest.approx(expected, rel=1e-3)
    same = torch.randn(40, 1).expand(-1, 6)
    assert decorrelation_loss(same).item() == pytest.approx(5, rel=1e-3)
    constant = torch.ones(40, 6, requires_grad=True)
    decorrelation_loss(constant).backward()
    assert decorrelation_loss(constant) == 0 and constant.grad.isfinite().all()


def test_decorrelation_is_added_to_the_contrastive_loss():
    inputs = batch_for(COLAForPreTraining, 5, 96)
    with torch.no_grad():
        plain = build(COLAForPreTraining)
        model = COLAForPreTraining(tiny_config(decorrelation_weight=0.5)).eval()
        model.load_state_dict(plain.state_dict())
        outputs = model(**inputs)
        h = model.cola(torch.cat([inputs["input_values"], inputs["positive_values"]])).pooler_output
    torch.testing.assert_close(outputs.logits, plain(**inputs).logits)
    assert outputs.loss.item() == pytest.approx((plain(**inputs).loss + 0.5 * decorrelation_loss(h)).item(), rel=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_decorrelation_spreads_h_over_more_directions(encoder):
    anchors, left = log_mel(12, 96), []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model = COLAForPreTraining(tiny_config(encoder, decorrelation_weight=weight, pooling="max")).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        for _ in range(15):
            model(anchors, anchors + 0.1).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            left.append(decorrelation_loss(model.cola(anchors).pooler_output).item())
    assert left[1] < 0.8 * left[0]


@pytest.mark.parametrize("similarity", ["bilinear", "cosine"])
def test_pretraining_learns_to_tell_clips_apart(similarity):
    model = COLAForPreTraining(tiny_config(similarity=similarity, pooling_dropout=0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    anchors = log_mel(8, 96)
    positives = anchors + 0.5 * torch.randn_like(anchors)
    losses = []
    for _ in range(20):
        outputs = model(anchors, positives)
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
        losses.append(outputs.loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert outputs.accuracy > 0.8


def test_projection_with_a_hidden_layer(tmp_path):
    inputs = batch_for(COLAForPreTraining, 5, 96)
    model = build(COLAForPreTraining, projection_hidden_size=20)
    assert model.projection.hidden[0].weight.shape == (20, 88) and model.projection.dense.weight.shape == (16, 20)
    model.train()(**inputs).loss.backward()
    assert model.projection.hidden[0].weight.grad.abs().max() > 0
    model.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        outputs = model(**inputs)
        assert_same_outputs(COLAForPreTraining.from_pretrained(tmp_path)(**inputs), outputs)
    assert outputs.anchor_embeds.shape == (5, 16)


def test_hidden_layer_missing_from_a_checkpoint_is_that_of_a_fresh_model(tmp_path):
    build(COLAModel, projection_hidden_size=20).save_pretrained(tmp_path)
    torch.manual_seed(3)
    loaded = COLAForPreTraining.from_pretrained(tmp_path)
    torch.manual_seed(3)
    fresh = COLAForPreTraining(tiny_config(projection_hidden_size=20))
    for name, value in fresh.projection.state_dict().items():
        torch.testing.assert_close(loaded.projection.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_pretraining_masks(pretraining_model):
    clips = [log_mel(1, length, seed=length)[0] for length in (50, 96, 130)]
    others = [log_mel(1, length, seed=length + 1)[0] for length in (96, 40, 150)]
    results = []
    for fill, num_frames in ((SILENCE, 150), (99.0, 400)):
        (values, mask), (positive_values, positive_mask) = (padded(c, num_frames, fill) for c in (clips, others))
        with torch.no_grad():
            results.append(pretraining_model(values, positive_values, mask, positive_mask))
    assert_same_outputs(results[1], results[0], atol=1e-4)


def test_pretraining_input_errors(pretraining_model):
    x, mask = log_mel(2, 96), torch.ones(2, 96, dtype=torch.long)
    with pytest.raises(ValueError, match="positive_values.*3, 96"):
        pretraining_model(x, log_mel(3, 96))
    with pytest.raises(ValueError, match="positive_attention_mask"):
        pretraining_model(x, x, attention_mask=mask)
    with pytest.raises(ValueError, match="positive_attention_mask"):
        pretraining_model(x, x, positive_attention_mask=mask)


def test_gaps_are_accepted_and_not_used(pretraining_model):
    inputs = batch_for(COLAForPreTraining, 5, 96)
    with torch.no_grad():
        assert_same_outputs(pretraining_model(**inputs, gaps=torch.rand(5)), pretraining_model(**inputs), atol=0)


DISTRIBUTED = """
    import sys
    import torch
    import torch.distributed
    from modeling_cola import COLAForPreTraining

    def work(rank, folder, sizes):
        torch.set_num_threads(1)
        method = f"file://{folder}/meet{len(sizes)}"
        torch.distributed.init_process_group("gloo", init_method=method, rank=rank, world_size=len(sizes))
        inputs = {name: value.split(sizes)[rank] for name, value in torch.load(f"{folder}/inputs.pt").items()}
        for similarity in ("bilinear", "cosine"):
            model = COLAForPreTraining.from_pretrained(f"{folder}/{similarity}").eval()
            outputs = model(**inputs)
            outputs.loss.backward()
            gradients = {}
            for name, parameter in model.named_parameters():
                torch.distributed.all_reduce(parameter.grad)
                gradients[name] = parameter.grad / len(sizes)
            names = ("loss", "logits", "accuracy")
            result = {"outputs": {name: outputs[name].detach() for name in names}, "gradients": gradients}
            with torch.no_grad():
                alone = model(**inputs, gather_positives=False)
            result["alone"] = {name: alone[name] for name in names}
            torch.save(result, f"{folder}/{similarity}-{rank}-of-{len(sizes)}.pt")
        torch.distributed.destroy_process_group()

    for sizes in %s:
        torch.multiprocessing.start_processes(work, (sys.argv[1], sizes), nprocs=len(sizes), start_method="fork")
"""
BATCHES = {"two": [3, 3], "three": [2, 2, 2], "uneven": [3, 1, 1, 1]}


@pytest.fixture(scope="module")
def several_processes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    torch.manual_seed(0)
    for similarity in ("bilinear", "cosine"):
        build(COLAForPreTraining, similarity=similarity).save_pretrained(folder / similarity)
    anchors, positives = ([log_mel(1, n, seed=n + s)[0] for n in (96, 60, 150, 20, 96, 110)] for s in (0, 1))
    (values, mask), (positive_values, positive_mask) = padded(anchors, 150), padded(positives, 150)
    inputs = {"input_values": values, "positive_values": positive_values}
    torch.save(inputs | {"attention_mask": mask, "positive_attention_mask": positive_mask}, folder / "inputs.pt")
    run_script(DISTRIBUTED % list(BATCHES.values()), folder, str(folder), PYTHONPATH=str(ROOT))
    return folder


@pytest.mark.parametrize("similarity", ["bilinear", "cosine"])
@pytest.mark.parametrize("sizes", BATCHES.values(), ids=BATCHES)
def test_several_processes_equal_one_with_the_whole_batch(several_processes, similarity, sizes):
    folder = several_processes
    ranks = [torch.load(folder / f"{similarity}-{rank}-of-{len(sizes)}.pt") for rank in range(len(sizes))]
    model = COLAForPreTraining.from_pretrained(folder / similarity).eval()
    whole = model(**torch.load(folder / "inputs.pt"))
    whole.loss.backward()
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    assert [rank["outputs"]["logits"].shape for rank in ranks] == [(size, 6) for size in sizes]
    torch.testing.assert_close(
        torch.cat([rank["outputs"]["logits"] for rank in ranks]), whole.logits.detach(), **tolerance
    )
    for name in ("loss", "accuracy"):
        mean = torch.stack([rank["outputs"][name] for rank in ranks]).mean()
        torch.testing.assert_close(mean, whole[name].detach(), **tolerance)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for rank in ranks:
        torch.testing.assert_close(rank["gradients"], gradients, **tolerance)
    assert max(gradient.abs().max() for gradient in gradients.values()) > 0.01


@pytest.mark.parametrize("sizes", BATCHES.values(), ids=BATCHES)
def test_other_processes_can_be_left_out(several_processes, sizes):
    model = COLAForPreTraining.from_pretrained(several_processes / "bilinear").eval()
    inputs = {name: values.split(sizes) for name, values in torch.load(several_processes / "inputs.pt").items()}
    for rank in range(len(sizes)):
        with torch.no_grad():
            expected = model(**{name: values[rank] for name, values in inputs.items()})
        actual = torch.load(several_processes / f"bilinear-{rank}-of-{len(sizes)}.pt")["alone"]
        assert_same_outputs(actual, {name: expected[name] for name in actual})


# Classification


@encoders
def test_logits_are_the_mean_over_valid_windows(encoder):
    model = build(COLAForAudioClassification, encoder, window_hop=48)
    values, mask = padded([log_mel(1, length, seed=length)[0] for length in (30, 300, 210)], 300)
    with torch.no_grad():
        outputs, encoded = model(values, mask), model.cola(values, mask)
        per_window = model.classifier(encoded.last_hidden_state)
    assert outputs.loss is None and outputs.logits.shape == (3, 3)
    for i, num_windows in enumerate(encoded.window_mask.sum(1)):
        torch.testing.assert_close(outputs.logits[i], per_window[i, :num_windows].mean(0), rtol=1e-5, atol=1e-5)


PROBLEMS = {
    "single": ("single_label_classification", 3, torch.tensor([2, 0, 1, 2]), F.cross_entropy),
    "multi": (
        "multi_label_classification",
        3,
        torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]),
        F.binary_cross_entropy_with_logits,
    ),
    "regression": ("regression", 1, torch.tensor([0.5, -1.0, 2.0, 0.0]), lambda x, y: F.mse_loss(x[:, 0], y)),
}


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_loss_is_the_plain_one(problem, explicit):
    problem_type, num_labels, labels, loss = PROBLEMS[problem]
    kwargs = {"problem_type": problem_type} if explicit else {}
    model = build(COLAForAudioClassification, num_labels=num_labels, **kwargs)
    with torch.no_grad():
        outputs = model(log_mel(4, 96), labels=labels)
    torch.testing.assert_close(outputs.loss, loss(outputs.logits, labels))
    assert model.config.problem_type == problem_type
    assert model.config.num_labels == num_labels


def test_regression_of_several_targets():
    model = build(COLAForAudioClassification, problem_type="regression")
    labels = torch.randn(4, 3)
    outputs = model(log_mel(4, 96), labels=labels)
    torch.testing.assert_close(outputs.loss, F.mse_loss(outputs.logits, labels))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (4, 1)])
def test_regression_labels_of_any_shape(shape):
    model = build(COLAForAudioClassification, num_labels=1)
    labels = torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of a broadcast
        outputs = model(log_mel(shape[0], 96), labels=labels)
    torch.testing.assert_close(outputs.loss, F.mse_loss(outputs.logits, labels.view(-1, 1)))


def test_multi_label_takes_integers():
    model = build(COLAForAudioClassification, problem_type="multi_label_classification")
    labels = torch.tensor([[1, 0, 1], [0, 0, 1]])
    outputs = model(log_mel(2, 96), labels=labels)
    torch.testing.assert_close(outputs.loss, F.binary_cross_entropy_with_logits(outputs.logits, labels.float()))


@encoders
def test_frozen_encoder_does_not_move(encoder):
    model = build(COLAForAudioClassification, encoder, pooling_dropout=0.5)
    model.freeze_encoder()
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    x, labels = log_mel(4, 120), torch.tensor([0, 1, 2, 0])
    for _ in range(3):
        model.train().eval().train()  # as a trainer that evaluates between epochs
        assert model.training and model.classifier.training
        assert not any(module.training for module in model.cola.modules())
        outputs = model(x, labels=labels)
        torch.testing.assert_close(model(x).logits, outputs.logits)  # no dropout
        optimizer.zero_grad()
        outputs.loss.backward()
        assert all(parameter.grad is None for parameter in model.cola.parameters())
        optimizer.step()
    assert_same_weights(model.cola, before.cola)
    assert not torch.equal(model.classifier.weight, before.classifier.weight)
    assert not torch.equal(model.classifier.bias, before.classifier.bias)


def test_freezing_takes_effect_in_training_mode():
    model = build(COLAForAudioClassification).train()
    model.freeze_encoder()
    assert model.training and not model.cola.training
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }


@encoders
def test_classifier_overfits_a_tiny_batch(encoder):
    model = COLAForAudioClassification(tiny_config(encoder, pooling_dropout=0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    x, labels = log_mel(6, 96), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for _ in range(20):
        loss = model(x, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# Pipeline and Trainer


@pytest.fixture(scope="module")
def sounds() -> dict:
    torch.manual_seed(0)
    model = build(COLAForAudioClassification, id2label={0: "cat", 1: "dog", 2: "rain"})
    return {"model": model, "extractor": COLAFeatureExtractor()}


@pytest.fixture(params=["objects", "folder"])
def classify(request, sounds, tmp_path):
    if request.param == "objects":
        return pipeline("audio-classification", model=sounds["model"], feature_extractor=sounds["extractor"])
    sounds["model"].save_pretrained(tmp_path)
    sounds["extractor"].save_pretrained(tmp_path)
    return pipeline("audio-classification", model=str(tmp_path))


@pytest.mark.parametrize("sampling_rate", [None, 16000, 8000])
def test_pipeline(classify, sounds, sampling_rate):
    wave = (0.1 * np.random.default_rng(0).standard_normal(20000)).astype(np.float32)
    resampled = torch.from_numpy(wave)
    if sampling_rate == 8000:
        resampled = torchaudio.functional.resample(resampled, 8000, 16000)
    with torch.no_grad():
        inputs = sounds["extractor"](resampled, sampling_rate=16000, return_tensors="pt")
        scores = sounds["model"](**inputs).logits.softmax(-1)[0].tolist()
    results = classify(wave if sampling_rate is None else {"raw": wave, "sampling_rate": sampling_rate})
    assert {result["label"]: result["score"] for result in results} == pytest.approx(
        dict(zip(["cat", "dog", "rain"], scores)), rel=1e-4
    )
    assert [result["score"] for result in results] == pytest.approx(sorted(scores, reverse=True), rel=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_trainer_runs(tmp_path, frozen):
    model = build(COLAForAudioClassification)
    if frozen:
        model.freeze_encoder()
    before = copy.deepcopy(model)
    examples = [{"input_values": clip, "labels": i % 3} for i, clip in enumerate(log_mel(8, 96))]
    arguments = TrainingArguments(
        output_dir=tmp_path,
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=examples, eval_dataset=examples)
    assert trainer.train().global_step == 2
    assert not torch.equal(model.classifier.weight, before.classifier.weight)
    weights, old = model.cola.state_dict(), before.cola.state_dict()
    assert all(torch.equal(weights[key], old[key]) for key in old) == frozen
    predictions = trainer.predict(examples)
    assert predictions.predictions.shape == (8, 3)
    assert math.isfinite(predictions.metrics["test_loss"])
