"""The Trainer of classifiers, which evaluates on whole clips of any length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction, Trainer

from feature_extraction import COLADataCollator
from run_scripts.evaluation.batches import batch_by_samples
from run_scripts.evaluation.classification_report import format_model_card
from run_scripts.evaluation.metrics import ClassificationMetrics, MultiLabelMetrics


Batch = dict[str, Any]


class WholeClipCollator:
    """
    Makes a batch of whole clips. A batch that padding would make too large is divided into `parts`, each a batch.

    Args:
        collator ([`COLADataCollator`]):
            Computes the features of a batch and pads them.
    """

    def __init__(self, collator: COLADataCollator):
        self.collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        batches = batch_by_samples(rows, lambda row: len(row["waveform"]), max_items=len(rows))
        parts = [self.collator(part) for part in batches]
        if len(parts) == 1:
            return parts[0]
        return {"labels": torch.cat([part["labels"] for part in parts]), "parts": parts}


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Computes the metrics of single-label or multi-label predictions, depending on the shape of the labels."""
    logits, labels = prediction.predictions, prediction.label_ids
    if labels.ndim == 2:
        return MultiLabelMetrics(keep_in_memory=True).compute(predictions=logits, references=labels.astype(int))
    return ClassificationMetrics(keep_in_memory=True).compute(predictions=logits.argmax(-1), references=labels)


class ClassificationTrainer(Trainer):
    """
    The Trainer, except that it evaluates batches in parts that fit into memory, and that `push_to_hub` writes the
    model card of this project.

    Args:
        evaluation_collator (`Callable`):
            Makes the batches of evaluation; `data_collator` makes those of training.
        **kwargs:
            The Trainer's own arguments.
    """

    results: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None

    def __init__(self, evaluation_collator: Callable[[list], Batch], **kwargs: Any):
        super().__init__(compute_metrics=compute_metrics, **kwargs)
        self.training_collator, self.evaluation_collator = self.data_collator, evaluation_collator

    def get_train_dataloader(self) -> DataLoader:
        self.data_collator = self.training_collator
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        self.data_collator = self.evaluation_collator
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        self.data_collator = self.evaluation_collator
        return super().get_test_dataloader(test_dataset)

    def prediction_step(
        self, model: torch.nn.Module, inputs: Batch, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor | None, ...]:
        if "parts" not in inputs:
            return super().prediction_step(model, inputs, *args, **kwargs)
        parts = inputs["parts"]
        sizes = [len(part["labels"]) for part in parts]
        step = super().prediction_step
        losses, logits, labels = zip(*(step(model, part, *args, **kwargs) for part in parts))
        loss = sum(size * part_loss for size, part_loss in zip(sizes, losses)) / sum(sizes)
        if logits[0] is None:  # with `prediction_loss_only`
            return loss, None, None
        return loss, torch.cat(logits), torch.cat(labels)

    def create_model_card(self, **kwargs: Any) -> None:
        if self.is_world_process_zero() and self.results is not None:
            output_dir = Path(self.args.output_dir)
            format_model_card(output_dir.name, self.results, self.recipe).save(output_dir / "README.md")
