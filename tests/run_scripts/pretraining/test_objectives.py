"""The objectives that COLA is compared with: their losses by hand, and what they do to the encoder."""

import math

import pytest
import torch
from torch.nn import functional as F

from helpers import with_teacher
from modeling_cola import COLAConfig, COLAForPreTraining, COLAModel
from run_scripts.pretraining.arguments import OBJECTIVE_NAMES
from run_scripts.pretraining.objectives import (
    OBJECTIVES,
    Audio2VecCBoWObjective,
    Audio2VecSkipGramObjective,
    Objective,
    half_whitening,
    triplet_loss,
)
from run_scripts.pretraining.validation import inputs_of


NAMES = [name for name in OBJECTIVES if name != "contrastive"]


def tiny(name: str, seed: int = 0) -> Objective:
    """An objective on an encoder of windows of 16 frames and 16 bands."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "pooling_hidden_size": 32, "compact_channels": 8, "projection_size": 16}
    sizes |= {"window_size": 16, "window_hop": 16, "num_mel_bins": 16}
    return with_teacher(OBJECTIVES[name](COLAConfig(encoder="compact", pooling_dropout=0.0, **sizes)))


def pairs(objective: Objective, batch_size: int = 8, num_frames: int | None = None) -> dict[str, torch.Tensor]:
    """
    Segments of recordings that are a band each, louder from frame to frame, and their gaps, if the objective takes
    them.
    """
    generator = torch.Generator().manual_seed(0)
    num_frames = num_frames or 16 * objective.num_windows
    gaps = torch.rand(batch_size, generator=generator)
    frames = torch.randn(2, batch_size, num_frames, 16, generator=generator) * 0.1 - 8
    for i in range(batch_size):
        frames[:, i, :, i % 16] += torch.linspace(2, 4, num_frames)
        frames[1, i] += 3 * gaps[i]
    return inputs_of(objective, {"input_values": frames[0], "positive_values": frames[1], "gaps": gaps})


def step(objective: Objective, optimizer: torch.optim.Optimizer, inputs: dict[str, torch.Tensor]) -> float:
    loss = objective(**inputs).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def similarities(distances: list[list[float]]) -> torch.Tensor:
    """Cosines of unit vectors whose squared distances these are."""
    return 1 - torch.tensor(distances) / 2


def test_the_contrastive_one_is_the_default_class():
    assert OBJECTIVES["contrastive"] is COLAForPreTraining


def test_every_objective_can_be_asked_for():
    assert tuple(OBJECTIVES) == OBJECTIVE_NAMES


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.50, 0.40, 0.55, 0.58], 0.50 - 0.55 + 0.1),  # two are semi-hard: the harder one
        ([0.50, 0.40, 0.90, 0.70], 0.0),  # none within the margin: all that are farther are easy
        ([0.50, 0.10, 0.40, 0.30], 0.50 - 0.40 + 0.1),  # all are hard: the least hard
        ([0.50, 0.50, 0.50, 0.50], 0.1),  # a collapsed encoder
    ],
)
def test_triplet_mining(row: list[float], expected: float):
    # The other anchors have nothing to learn.
    others = [[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]]
    loss, accuracy = triplet_loss(similarities([row, *others]), margin=0.1)
    assert loss.item() == pytest.approx(expected / 4, abs=1e-6)
    assert accuracy.item() == (0.75 if min(row) < row[0] else 1.0)


def test_triplet_loss_moves_the_positive_and_the_chosen_negative_only():
    values = similarities([[0.50, 0.40, 0.55], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]).requires_grad_()
    triplet_loss(values, margin=0.1)[0].backward()
    expected = torch.zeros(3, 3)
    expected[0, 0], expected[0, 2] = -2 / 3, 2 / 3
    torch.testing.assert_close(values.grad, expected)


def test_a_batch_of_one_has_no_triplet():
    values = similarities([[0.5]]).requires_grad_()
    loss, _ = triplet_loss(values, margin=0.1)
    loss.backward()
    assert loss == 0 and values.grad == 0


def test_triplet_objective():
    objective = tiny("triplet").eval()
    inputs = pairs(objective)
    anchors, positives = inputs["input_values"], inputs["positive_values"]
    outputs = objective(anchors, positives)
    z, z_positive = (F.normalize(objective.projection(objective.cola(x).pooler_output)) for x in (anchors, positives))
    torch.testing.assert_close(outputs.logits, z @ z_positive.T)
    distances = torch.cdist(z, z_positive).square()
    losses = []
    for i, row in enumerate(distances.tolist()):
        own, others = row[i], row[:i] + row[i + 1 :]
        negative = min((d for d in others if d > own), default=max(others))
        losses.append(max(own - negative + 0.1, 0.0))
    assert outputs.loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    nearest = distances.argmin(-1) == torch.arange(len(distances))
    assert outputs.accuracy.item() == pytest.approx(nearest.float().mean().item())


def test_temporal_gap_objective():
    objective = tiny("temporal_gap").eval()
    anchors, positives, gaps = pairs(objective).values()
    h, h_positive = objective.cola(anchors).pooler_output, objective.cola(positives).pooler_output
    p = objective.estimator(torch.cat([h, h_positive], dim=1)).sigmoid().flatten()
    losses = -(gaps * p.log() + (1 - gaps) * (1 - p).log())
    torch.testing.assert_close(objective(anchors, positives, gaps).loss, losses.mean())

    gaps[2:] = math.nan
    torch.testing.assert_close(objective(anchors, positives, gaps).loss, losses[:2].mean())
    gaps[:] = math.nan
    loss = objective(anchors, positives, gaps).loss
    loss.backward()  # with several processes each has to have gradients
    assert loss == 0
    assert all(parameter.grad is not None for parameter in objective.parameters())


@pytest.mark.parametrize(
    ("name", "sources", "targets"),
    [("audio2vec_cbow", [0, 1, 3, 4], [2]), ("audio2vec_skipgram", [2], [0, 1, 3, 4])],
)
def test_audio2vec_objectives(name: str, sources: list[int], targets: list[int]):
    objective = tiny(name).eval()
    errors = []
    inputs = pairs(objective)
    for segments in (inputs["input_values"], inputs["positive_values"]):
        slices = [segments[:, 16 * i : 16 * (i + 1)] for i in range(5)]
        h = torch.cat([objective.cola(slices[i]).pooler_output for i in sources], dim=1)
        decoded = objective.decoder(h) + objective.config.padding_value
        assert decoded.shape == (8, len(targets), 16, 16)
        errors += [(decoded[:, j] - slices[i]).square().mean() for j, i in enumerate(targets)]
    torch.testing.assert_close(objective(**pairs(objective)).loss, torch.stack(errors).mean())


def test_what_is_decoded_is_not_what_is_encoded():
    for cls in (Audio2VecCBoWObjective, Audio2VecSkipGramObjective):
        assert sorted(cls.sources + cls.targets) == list(range(cls.num_windows))


@pytest.mark.parametrize(("has_bfloat16", "tolerance"), [(False, 1e-6), (True, 0.02)])
def test_distillation_objective(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, tolerance: float):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_bfloat16})
    objective = tiny("distillation").train()
    before = {key: value.clone() for key, value in objective.teacher.state_dict().items()}
    anchors, positives = pairs(objective).values()
    loss = objective(anchors, positives).loss
    targets = objective.teacher(torch.cat([anchors, positives])).pooler_output  # as in evaluation mode
    targets = (targets - objective.target_center) @ objective.target_matrix
    predictions = objective.predictor(objective.cola(torch.cat([anchors, positives])).pooler_output)
    expected = (predictions - targets).square().mean()
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0.0)
    assert has_bfloat16 != torch.allclose(loss, expected, rtol=1e-6, atol=0.0)
    step(objective, torch.optim.SGD(objective.parameters(), lr=0.1), pairs(objective))
    assert all(torch.equal(value, before[key]) for key, value in objective.teacher.state_dict().items())


def test_half_whitened_components_are_uncorrelated_and_nearer_in_size():
    torch.manual_seed(0)
    vectors = torch.randn(500, 20) @ torch.randn(20, 20) * torch.logspace(-1, 2, 20) + 7
    center, matrix = half_whitening(vectors, 20)
    covariance = torch.cov(((vectors - center) @ matrix).T)
    variances = covariance.diagonal()
    torch.testing.assert_close(covariance, variances.diag(), atol=1e-3, rtol=0.0)
    assert variances.mean().item() == pytest.approx(1)
    whole = torch.linalg.eigvalsh(torch.corrcoef(vectors.T)).flip(0)  # the variances of standardised vectors
    torch.testing.assert_close(variances / variances[0], (whole / whole[0]).sqrt(), rtol=1e-2, atol=1e-3)
    assert half_whitening(vectors, 5)[1].shape == (20, 5)
    constant = torch.cat([vectors, torch.ones(500, 1)], 1)  # a channel that never fires
    assert all(part.isfinite().all() for part in half_whitening(constant, 21))


def test_small_components_count_in_distillation():
    """An error in the smallest of the teacher's components costs more than its share of the variance."""
    vectors = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    mixed = torch.stack([vectors[:, 0], vectors[:, 0] + 0.1 * vectors[:, 1]], 1)  # two dimensions that nearly agree
    center, matrix = half_whitening(mixed, 2)
    variances = ((mixed - center) @ matrix).var(0)
    share = torch.linalg.eigvalsh(torch.corrcoef(mixed.T))[0] / 2
    assert variances[1] / variances.sum() > 10 * share


