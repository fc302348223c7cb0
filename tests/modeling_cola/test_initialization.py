"""The values that parameters start with, in a fresh model and where a checkpoint lacks them."""

import math

import pytest
import timm
import torch

from model_helpers import (
    ENCODERS,
    assert_same_outputs,
    assert_same_weights,
    batch_for,
    build,
    classes,
    encoders,
    tiny_config,
)
from modeling_cola import COLAForAudioClassification, COLAForPreTraining, COLAModel
from modeling_cola.modeling_cola import (
    COLACompactEncoder,
)


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
