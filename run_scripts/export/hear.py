"""
COLA for HEAR, the Holistic Evaluation of Audio Representations (Turian et al. 2022, arXiv 2203.03022).

    python -m heareval.embeddings.runner run_scripts.export.hear --model cola-mine --tasks-dir tasks

The three functions are those of HEAR's interface.
"""

import torch

from run_scripts.embedding.arguments import CHECKPOINT
from run_scripts.embedding.embedders import encode_waveforms
from run_scripts.export.timestamps import TimestampEmbedder


class HearModel(TimestampEmbedder):
    """A checkpoint with the attributes that HEAR reads."""

    def __init__(self, checkpoint: str):
        super().__init__(checkpoint)
        self.sample_rate = self.extractor.sampling_rate
        self.scene_embedding_size = self.timestamp_embedding_size = self.model.config.hidden_size


def load_model(model_file_path: str = "") -> HearModel:
    """Loads a checkpoint, by default the one in this repository."""
    return HearModel(model_file_path or str(CHECKPOINT))


def get_timestamp_embeddings(audio: torch.Tensor, model: HearModel) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Embeds waveforms `[n_sounds, n_samples]` every 40 ms.

    Returns the embeddings `[n_sounds, n_timestamps, hidden_size]`, and the centres of their windows in milliseconds
    `[n_sounds, n_timestamps]`.
    """
    embeddings, timestamps = model(audio)
    return embeddings, timestamps.expand(len(audio), -1)


def get_scene_embeddings(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    """Embeds waveforms `[n_sounds, n_samples]` as a whole: `[n_sounds, hidden_size]`, the mean over windows."""
    return encode_waveforms(model.model, model.extractor, audio).pooler_output.float()