def test_a_teacher_of_other_windows_is_an_error():
    objective = tiny("distillation")
    with pytest.raises(ValueError, match="windows of 96 frames and 64 bands, the encoder of 16 and 16"):
        objective.set_teacher(COLAModel(COLAConfig(encoder="compact")))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str):
    objective = tiny(name)
    objective(**pairs(objective)).loss.backward()
    grads = {key: parameter.grad for key, parameter in objective.named_parameters() if parameter.requires_grad}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    assert all(grads[key].abs().max() > 0 for key in grads if key.startswith("cola.") and key.endswith("weight"))


def test_all_are_called_alike():
    for name in OBJECTIVES:
        objective = tiny(name).eval()
        inputs = pairs(objective)
        loss = objective(**inputs_of(objective, inputs, gather_positives=False)).loss
        assert torch.equal(loss, objective(**inputs).loss)  # with one process there is nothing to gather
    with pytest.raises(ValueError, match="gaps"):
        tiny("temporal_gap")(inputs["input_values"], inputs["positive_values"])


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls(name: str):
    objective = tiny(name)
    inputs = pairs(objective)
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    losses = [step(objective, optimizer, inputs) for _ in range(40)]
    if name == "temporal_gap":
        gaps = inputs["gaps"]
        losses = [loss - F.binary_cross_entropy(gaps, gaps).item() for loss in losses]  # what could be known
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str):
    one, same, other = (tiny(name, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values()))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    assert torch.equal(one(**pairs(one)).loss, same(**pairs(same)).loss)


@pytest.mark.parametrize("name", NAMES)
def test_all_start_from_the_same_encoder(name: str):
    expected = tiny("contrastive").cola.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in tiny(name).cola.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_starts_from_the_encoder_of_a_checkpoint(name: str, tmp_path):
    for seed, cls in ((1, COLAModel), (2, COLAForPreTraining)):
        torch.manual_seed(seed)
        saved = cls(tiny(name).config)
        saved.save_pretrained(tmp_path / cls.__name__)
        torch.manual_seed(0)
        objective = with_teacher(OBJECTIVES[name].from_pretrained(tmp_path / cls.__name__))
        expected = getattr(saved, "cola", saved).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in objective.cola.state_dict().items())
        assert objective(**pairs(objective)).loss.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_short_clips(name: str):
    objective = tiny(name)
    inputs = pairs(objective, num_frames=16)  # what the extractor pads the shortest to
    loss = objective(**inputs).loss
    assert loss.isfinite()
    if objective.num_windows > 1:
        silence = torch.full((8, 64, 16), float(objective.config.padding_value))
        padded = [torch.cat([inputs[name], silence], dim=1) for name in ("input_values", "positive_values")]
        torch.testing.assert_close(objective(*padded).loss, loss)
