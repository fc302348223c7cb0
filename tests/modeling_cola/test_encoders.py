"""The encoders: the networks of timm, the compact one, and the poolings."""

import os

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from model_helpers import (
    ROOT,
    SILENCE,
    assert_same_outputs,
    assert_same_weights,
    batch_for,
    build,
    classes,
    encoders,
    log_mel,
    padded,
    run_script,
    tiny_config,
)
from modeling_cola import COLAConfig, COLAForPreTraining, COLAModel
from modeling_cola.modeling_cola import COLAEncoder


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


@pytest.mark.parametrize(
    "encoder, settings",
    [("compact", {"compact_channels": [4, 8, 16], "compact_depth": 2}), ("test_efficientnet", {"encoder_stride": 8})],
)
@pytest.mark.parametrize("count", [2, 3])
def test_pooling_several_stages(encoder, settings, count):
    model = build(COLAModel, encoder, pooling="statistics", pooling_stages=count, **settings)
    x = log_mel(3, 96)
    with torch.no_grad():
        outputs = model(x, output_hidden_states=True)
        embedding = model(x).pooler_output
    # Neighbouring bands of the earlier stages are averaged, so that all have the 8 bands of the last one.
    maps = [x.unflatten(3, (8, -1)).mean(4) for x in outputs.hidden_states[-count:]]
    expected = torch.cat([POOLINGS["statistics"](x, None) for x in maps], dim=1)
    torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=4e-4)
    assert expected.shape == (3, model.config.hidden_size)
    assert torch.equal(outputs.pooler_output, embedding)


def test_more_stages_than_the_network_has_is_an_error():
    with pytest.raises(ValueError, match="pooling_stages.*at most 3.*'compact'.*got 4"):
        build(COLAModel, "compact", pooling="statistics", pooling_stages=4)


def test_deeper_compact_encoder_starts_as_the_shallow_one():
    shallow, deep = (COLAModel(tiny_config(compact_depth=depth)).eval() for depth in (1, 3))
    deep.load_state_dict(shallow.state_dict(), strict=False)
    x = log_mel(2, 96)
    with torch.no_grad():
        torch.testing.assert_close(deep(x).pooler_output, shallow(x).pooler_output)
        deep.encoder.backbone.blocks[2][-1].norm.weight.fill_(1.0)
        assert not torch.allclose(deep(x).pooler_output, shallow(x).pooler_output)


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
    (stage,) = [stage for stage in stages if stage.shape[-2] == 96 // stride]
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


# Of families whose networks differ in what follows the last feature map.
NETWORKS = [
    "convnext_atto",
    "dla46x_c",
    "edgenext_xx_small",
    "efficientnet_b0",
    "fastvit_t8",
    "fbnetv3_b",
    "ghostnet_100",
    "hgnetv2_b0",
    "lcnet_050",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "regnetx_002",
    "resnet18",
]


# glibc's check of the heap, where the system has it, ends a process at the first write beyond a tensor. The networks
# run in processes of their own, since such a write can also crash a later test.
HEAP_CHECK = {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
TRAINING = """
    import sys

    import torch
    from model_helpers import log_mel
    from modeling_cola import COLAConfig, COLAForPreTraining

    torch.manual_seed(0)
    torch.set_num_threads(1)
    for encoder in sys.argv[1:]:
        print(encoder, file=sys.stderr, flush=True)  # of which the last one failed
        model = COLAForPreTraining(COLAConfig(encoder=encoder, projection_size=16)).train()
        model = model.to(memory_format=model.memory_format)  # as pre-training does
        anchors = log_mel(2, 96)
        model(anchors, anchors + 0.1).loss.backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
"""


@pytest.mark.parametrize("start", range(3))
def test_networks_train_without_a_crash_and_every_parameter_gets_a_gradient(tmp_path, start):
    run_script(TRAINING, tmp_path, *NETWORKS[start::3], PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **HEAP_CHECK)


@pytest.mark.parametrize(
    "encoder, memory_format",
    [("compact", torch.channels_last), ("test_resnet", torch.channels_last), ("fastvit_t8", torch.contiguous_format)],
)
def test_only_checked_networks_get_the_strides_of_channels_last(encoder, memory_format):
    model = COLAForPreTraining(tiny_config(encoder))
    assert model.memory_format == memory_format
    maps = []
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda _, args, output: maps.append(output))
    model(**batch_for(COLAForPreTraining))
    assert maps[0].is_contiguous(memory_format=memory_format)


def test_head_of_vgg_is_left_out():
    with torch.device("meta"):
        encoder = COLAEncoder(COLAConfig(encoder="vgg11"))
        network = timm.create_model("vgg11", in_chans=1, num_classes=0, global_pool="")
    head = sum(parameter.numel() for parameter in network.pre_logits.parameters())
    assert head > 119e6
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert count == sum(parameter.numel() for parameter in network.parameters()) - head


@pytest.mark.parametrize("encoder", ["efficientnet_b0", "mobilenetv3_small_050"])
def test_weights_are_those_that_timm_draws(encoder):
    config = COLAConfig(encoder=encoder)
    torch.manual_seed(5)
    weights = COLAModel(config).encoder.backbone.state_dict()
    torch.manual_seed(5)
    torch.manual_seed(int(torch.randint(2**62, ())))  # the model draws the seed of its encoder
    expected = timm.create_model(encoder, in_chans=1, num_classes=0, global_pool="", **config.encoder_kwargs)
    expected = expected.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


@classes
def test_checkpoint_with_the_head_of_a_network_still_loads(tmp_path, cls):
    model = COLAForPreTraining(COLAConfig(encoder="mobilenetv3_small_050", projection_size=16))
    model.save_pretrained(tmp_path)
    network = timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=0, global_pool="").state_dict()
    old = {f"cola.encoder.backbone.{name}": value for name, value in network.items()} | model.state_dict()
    assert len(old) > len(model.state_dict())
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert_same_weights(loaded.base_model, model.base_model)


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
