"""What the objective and a linear probe make of held-out pairs during training."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAModel, COLAPreTrainedModel
from run_scripts.benchmark.probes import linear_evaluation
from run_scripts.classification.bad_clips import drop_bad_clips
from run_scripts.classification.labels import load_labelled
from run_scripts.common.skipped import count_kinds
from run_scripts.embedding.embedders import encoder_embedder
from run_scripts.embedding.encode import embed_split


logger = logging.getLogger(__name__)


@dataclass
class HeldOutPairs:
    """
    One pair of segments of each held-out recording, or pairs of synthetic sounds, not augmented.

    Args:
        inputs (`dict[str, torch.Tensor]`):
            What an objective's `forward` may take: `input_values`, `positive_values` and `gaps`.
        labels (`list[str]`, *optional*):
            The label of each pair, for the plots.
        kind (`str`, *optional*, defaults to `"recordings"`):
            What the pairs are of, for the plots.
    """

    inputs: dict[str, torch.Tensor]
    labels: list[str] | None = None
    kind: str = "recordings"

    @classmethod
    def none(cls) -> "HeldOutPairs":
        return cls(dict.fromkeys(("input_values", "positive_values", "gaps"), torch.empty(0)))

    def with_synthetic(self, pairs: "HeldOutPairs") -> "HeldOutPairs":
        """These pairs and synthetic ones, which are labelled as such, in random order."""
        if not len(self):
            return pairs
        labels = (self.labels or ["recordings"] * len(self)) + ["synthetic"] * len(pairs)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        inputs = {name: torch.cat([values, pairs.inputs[name]])[order] for name, values in self.inputs.items()}
        return HeldOutPairs(inputs, [labels[i] for i in order], f"{self.kind} and {pairs.kind}")

    def __len__(self) -> int:
        return len(self.inputs["gaps"])

    def take(self, count: int) -> dict[str, torch.Tensor]:
        """The inputs of the first pairs."""
        return {name: values[:count] for name, values in self.inputs.items()}

    def batches(self, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
        parts = {name: values.split(batch_size) for name, values in self.inputs.items()}
        for batch in zip(*parts.values()):
            yield dict(zip(parts, batch))


def inputs_of(objective: COLAPreTrainedModel, inputs: dict[str, torch.Tensor], **options: Any) -> dict[str, Any]:
    """
    Those inputs and options that an objective's `forward` takes, on its device: the gaps of the pairs and the
    positives of other processes matter to some objectives only.
    """
    taken = inspect.signature(objective.forward).parameters
    inputs = {name: values.to(objective.device) for name, values in inputs.items()} | options
    return {name: value for name, value in inputs.items() if name in taken}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """
    Evaluation mode without gradients, after which the model is in its earlier mode. A compiled model is not used as
    such in the block: the batches there are of many shapes, each of which would be compiled.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        model.train(was_training)


def validate(model: COLAPreTrainedModel, pairs: HeldOutPairs, batch_size: int) -> dict[str, float]:
    """
    Computes the objective on held-out pairs, in each process for itself.

    Returns `validation_loss`, and for objectives that compare recordings `validation_accuracy` and
    `validation_cosine`, the mean cosine similarity of the projections of different recordings.
    """
    entry, projections = {}, []
    with evaluating(model):
        for batch in pairs.batches(batch_size):
            # Every process has the same recordings, which would be their own negatives.
            outputs = model(**inputs_of(model, batch, gather_positives=False))
            for name in ("loss", "accuracy"):
                if outputs.get(name) is not None:
                    share = outputs[name].item() * len(batch["gaps"]) / len(pairs)
                    entry[f"validation_{name}"] = entry.get(f"validation_{name}", 0.0) + share
            if outputs.anchor_embeds is not None:
                projections.append(outputs.anchor_embeds)
    if projections:
        unit = torch.nn.functional.normalize(torch.cat(projections), dim=-1)
        total = len(unit)
        entry["validation_cosine"] = ((unit.sum(0).square().sum() - total) / (total * (total - 1))).item()
    return entry


def warn_if_degenerate(entry: dict[str, float], num_candidates: int) -> None:
    """Warns when the pretext task has become too easy to teach anything, or when the embedding has collapsed."""
    if entry["step"] < 100:
        return  # too early to tell
    if entry.get("accuracy", 0) > 0.99 and num_candidates > 1:
        logger.warning(
            f"Step {entry['step']}: the pretext accuracy is {100 * entry['accuracy']:.1f} %. The task is solved, so "
            "the encoder learns little more: add recordings or longer ones, or raise the batch size."
        )
    if entry.get("validation_cosine", 0) > 0.95:
        logger.warning(
            f"Step {entry['step']}: the embeddings of different recordings have a mean cosine of "
            f"{entry['validation_cosine']:.2f}: they have collapsed. Lower the learning rate."
        )


class LinearProbe:
    """
    Linear evaluation of an encoder on a small labelled data set, with the splits `train` and `test` and a column
    `label`. Clips that cannot be used are left out; it is a [`UserError`] if none are left, or if a split is missing
    or has no labels.
    """

    def __init__(self, name: str, extractor: COLAFeatureExtractor):
        self.extractor = extractor
        self.splits, notes = drop_bad_clips(load_labelled(name), name="probe")
        if notes:
            logger.warning(f"--probe_data: skipped {count_kinds(notes)}.")

    def accuracy(self, model: COLAModel) -> float:
        """Test accuracy in % of logistic regression on the embeddings of the clips."""
        vectors = {}
        with evaluating(model):
            embedders = {"probe": encoder_embedder(model, self.extractor)}
            for split, clips in self.splits.items():
                embedded, _ = embed_split(embedders, clips, f"probe, {split}", self.extractor.sampling_rate)
                vectors[split] = embedded["probe"]
        labels = {split: clips["label"] for split, clips in self.splits.items()}
        return linear_evaluation(vectors["train"], labels["train"], vectors["test"], labels["test"])
