"""COLAForPreTraining: its losses, its arguments, and several processes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model_helpers import (
    ENCODERS,
    ROOT,
    SILENCE,
    assert_same_outputs,
    batch_for,
    build,
    log_mel,
    padded,
    run_script,
    tiny_config,
)
from modeling_cola import COLAForPreTraining, COLAModel
from modeling_cola.modeling_cola import (
    COLABilinearSimilarity,
    COLACosineSimilarity,
    contrastive_loss,
    decorrelation_loss,
)


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
