"""COLAConfig: defaults, round trips, errors and the auto classes."""

import json
import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from model_helpers import tiny_config
from modeling_cola import COLAConfig, COLAForAudioClassification, COLAForPreTraining, COLAModel


CLASSES = {
    AutoModel: COLAModel,
    AutoModelForPreTraining: COLAForPreTraining,
    AutoModelForAudioClassification: COLAForAudioClassification,
}
AUTO_MAP = {
    "AutoConfig": "configuration_cola.COLAConfig",
    "AutoModel": "modeling_cola.COLAModel",
    "AutoModelForPreTraining": "modeling_cola.COLAForPreTraining",
    "AutoModelForAudioClassification": "modeling_cola.COLAForAudioClassification",
}
# One value per argument, none of them the default.
CHANGED = {
    "encoder": "test_resnet",
    "encoder_kwargs": {"act_layer": "silu"},
    "drop_path_rate": 0.1,
    "zero_init_residual": True,
    "encoder_stride": 16,
    "pooling": "statistics",
    "pooling_stages": 2,
    "hidden_size": 24,
    "compact_channels": [8, 12, 16],
    "compact_depth": 2,
    "pooling_hidden_size": 16,
    "pooling_dropout": 0.0,
    "pooling_relu": True,
    "num_mel_bins": 40,
    "padding_value": -5.0,
    "conv_padding_value": -1.0,
    "window_size": 48,
    "window_hop": 24,
    "window_chunk_size": 7,
    "projection_size": 12,
    "projection_hidden_size": 10,
    "similarity": "cosine",
    "temperature": 0.5,
    "bilinear_init_std": 0.01,
    "bilinear_init_diagonal": 0.1,
    "decorrelation_weight": 0.05,
}


def test_defaults_are_the_papers():
    config = COLAConfig()
    assert (config.encoder, config.pooling, config.hidden_size) == ("efficientnet_b0", "max", 1280)
    assert (config.projection_size, config.similarity, config.temperature) == (512, "bilinear", 0.2)
    assert (config.num_mel_bins, config.window_size, config.window_hop) == (64, 96, 96)
    assert config.padding_value == pytest.approx(math.log(1e-5))
    assert config.bilinear_init_std == 0.05


def test_default_network_has_the_authors_batch_norm():
    norms = [module for module in COLAModel(COLAConfig()).modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_encoder_kwargs_replace_the_default_ones():
    assert COLAConfig(encoder_kwargs={}).encoder_kwargs == {}
    norms = [m for m in COLAModel(COLAConfig(encoder_kwargs={})).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    assert COLAConfig(encoder="test_resnet").encoder_kwargs == {}


@pytest.mark.parametrize(
    "encoder, pooling", [("efficientnet_b0", "max"), ("test_resnet", "max"), ("compact", "dense")]
)
def test_default_pooling(encoder, pooling):
    assert COLAConfig(encoder=encoder).pooling == pooling
    assert COLAConfig(encoder=encoder, pooling="mean").pooling == "mean"


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "compact"},
        {"encoder": "compact", "pooling": "mean", "compact_channels": [4, 8, 16]},
        {"encoder": "compact", "pooling": "statistics", "num_mel_bins": 43},
        {"encoder": "compact", "pooling": "statistics", "pooling_stages": 3, "compact_channels": [4, 8, 16]},
        {"encoder": "efficientnet_b0", "pooling": "statistics"},
        {"encoder": "test_resnet"},
        {"encoder": "test_efficientnet", "encoder_stride": 8, "pooling": "statistics", "pooling_stages": 2},
        {"encoder": "test_convnext", "pooling": "statistics", "num_mel_bins": 50},
    ],
)
def test_config_alone_knows_the_hidden_size(settings):
    config = COLAConfig(**settings)
    size = config.hidden_size
    model = COLAModel(config).eval()
    assert model(torch.zeros(1, 96, config.num_mel_bins)).pooler_output.shape == (1, size)


def test_timm_encoder_sets_hidden_size():
    assert COLAModel(COLAConfig(encoder="test_resnet", hidden_size=7)).config.hidden_size == 96
    assert COLAModel(tiny_config(hidden_size=7)).config.hidden_size == 7


def test_every_argument_is_changed():
    default = COLAConfig()
    assert all(getattr(default, name) != value for name, value in CHANGED.items())
    assert set(COLAConfig.__annotations__) - {"model_type"} == set(CHANGED)


