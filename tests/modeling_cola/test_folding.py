"""BatchNorm as part of the convolutions, which must be seen in nothing but the speed."""

import copy

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from model_helpers import build, encoders, lived_in, log_mel
from modeling_cola import COLAConfig, COLAModel
from modeling_cola.modeling_cola import BatchNormFolding, build_backbone, folded_batch_norm


def embed(model: COLAModel) -> torch.Tensor:
    with torch.no_grad():
        return model(log_mel(3, 200)).pooler_output


def count_batch_norms(monkeypatch: pytest.MonkeyPatch, model: COLAModel) -> int:
    """How many are computed in a call without gradients."""
    calls = []
    original = F.batch_norm
    with monkeypatch.context() as patch:
        patch.setattr(F, "batch_norm", lambda *args, **kwargs: calls.append(0) or original(*args, **kwargs))
        embed(model)
    return len(calls)


@encoders
def test_all_are_folded(monkeypatch, encoder):
    model = build(COLAModel, encoder)
    assert count_batch_norms(monkeypatch, model) == 0
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert len(BatchNormFolding(model).norms) == norms > 0


# What the family is built of: bottlenecks, fused ones, mixed kernels, squeeze and excitation, no skip.
@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "efficientnetv2_rw_t", "efficientnet_es", "mixnet_s", "mobilenetv2_050", "fbnetc_100"]
)
def test_outputs_of_the_family_are_the_same(name):
    network = build_backbone(COLAConfig(encoder=name, encoder_kwargs={"bn_momentum": 1.0})).double().train()
    x = log_mel(2, 96).double()[:, None]
    with torch.no_grad():
        network(x)  # gives BatchNorm the statistics of the clips, without which rounding errors grow without limit
        network.eval()
        expected, expected_maps = network.forward_intermediates(x)
        with folded_batch_norm(network):
            features, maps = network.forward_intermediates(x)
    for actual, wanted in zip([features, *maps], [expected, *expected_maps]):
        torch.testing.assert_close(actual, wanted)


@encoders
def test_hooks_see_what_they_see_with_gradients(monkeypatch, encoder):
    model = build(COLAModel, encoder)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    seen = []
    handles = [
        module.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
        for module in model.modules()
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    model(log_mel(3, 200))
    expected, seen[:] = seen[:], []
    assert count_batch_norms(monkeypatch, model) == norms
    for actual, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-4)
    for handle in handles:
        handle.remove()
    assert count_batch_norms(monkeypatch, model) == 0


@encoders
def test_hooks_of_all_modules_see_it_too(monkeypatch, encoder):
    model = build(COLAModel, encoder)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ):
        handle = register(lambda module, *args: None)
        assert count_batch_norms(monkeypatch, model) == norms
        handle.remove()
    assert count_batch_norms(monkeypatch, model) == 0


@encoders
@pytest.mark.parametrize("change", ["bias", "statistics"])
def test_modules_that_were_changed_are_left_as_they_are(encoder, change):
    model = build(COLAModel, encoder)
    before = embed(model)
    if change == "bias":
        conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        conv.bias = nn.Parameter(torch.ones(conv.out_channels))
    else:  # those of the batch are used, as in adaptation to it
        norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
        norm.running_mean = norm.running_var = None
    torch.testing.assert_close(embed(model), model(log_mel(3, 200)).pooler_output, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(embed(model), before, atol=1e-3)


@encoders
@pytest.mark.parametrize("offload", ["cpu", "disk"])
def test_offloaded_model(tmp_path, encoder, offload):
    model = build(COLAModel, encoder)
    expected = embed(model)
    offloaded = copy.deepcopy(model)
    if offload == "cpu":
        cpu_offload(offloaded, torch.device("cpu"))
    else:
        disk_offload(offloaded, tmp_path, torch.device("cpu"))
    assert all(parameter.is_meta for parameter in offloaded.parameters())
    torch.testing.assert_close(embed(offloaded), expected, rtol=1e-5, atol=1e-5)


@encoders
def test_operations_are_counted_by_module(encoder):
    model = build(COLAModel, encoder)
    counts = []
    for no_grad in (True, False):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(not no_grad):
            model(log_mel(2, 96))
        counts.append({name: sum(flops.values()) for name, flops in counter.get_flop_counts().items() if flops})
    assert counts[0] == counts[1] and len(counts[0]) > 5


@encoders
def test_parametrized_convolution_is_run(encoder):
    model = build(COLAModel, encoder)
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))

    class Double(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    before = embed(model)
    parametrize.register_parametrization(conv, "weight", Double())
    torch.testing.assert_close(embed(model), model(log_mel(3, 200)).pooler_output, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(embed(model), before, atol=1e-3)


@encoders
def test_folded_weights_follow_the_model(encoder):
    """Even where they are changed behind autograd's back, loaded, trained or converted."""
    model, other = build(COLAModel, encoder), lived_in(build(COLAModel, encoder))

    def check() -> torch.Tensor:
        embedding = embed(model)
        with torch.enable_grad():
            expected = model(log_mel(3, 200)).pooler_output.detach()
        torch.testing.assert_close(embedding, expected, rtol=1e-5, atol=1e-5)
        return embedding

    seen = [check()]
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    conv.weight.data.mul_(2)
    seen.append(check())
    model.load_state_dict(other.state_dict())
    seen.append(check())
    model.train()(log_mel(3, 200))
    model.eval()
    seen.append(check())
    model.double()
    seen.append(check())
    assert not any(torch.allclose(a, b, atol=1e-4) for a, b in zip(seen[:-1], seen[1:-1]))
    torch.testing.assert_close(seen[-1].float(), seen[-2], rtol=1e-4, atol=1e-4)
