"""COLAModel's outputs: modes, padding, windows and arguments."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_helpers import (
    ROOT,
    SILENCE,
    assert_same_outputs,
    assert_same_weights,
    batch_for,
    build,
    classes,
    encoders,
    lived_in,
    log_mel,
    padded,
    run_script,
)
from modeling_cola import COLAForAudioClassification, COLAForPreTraining, COLAModel


MASK_LENGTHS = [1, 40, 96, 144, 250, 300]


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


def embeddings_without_and_with_gradients(model: COLAModel) -> tuple[torch.Tensor, torch.Tensor]:
    x = log_mel(2, 200)
    with torch.no_grad():
        without = model(x).pooler_output
    return without, model(x).pooler_output.detach()


def test_embeddings_without_gradients_follow_the_weights():
    model, other = build(), lived_in(build())
    first, expected = embeddings_without_and_with_gradients(model)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)
    model.load_state_dict(other.state_dict())
    second, expected = embeddings_without_and_with_gradients(model)
    torch.testing.assert_close(second, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(first, second, atol=1e-3)
    with torch.no_grad():
        model.encoder.backbone.blocks[0][1].running_mean.add_(1.0)
    third, expected = embeddings_without_and_with_gradients(model)
    torch.testing.assert_close(third, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(second, third, atol=1e-3)


def test_batch_norm_in_training_mode_gathers_statistics_without_gradients():
    model = build()
    norm = model.encoder.backbone.blocks[0][1].train()
    before = norm.running_mean.clone()
    with torch.no_grad():
        model(log_mel(2, 96))
    assert not torch.equal(norm.running_mean, before)


def test_module_in_the_place_of_a_convolution_is_run_without_gradients():
    class Adapter(nn.Module):
        def __init__(self, conv: nn.Conv2d):
            super().__init__()
            self.conv, self.weight = conv, conv.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) + 1.0

    model = build()
    block = model.encoder.backbone.blocks[0]
    block[0] = Adapter(block[0])
    torch.testing.assert_close(*embeddings_without_and_with_gradients(model), atol=1e-5, rtol=0)


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


@encoders
def test_a_cpu_computes_in_channels_last_from_any_weights(encoder):
    """It is about twice as fast. Loaded weights are in the default format, which must not matter."""
    model = build(COLAModel, encoder)
    with torch.no_grad():
        stages = model(log_mel(2, 96), output_hidden_states=True).hidden_states
    assert stages[0].is_contiguous(memory_format=torch.channels_last) and not stages[0].is_contiguous()
    assert all(parameter.is_contiguous() for parameter in model.parameters())


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
    x, mask = torch.randn(1, 360_000, 64), torch.ones(1, 360_000, dtype=torch.long)
    with torch.no_grad():
        model(x[:, :96], mask[:, :96])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outputs = model(x, mask)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outputs.last_hidden_state.shape == (1, 3750, 88)
    assert outputs.pooler_output.isfinite().all()
    assert growth < 140_000, f"{growth} KiB"  # a copy of the frames, of 90,000 KiB, and little more
"""


def test_an_hour_takes_bounded_memory(tmp_path):
    run_script(HOUR, tmp_path, PYTHONPATH=str(ROOT))


# All windows at once take more than 1.5 GB.
FORGETFUL = HOUR.replace("with torch.no_grad():", "if True:").replace("140_000", "600_000")


def test_an_hour_takes_bounded_memory_without_no_grad(tmp_path):
    assert FORGETFUL != HOUR
    run_script(FORGETFUL, tmp_path, PYTHONPATH=str(ROOT))


def test_chunks_have_the_gradients_of_the_whole():
    model = build(COLAModel, "compact")
    values = log_mel(2, 600).requires_grad_()
    grads = []
    for size in (256, 2):
        model.config.window_chunk_size = size
        model.zero_grad()
        values.grad = None
        model(values).pooler_output.square().sum().backward()
        grads.append([values.grad, *(parameter.grad.clone() for parameter in model.parameters())])
    for whole, chunked in zip(*grads, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 300), (2, 299), (300,), (2, 300, 1)])
def test_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"`attention_mask` must be of shape \[2, 300\].* got"):
        build()(log_mel(2, 300), torch.ones(shape, dtype=torch.long))


