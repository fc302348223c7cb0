"""COLAForAudioClassification: its losses, freezing, the pipeline and the Trainer."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
import torchaudio
from datasets import Dataset
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments, pipeline
from transformers.utils import logging

from feature_extraction import COLAFeatureExtractor
from model_helpers import assert_same_weights, build, encoders, log_mel, padded, tiny_config
from modeling_cola import COLAForAudioClassification


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


def test_regression_takes_integers():
    model = build(COLAForAudioClassification, num_labels=1)
    labels = torch.tensor([3, -1])
    outputs = model(log_mel(2, 96), labels=labels)
    outputs.loss.backward()
    torch.testing.assert_close(outputs.loss, F.mse_loss(outputs.logits[:, 0], labels.float()))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_loss_of_half_precision_logits_is_float32(problem):
    problem_type, num_labels, labels, loss = PROBLEMS[problem]
    model = build(COLAForAudioClassification, num_labels=num_labels, problem_type=problem_type).bfloat16()
    with torch.no_grad():
        outputs = model(log_mel(4, 96), labels=labels)
    assert outputs.logits.dtype == torch.bfloat16 and outputs.loss.dtype == torch.float32
    torch.testing.assert_close(outputs.loss, loss(outputs.logits.float(), labels))


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
def test_frozen_batch_norm_keeps_its_statistics(encoder):
    model = build(COLAForAudioClassification, encoder, pooling_dropout=0.0)
    x, labels = log_mel(4, 120), torch.tensor([0, 1, 2, 0])
    assert not torch.allclose(model.eval()(x).logits, model.train()(x).logits)  # statistics of the batch
    model.freeze_batch_norm()
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        logits = model.eval()(x).logits
        outputs = model.train()(x, labels=labels)  # as a trainer that evaluates between epochs
        torch.testing.assert_close(outputs.logits, logits)
        outputs.loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert model.training and model.cola.training
    for (name, buffer), (_, original) in zip(model.named_buffers(), before.named_buffers()):
        assert torch.equal(buffer, original), name
    assert not any(map(torch.equal, model.parameters(), before.parameters()))


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


def test_scripts_that_keep_the_features_alone(tmp_path):
    """
    Transformers' `run_audio_classification.py` and its like compute features of several clips at once, keep no mask,
    and let the Trainer pad.
    """
    extractor = COLAFeatureExtractor()
    model = build(COLAForAudioClassification)
    model.freeze_feature_encoder()
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(length).astype(np.float32) for length in (6_000, 16_000, 80_000, 33_000)]
    dataset = Dataset.from_dict({"audio": clips, "label": [0, 1, 2, 0]})

    def transform(batch: dict[str, list]) -> dict[str, list]:
        waveforms = [np.asarray(clip) for clip in batch["audio"]]
        inputs = extractor(waveforms, sampling_rate=extractor.sampling_rate)
        name = extractor.model_input_names[0]
        return {name: inputs.get(name), "labels": list(batch["label"])}

    dataset.set_transform(transform, output_all_columns=False)
    arguments = TrainingArguments(
        output_dir=tmp_path,
        per_device_eval_batch_size=4,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, eval_dataset=dataset, processing_class=extractor)
    logits = torch.from_numpy(trainer.predict(dataset).predictions)
    with torch.no_grad():
        alone = [model(**extractor(clip, sampling_rate=16000, return_tensors="pt")).logits for clip in clips]
    torch.testing.assert_close(logits, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_freezing_the_feature_encoder_says_that_there_is_none(caplog):
    logger = logging.get_logger("modeling_cola.modeling_cola")
    logger.warning_once.cache_clear()
    logger.propagate = True
    caplog.set_level("WARNING")
    model = build(COLAForAudioClassification)
    model.freeze_feature_encoder()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "freeze_encoder()" in caplog.text
