"""The Trainer of classifiers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from feature_extraction import ClipDecoder, COLADataCollator, COLAFeatureExtractor
from helpers import count_decoded, encode
from modeling_cola import COLAConfig, COLAForAudioClassification
from run_scripts.classification.report import average_precisions
from run_scripts.classification.trainer import (
    ClassificationArguments,
    ClassificationTrainer,
    ClipCollator,
    balanced_weights,
    compute_metrics,
)


def noise(i: int, length: int) -> np.ndarray:
    return np.random.default_rng(i).standard_normal(length).astype(np.float32)


class WholeClips(torch.utils.data.Dataset):
    """Encoded clips of noise with these lengths in samples, and labels 0 and 1 in turn."""

    def __init__(self, lengths: list[int]):
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"audio": {"bytes": encode(noise(i, self.lengths[i]), subtype="FLOAT"), "path": None}, "label": i % 2}


def decoded_clips(labels: list[int]) -> list[dict[str, Any]]:
    """Decoded clips of half a second with these labels, by which their noise is drawn."""
    return [{"waveform": noise(label, 8000), "labels": label} for label in labels]


@pytest.fixture
def trainer(tmp_path: Path) -> ClassificationTrainer:
    torch.manual_seed(0)
    extractor = COLAFeatureExtractor()
    return ClassificationTrainer(
        model=COLAForAudioClassification(COLAConfig(encoder="compact", compact_channels=8, num_labels=2)),
        args=ClassificationArguments(
            output_dir=str(tmp_path),
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            disable_tqdm=True,
        ),
        data_collator=ClipCollator(ClipDecoder(extractor), COLADataCollator(extractor)),
    )


def test_one_long_clip_is_decoded_and_padded_alone(trainer: ClassificationTrainer, monkeypatch: pytest.MonkeyPatch):
    clips = WholeClips([8000] * 5 + [60 * 16000] + [12000] * 12)  # a batch of 16 clips and one of two
    before = trainer.predict(clips)
    monkeypatch.setattr("run_scripts.embedding.encode.SAMPLES_AT_ONCE", 500_000)
    shapes, forward = [], COLAForAudioClassification.forward
    decoded, totals = count_decoded(monkeypatch), []

    def spy(self: COLAForAudioClassification, input_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(input_values.shape[:2]))
        totals.append(sum(decoded))
        return forward(self, input_values, *args, **kwargs)

    monkeypatch.setattr(COLAForAudioClassification, "forward", spy)
    after = trainer.predict(clips)
    assert [count for count, _ in shapes] == [5, 1, 10, 2] and [frames for _, frames in shapes][::2] == [96, 96]
    assert np.diff(totals)[:2].tolist() == [60 * 16000, 10 * 12000]  # each part only when its turn comes
    np.testing.assert_allclose(after.predictions, before.predictions, atol=1e-5)
    assert after.label_ids.tolist() == before.label_ids.tolist() == [i % 2 for i in range(18)]
    assert after.metrics["test_loss"] == pytest.approx(before.metrics["test_loss"], abs=1e-6)


def test_training_and_evaluation_make_their_batches_by_one_collator(trainer: ClassificationTrainer):
    decoded = trainer.data_collator(decoded_clips([0, 1]))
    whole = trainer.data_collator([WholeClips([8000, 8000])[i] for i in (0, 1)])
    assert set(decoded) == set(whole) == {"input_values", "attention_mask", "labels"}
    torch.testing.assert_close(decoded["input_values"], whole["input_values"])


def test_balanced_weights_make_classes_count_the_same(trainer: ClassificationTrainer):
    weights = balanced_weights(np.array([0] * 8 + [1] * 2 + [3] * 6), 4)  # no clip of class 2
    assert weights.tolist() == pytest.approx([16 / 24, 16 / 6, 1, 16 / 18])
    several = balanced_weights(np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]), 3)
    assert several.tolist() == pytest.approx([1 / 3, 1, 3])

    # Of clips that are 3 : 1, the loss is the same as of clips that are 1 : 1.
    batch = trainer.data_collator(decoded_clips([0, 1]))
    uneven = trainer.data_collator(decoded_clips([0, 0, 0, 1]))
    trainer.model.eval()
    plain = trainer.compute_loss(trainer.model, batch)
    assert abs(trainer.compute_loss(trainer.model, uneven) - plain) > 1e-3
    trainer.class_weights = balanced_weights(np.array([0, 0, 0, 1]), 2)
    assert torch.allclose(trainer.compute_loss(trainer.model, uneven), plain, atol=1e-5)


def test_metrics_of_one_label():
    logits, labels = np.eye(3)[[0, 1, 1, 1]], np.array([0, 1, 2, 1])
    # F1 by class: 1, 2 * (2/3 * 1) / (2/3 + 1) = 0.8 and 0.
    metrics = compute_metrics(EvalPrediction(logits, labels))
    assert metrics == pytest.approx({"accuracy": 0.75, "macro_f1": 0.6})


def test_metrics_of_several_labels_leave_out_classes_without_clips():
    logits = np.array([[2.0, 1.0, 5.0], [1.0, -1.0, 5.0], [-1.0, -2.0, 5.0]])
    labels = np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])
    # Average precision: (1 + 2/3) / 2, and (1/2 + 2/3) / 2. F1: of the first two predicted, one; of the first, none.
    assert average_precisions(logits, labels).tolist() == pytest.approx([5 / 6, 7 / 12, np.nan], nan_ok=True)
    metrics = compute_metrics(EvalPrediction(logits, labels))
    assert metrics == pytest.approx({"map": (5 / 6 + 7 / 12) / 2, "macro_f1": 0.25})
    assert compute_metrics(EvalPrediction(logits, 0 * labels)) == {"map": 0.0, "macro_f1": 0.0}
