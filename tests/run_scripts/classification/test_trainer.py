"""The Trainer of classifiers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from feature_extraction import ClipDecoder, COLADataCollator, COLAFeatureExtractor
from helpers import count_decoded, encode
from modeling_cola import COLAConfig, COLAForAudioClassification
from run_scripts.classification.trainer import (
    ClassificationTrainer,
    WholeClipCollator,
    balanced_weights,
)
from run_scripts.classification.trainer_arguments import ClassificationArguments
from run_scripts.embedding import batches


class Waveforms(torch.utils.data.Dataset):
    """Clips of noise with these lengths in samples, decoded and encoded, and labels 0 and 1 in turn."""

    def __init__(self, lengths: list[int]):
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        noise = np.random.default_rng(i).standard_normal(self.lengths[i]).astype(np.float32)
        encoded = {"bytes": encode(noise, subtype="FLOAT"), "path": None}
        return {"waveform": noise, "labels": i % 2, "audio": encoded, "label": i % 2}


@pytest.fixture
def trainer(tmp_path: Path) -> ClassificationTrainer:
    torch.manual_seed(0)
    extractor = COLAFeatureExtractor()
    collator = COLADataCollator(extractor)
    return ClassificationTrainer(
        model=COLAForAudioClassification(COLAConfig(encoder="compact", compact_channels=8, num_labels=2)),
        args=ClassificationArguments(
            output_dir=str(tmp_path),
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            disable_tqdm=True,
        ),
        data_collator=collator,
        evaluation_collator=WholeClipCollator(ClipDecoder(extractor), collator),
    )


def test_one_long_clip_is_decoded_and_padded_alone(trainer: ClassificationTrainer, monkeypatch: pytest.MonkeyPatch):
    clips = Waveforms([8000] * 5 + [60 * 16000] + [12000] * 12)  # a batch of 16 clips and one of two
    before = trainer.predict(clips)
    monkeypatch.setattr(batches, "MAX_BATCH_SAMPLES", 500_000)
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


def test_balanced_weights_make_classes_count_the_same(trainer: ClassificationTrainer):
    labels = [0] * 8 + [1] * 2 + [3] * 6
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels) * 3 / 4  # of four classes
    weights = balanced_weights(labels, 4)
    assert weights[2] == 1 and weights[[0, 1, 3]].numpy() == pytest.approx(expected)
    several = balanced_weights([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], 2)
    assert several.tolist() == pytest.approx([1 / 3, 1.0])

    # Of clips that are 3 : 1, the loss is the same as of clips that are 1 : 1.
    batch = trainer.training_collator([Waveforms([8000, 8000])[i] for i in (0, 1)])
    uneven = trainer.training_collator([Waveforms([8000, 8000])[i] for i in (0, 0, 0, 1)])
    trainer.model.eval()
    plain = trainer.compute_loss(trainer.model, batch)
    assert abs(trainer.compute_loss(trainer.model, uneven) - plain) > 1e-3
    trainer.class_weights = balanced_weights([0, 0, 0, 1], 2)
    assert torch.allclose(trainer.compute_loss(trainer.model, uneven), plain, atol=1e-5)
