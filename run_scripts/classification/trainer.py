"""The Trainer of classifiers, which evaluates on whole clips of any length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction, Trainer

from feature_extraction import ClipDecoder, COLADataCollator, open_audio
from modeling_cola import COLAModel
from run_scripts.classification.metrics import ClassificationMetrics, MultiLabelMetrics
from run_scripts.classification.report import PLOTS, format_model_card, write_example
from run_scripts.common.files import share_weights, write_text
from run_scripts.embedding.encode import batch_by_samples


Batch = dict[str, Any]


class WholeClipCollator:
    """
    Makes a batch of rows whose audio is encoded, each of them a whole clip. A batch that would be too large in memory
    is not decoded: it has the `labels` and, as `parts`, the rows of several smaller batches, which [`decode`] makes.

    Args:
        decoder ([`ClipDecoder`]):
            Decodes rows.
        collator ([`COLADataCollator`]):
            Computes the features of a batch and pads them.
    """

    def __init__(self, decoder: ClipDecoder, collator: COLADataCollator):
        self.decoder, self.collator = decoder, collator

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        parts = list(batch_by_samples(rows, self._count_samples, max_items=len(rows)))
        if len(parts) == 1:
            return self.decode(rows)
        return {"labels": torch.tensor([row[self.decoder.label_column] for row in rows]), "parts": parts}

    def decode(self, rows: list[dict[str, Any]]) -> Batch:
        """Decodes rows to a batch of features, `input_values` and `attention_mask`, and `labels`."""
        decoded = self.decoder({name: [row[name] for row in rows] for name in rows[0]})
        return self.collator([dict(zip(decoded, values)) for values in zip(*decoded.values())])

    def _count_samples(self, row: dict[str, Any]) -> int:
        with open_audio(row[self.decoder.audio_column], self.decoder.sampling_rate) as audio:
            return audio.num_samples


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Computes the metrics of single-label or multi-label predictions, depending on the shape of the labels."""
    logits, labels = prediction.predictions, prediction.label_ids
    if labels.ndim == 2:
        return MultiLabelMetrics(keep_in_memory=True).compute(predictions=logits, references=labels.astype(int))
    return ClassificationMetrics(keep_in_memory=True).compute(predictions=logits.argmax(-1), references=labels)


class ClassificationTrainer(Trainer):
    """
    The Trainer, except that it decodes and evaluates batches in parts that fit into memory, that classes can have
    weights, and that `push_to_hub` writes the model card of this project.

    Args:
        evaluation_collator (`Callable`):
            Makes the batches of evaluation; `data_collator` makes those of training.
        class_weights (`torch.Tensor` of shape `(num_labels,)`, *optional*):
            How much each class counts in the loss. Where a clip has several labels, these are the weights of the
            clips that have the label. Defaults to the model's own loss.
        encoder ([`COLAModel`], *optional*):
            The encoder to save with the classifier, where another module stands in for it during training.
        **kwargs:
            The Trainer's own arguments.
    """

    results: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    origin: dict[str, Any] | None = None

    def __init__(
        self,
        evaluation_collator: Callable[[list], Batch],
        class_weights: torch.Tensor | None = None,
        encoder: COLAModel | None = None,
        **kwargs: Any,
    ):
        super().__init__(compute_metrics=compute_metrics, **kwargs)
        self.class_weights, self.encoder = class_weights, encoder
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

    def compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        if self.class_weights is None:
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        outputs = model(**inputs)
        logits, labels = outputs["logits"].float(), inputs["labels"]
        weights = self.class_weights.to(logits.device)
        if labels.ndim == 2:
            loss = F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights)
        else:
            loss = F.cross_entropy(logits, labels, weights, label_smoothing=self.args.label_smoothing_factor)
        return (loss, outputs) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            share_weights(output_dir or self.args.output_dir)

    def prediction_step(
        self, model: torch.nn.Module, inputs: Batch, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor | None, ...]:
        if "parts" not in inputs:
            return super().prediction_step(model, inputs, *args, **kwargs)
        step, sizes = super().prediction_step, [len(rows) for rows in inputs["parts"]]
        parts = map(self.evaluation_collator.decode, inputs["parts"])
        losses, logits, labels = zip(*(step(model, part, *args, **kwargs) for part in parts))
        loss = sum(size * part_loss for size, part_loss in zip(sizes, losses)) / sum(sizes)
        if logits[0] is None:  # with `prediction_loss_only`
            return loss, None, None
        return loss, torch.cat(logits), torch.cat(labels)

    def create_model_card(self, **kwargs: Any) -> None:
        if self.is_world_process_zero() and self.results is not None:
            output_dir = Path(self.args.output_dir)
            plots = [plot for plot in PLOTS if (output_dir / plot).is_file()]
            write_example(output_dir)
            card = format_model_card(output_dir.resolve().name, self.results, self.recipe, self.origin, plots)
            write_text(output_dir / "README.md", str(card))


def balanced_weights(labels: list[Any], num_classes: int) -> torch.Tensor:
    """
    Computes weights by which each class counts as much as any other, `[num_classes]`.

    Args:
        labels (`list`):
            The labels of the training clips: class indices, or vectors of 0.0 and 1.0. For class indices, the weight
            of a class is the number of clips over that of clips of this class and of classes, as in scikit-learn. For
            vectors, it is the number of clips without the label over that of clips with it.
        num_classes (`int`):
            The number of classes. The weight of a class without clips is 1.
    """
    labels = torch.tensor(labels)
    if labels.ndim == 2:
        counts = labels.sum(0)
        weights = (len(labels) - counts) / counts
    else:
        counts = torch.bincount(labels, minlength=num_classes)
        weights = len(labels) / (num_classes * counts)
    return torch.where(counts > 0, weights, 1.0)
