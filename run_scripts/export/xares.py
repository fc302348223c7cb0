"""
COLA for X-ARES, the eXtensive Audio Representation and Evaluation Suite (Zhang et al. 2025, arXiv 2505.16369).

    python -m xares.run run_scripts/export/xares.py tasks/*.py

X-ARES makes a [`COLAEncoder`] without arguments. The environment variable `COLA_CHECKPOINT` names another checkpoint
than the one in this repository.
"""

import os

import torch

from run_scripts.embedding.arguments import CHECKPOINT
from run_scripts.export.timestamps import TimestampEmbedder


class COLAEncoder(TimestampEmbedder):
    """A checkpoint with the attributes that X-ARES reads."""

    def __init__(self):
        super().__init__(os.environ.get("COLA_CHECKPOINT") or str(CHECKPOINT))
        self.sampling_rate = self.extractor.sampling_rate
        self.output_dim = self.model.config.hidden_size
        self.hop_size_in_ms = 1000 * self.hop_samples // self.sampling_rate

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Embeds waveforms `[batch_size, num_samples]` every 40 ms: `[batch_size, num_windows, output_dim]`."""
        return super().forward(audio)[0]