def test_save_pretrained_round_trip(tmp_path):
    config = COLAConfig(**CHANGED)
    config.save_pretrained(tmp_path)
    for loaded in (COLAConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is COLAConfig
        assert {name: getattr(loaded, name) for name in CHANGED} == CHANGED


@pytest.mark.parametrize("config", [COLAConfig(), COLAConfig(encoder="compact"), COLAConfig(**CHANGED)])
def test_json_round_trip(tmp_path, config):
    config.to_json_file(tmp_path / "config.json")
    assert COLAConfig.from_json_file(tmp_path / "config.json").to_dict() == config.to_dict()
    assert COLAConfig.from_dict(json.loads(config.to_json_string(use_diff=False))).to_dict() == config.to_dict()


def test_labels_round_trip(tmp_path):
    COLAConfig(num_labels=3).save_pretrained(tmp_path / "num")
    assert COLAConfig.from_pretrained(tmp_path / "num").num_labels == 3
    id2label = {0: "cat", 1: "dog", 2: "rain"}
    config = COLAConfig(id2label=id2label, label2id={name: i for i, name in id2label.items()})
    config.save_pretrained(tmp_path / "names")
    loaded = COLAConfig.from_pretrained(tmp_path / "names")
    assert loaded.num_labels == 3
    assert loaded.id2label == id2label
    assert loaded.label2id == {"cat": 0, "dog": 1, "rain": 2}


@pytest.mark.parametrize(
    "name, value",
    [
        ("encoder", 3),
        ("encoder_kwargs", "bn_eps"),
        ("drop_path_rate", "0.1"),
        ("drop_path_rate", -0.1),
        ("drop_path_rate", 1.5),
        ("pooling", "average"),
        ("hidden_size", 0),
        ("hidden_size", 24.0),
        ("compact_channels", 0),
        ("compact_channels", [8, 8]),
        ("compact_channels", [8, 8, 0]),
        ("compact_depth", 0),
        ("pooling_stages", 0),
        ("pooling_stages", 2),  # with max pooling
        ("pooling_hidden_size", 0),
        ("encoder_stride", 0),
        ("pooling_dropout", 1.5),
        ("pooling_dropout", -0.1),
        ("num_mel_bins", 0),
        ("padding_value", "silence"),
        ("conv_padding_value", float("inf")),
        ("window_size", 0),
        ("window_hop", 0),
        ("window_hop", -96),
        ("window_chunk_size", 0),
        ("projection_size", 0),
        ("projection_hidden_size", 0),
        ("similarity", "dot"),
        ("temperature", 0),
        ("temperature", -0.2),
        ("bilinear_init_std", "small"),
        ("bilinear_init_std", -0.05),
        ("bilinear_init_diagonal", "none"),
        ("decorrelation_weight", -0.1),
    ],
)
def test_bad_value_is_an_error_that_names_the_argument(name, value):
    with pytest.raises(StrictDataclassError, match=name):
        COLAConfig(**{name: value})


def test_compact_encoder_has_one_stride():
    assert tiny_config(encoder_stride=8).encoder_stride == 8
    with pytest.raises(StrictDataclassError, match="encoder_stride.*4"):
        tiny_config(encoder_stride=4)


@pytest.mark.parametrize("name", ["window_size", "num_mel_bins"])
def test_compact_encoder_needs_eight(name):
    with pytest.raises(StrictDataclassError, match=name):
        tiny_config(**{name: 7})
    assert getattr(tiny_config(**{name: 8}), name) == 8
    assert getattr(COLAConfig(encoder="test_resnet", **{name: 7}), name) == 7


@pytest.mark.parametrize("cls", CLASSES.values())
def test_saved_config_has_the_whole_auto_map(tmp_path, cls):
    cls(tiny_config()).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_config_saved_alone_has_the_whole_auto_map(tmp_path):
    COLAConfig().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == AUTO_MAP


@pytest.mark.parametrize("auto_class, cls", CLASSES.items())
def test_auto_class_from_config(auto_class, cls):
    assert type(auto_class.from_config(tiny_config())) is cls


def test_auto_config_for_model():
    config = AutoConfig.for_model("cola", window_hop=10)
    assert type(config) is COLAConfig and config.window_hop == 10


@pytest.mark.parametrize("name", ["temperature", "bilinear_init_std", "padding_value", "decorrelation_weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(name: str, value: float):
    with pytest.raises(StrictDataclassError, match=f"`{name}` must be"):
        COLAConfig(**{name: value})
