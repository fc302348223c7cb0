"""The methods that the benchmark compares: the columns of its tables."""

from dataclasses import dataclass
from pathlib import Path

from feature_extraction import COLAFeatureExtractor
from run_scripts.benchmark.arguments import MODE_TITLES, MODES, RANDOM_MODES
from run_scripts.common.checkpoints import load_encoder
from run_scripts.common.errors import UserError
from run_scripts.common.processes import find_device
from run_scripts.embedding.cache import hash_encoder
from run_scripts.embedding.embedders import (
    LOG_MEL,
    Embedder,
    encoder_embedder,
    log_mel_statistics,
    name_kind,
)


@dataclass(frozen=True)
class Method:
    """
    A way to classify clips, one of `MODES`, with a seed of random weights and of training.

    Args:
        name (`str`):
            The name of the column. Methods that differ only in their seed have the same name.
        checkpoint (`str`, *optional*):
            The checkpoint that the encoder comes from. Log-mel statistics have none.
        encoder_hash (`str`, *optional*, defaults to `"log-mel statistics"`):
            A hash of the encoder's weights at the start. Methods with the same hash have the same embeddings.
    """

    name: str
    mode: str
    seed: int
    checkpoint: str | None = None
    encoder_hash: str = LOG_MEL

    @property
    def label(self) -> str:
        """The name and the seed, for messages."""
        return f"{self.name}, seed {self.seed}"

    def embedder(self) -> Embedder:
        """Builds the embedder of the encoder as it is before any training on a task."""
        if self.checkpoint is None:
            return log_mel_statistics(COLAFeatureExtractor())
        model, extractor = load_encoder(self.checkpoint, self.seed if self.mode in RANDOM_MODES else None)
        return encoder_embedder(model.to(find_device()), extractor)


def name_method(checkpoint: str, mode: str) -> str:
    """The name of a method in the tables, by that of its checkpoint."""
    return f"{checkpoint}, {MODE_TITLES.get(mode, mode)}"


def list_methods(checkpoints: list[str], modes: list[str], num_seeds: int) -> list[Method]:
    """
    Lists each method with each seed, in the order of the columns. Log-mel statistics do not depend on a seed and have
    one.

    Random weights do not depend on what was trained from them, so checkpoints with the same kind of encoder share one
    method in the modes `random` and `supervised`, with the name of the first of them. It is a [`UserError`] if there
    is no method, or if two checkpoints have the same name.
    """
    names = [Path(checkpoint).name for checkpoint in checkpoints]
    if len(set(names)) < len(names):
        raise UserError(
            f"The names of --checkpoints are the columns of the tables and must differ, got {', '.join(names)}."
        )
    methods = [Method(LOG_MEL, mode="log-mel", seed=0)] if "log-mel" in modes else []
    for mode in MODES[1:]:
        first = {}  # the first checkpoint of each kind
        for checkpoint in checkpoints if mode in modes else ():
            first.setdefault(name_kind(checkpoint) if mode in RANDOM_MODES else checkpoint, checkpoint)
        for checkpoint in first.values():
            name = name_method(Path(checkpoint).name, mode)
            for seed in range(num_seeds):
                encoder = load_encoder(checkpoint, seed if mode in RANDOM_MODES else None)
                methods.append(Method(name, mode, seed, checkpoint, hash_encoder(*encoder)))
    if not methods:
        raise UserError(f"The modes {', '.join(modes)} need checkpoints: pass --checkpoints.")
    return methods
