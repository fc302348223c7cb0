"""The Trainer of classifiers, which evaluates on whole clips of any length, and its arguments."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from transformers import (
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import get_available_reporting_integrations

from feature_extraction import ClipDecoder, COLADataCollator, open_audio
from modeling_cola import COLAModel
from run_scripts.classification.arguments import ProtocolArguments
from run_scripts.classification.report import average_precisions, write_model_card
from run_scripts.common.checkpoints import share_weights
from run_scripts.common.errors import UserError
from run_scripts.common.signals import StopSignal
from run_scripts.embedding.encode import batch_by_samples


Batch = dict[str, Any]

NOT_FINITE = "are not finite, training has diverged: lower --learning_rate. Earlier checkpoints are kept."

# The least values of arguments, which the Trainer itself does not check.
LEAST = {
    "seed": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
}


@dataclass
class ClassificationArguments(ProtocolArguments, TrainingArguments):
    """The Trainer's arguments, with the defaults of [`ProtocolArguments`]."""

    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available,
        metadata={"help": "Whether to pin memory, which makes copies to a GPU faster."},
    )

    def __post_init__(self) -> None:
        ProtocolArguments.__post_init__(self)
        for name, least in LEAST.items():
            if not (value := getattr(self, name)) >= least or value == math.inf:
                raise UserError(f"--{name} must be at least {least}, got {value}.")
        if not 0 < self.num_train_epochs < math.inf:
            raise UserError(f"--num_train_epochs must be above 0, got {self.num_train_epochs}.")
        try:
            TrainingArguments.__post_init__(self)
        except (ValueError, ImportError) as error:
            raise UserError(str(error)) from error
        trackers = get_available_reporting_integrations()
        if unknown := set(self.report_to) - set(trackers):
            raise UserError(
                f"--report_to must be none or some of the experiment trackers that are installed here "
                f"({', '.join(trackers) or 'there are none'}), got {', '.join(sorted(unknown))}."
            )


class ClipCollator:
    """
    Makes a batch of decoded rows, such as the segments of training, or of rows whose audio is encoded, each of them a
    whole clip. If the whole clips together would be too large in memory, none is decoded: the batch has the `labels`
    and, as `parts`, the rows of several smaller batches, which [`decode`] makes.

    Args:
        decoder ([`ClipDecoder`]):
            Decodes rows.
        collator ([`COLADataCollator`]):
            Computes the features of a batch and pads them.
    """

    def __init__(self, decoder: ClipDecoder, collator: COLADataCollator):
        self.decoder, self.collator = decoder, collator

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        if "waveform" in rows[0]:
            return self.collator(rows)
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
    """
    Computes accuracy and macro F1 or, where a clip may have several labels, mean average precision (`map`) and macro
    F1. In that case, classes that occur in no clip are left out, because their average precision is undefined, and a
    class is predicted where its logit is above 0.

    Raises:
        `ValueError`: If logits are not finite.
    """
    logits, labels = prediction.predictions, prediction.label_ids
    if not np.isfinite(logits).all():
        raise UserError(f"The outputs of the classifier {NOT_FINITE}")
    if labels.ndim == 1:
        predicted = logits.argmax(-1)
        macro_f1 = f1_score(labels, predicted, average="macro", zero_division=0)
        return {"accuracy": float(accuracy_score(labels, predicted)), "macro_f1": float(macro_f1)}
    occurs = labels.any(0)
    if not occurs.any():
        return {"map": 0.0, "macro_f1": 0.0}
    logits, labels = logits[:, occurs], labels[:, occurs]
    macro_f1 = f1_score(labels, logits > 0, average="macro", zero_division=0)
    return {"map": float(average_precisions(logits, labels).mean()), "macro_f1": float(macro_f1)}


class ClassificationTrainer(Trainer):
    """
    The Trainer, except that it decodes and evaluates batches in parts that fit into memory, that classes can have
    weights, and that `push_to_hub` writes the model card of this project.

    Args:
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

    def __init__(self, class_weights: torch.Tensor | None = None, encoder: COLAModel | None = None, **kwargs: Any):
        super().__init__(compute_metrics=compute_metrics, **kwargs)
        self.class_weights, self.encoder = class_weights, encoder

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
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            raise UserError(f"The weights of the classifier {NOT_FINITE}")
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            share_weights(output_dir or self.args.output_dir)

    def prediction_step(
        self, model: torch.nn.Module, inputs: Batch, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor | None, ...]:
        if "parts" not in inputs:
            return super().prediction_step(model, inputs, *args, **kwargs)
        step, sizes = super().prediction_step, [len(rows) for rows in inputs["parts"]]
        parts = map(self.data_collator.decode, inputs["parts"])
        losses, logits, labels = zip(*(step(model, part, *args, **kwargs) for part in parts))
        loss = sum(size * part_loss for size, part_loss in zip(sizes, losses)) / sum(sizes)
        if logits[0] is None:  # with `prediction_loss_only`
            return loss, None, None
        return loss, torch.cat(logits), torch.cat(labels)

    def create_model_card(self, **kwargs: Any) -> None:
        if self.is_world_process_zero() and self.results is not None:
            write_model_card(Path(self.args.output_dir), self.results, self.recipe, self.origin)


class StopOnSignal(TrainerCallback):
    """Saves a checkpoint after the step in which SIGTERM or SIGINT comes, and then ends the process."""

    def __init__(self, signal: StopSignal, trainer: ClassificationTrainer):
        self.signal, self.accelerator, self.is_stopped = signal, trainer.accelerator, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.is_stopped = self.signal.has_come(self.accelerator, state.global_step)
        control.should_save |= self.is_stopped

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.is_stopped:
            self.signal.exit(state.global_step)


def balanced_weights(labels: np.ndarray, num_classes: int) -> torch.Tensor:
    """
    Computes weights by which each class counts as much as any other, `[num_classes]`, from the labels of the training
    clips: class indices `[N]`, or vectors of 0 and 1, `[N, num_classes]`. For vectors, the weight of a class is the
    number of clips without the label over that of clips with it. The weight of a class without clips is 1.
    """
    weights = np.ones(num_classes)
    if labels.ndim == 2:
        counts = labels.sum(0)
        np.divide(len(labels) - counts, counts, out=weights, where=counts > 0)
    else:
        classes = np.unique(labels)
        weights[classes] = compute_class_weight("balanced", classes=classes, y=labels)
    return torch.tensor(weights, dtype=torch.float32)