def test_padding_on_the_left_is_refused():
    mask = torch.ones(2, 300, dtype=torch.long)
    mask[1, :100] = 0
    for kind in (torch.long, torch.bool):
        with pytest.raises(ValueError, match="pad recordings on the right"):
            build(COLAModel, "compact")(log_mel(2, 300), mask.to(kind))


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
    num_windows = 12 if cls is COLAForPreTraining else 6
    assert [tuple(stage.shape) for stage in outputs.hidden_states] == [
        (num_windows, *shape) for shape in STAGES[encoder]
    ]
    for actual, expected in zip(by_config.hidden_states, outputs.hidden_states, strict=True):
        assert torch.equal(actual, expected)
    torch.testing.assert_close(outputs[0], plain[0])


@encoders
def test_hidden_states_are_those_of_the_valid_windows(encoder):
    model = build(COLAModel, encoder)
    clips = [log_mel(1, length, seed=length)[0] for length in (60, 300, 200)]
    with torch.no_grad():
        outputs = model(*padded(clips, 500), output_hidden_states=True)
        for i, clip in enumerate(clips):
            alone = model(clip[None], output_hidden_states=True).hidden_states
            for stage, expected in zip(outputs.hidden_states, alone, strict=True):
                stage = stage.split(outputs.window_mask.sum(1).tolist())[i]
                torch.testing.assert_close(stage, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("by_config", [False, True], ids=["argument", "config"])
@encoders
@classes
def test_tuple_holds_the_same_values(cls, encoder, by_config):
    model = build(cls, encoder)
    inputs = batch_for(cls)
    with torch.no_grad():
        outputs = model(**inputs)
        model.config.return_dict = not by_config
        values = model(**inputs) if by_config else model(**inputs, return_dict=False)
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


def test_the_mean_of_many_windows_in_half_precision():
    """Their sum is more than float16 can hold."""
    model = build(window_hop=1).half()
    model.encoder.register_forward_hook(lambda _, args, output: (torch.full_like(output[0], 100.0), output[1]))
    with torch.no_grad():
        outputs = model(torch.zeros(1, 800, 64, dtype=torch.float16))
    assert outputs.pooler_output.dtype == torch.float16 and outputs.window_mask.sum() * 100 > 65504
    assert (outputs.pooler_output == 100).all()


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
    assert "nonzero" not in exported.graph_module.code  # ONNX has no such operator
    values, mask = padded([log_mel(1, length, seed=length)[0] for length in (60, 200, 143, 144, 0)], 200)
    with torch.no_grad():
        actual, expected = exported.module()(values, mask), model(values, mask)
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.last_hidden_state, expected.last_hidden_state, rtol=1e-5, atol=1e-5)
    assert torch.equal(actual.window_mask, expected.window_mask)


@encoders
@pytest.mark.parametrize("is_padded", [False, True])
def test_compiled_training_is_as_without(encoder, is_padded):
    """BatchNorm must not see padding."""
    torch.compiler.reset()
    plain = build(COLAForAudioClassification, encoder, pooling_dropout=0.0).double().train()
    compiled = copy.deepcopy(plain)
    values, mask = padded([log_mel(1, 300)[0], log_mel(1, 120, seed=1)[0]], 300)
    inputs = {"input_values": values.double(), "labels": torch.tensor([0, 2])}
    inputs |= {"attention_mask": mask} if is_padded else {}
    expected = plain(**inputs).loss
    loss = torch.compile(compiled, backend="eager", fullgraph=not is_padded)(**inputs).loss
    torch.testing.assert_close(loss, expected)
    expected.backward()
    loss.backward()
    for one, other in zip(plain.parameters(), compiled.parameters()):
        torch.testing.assert_close(other.grad, one.grad)
    for one, other in zip(plain.buffers(), compiled.buffers()):
        torch.testing.assert_close(other, one)


@encoders
def test_compiles_to_one_graph(encoder):
    model = build(COLAModel, encoder)
    values, mask = padded([log_mel(1, 200)[0], log_mel(1, 120)[0]], 200)
    with torch.no_grad():
        expected = model(values, mask)
        assert_same_outputs(torch.compile(model, fullgraph=True, backend="eager")(values, mask), expected)
