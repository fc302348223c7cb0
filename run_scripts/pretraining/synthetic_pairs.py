"""Pairs of synthetic sounds, which take part in pre-training beside pairs of recorded segments, or alone."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from feature_extraction import COLAFeatureExtractor
from run_scripts.pretraining.sound_parameters import nearby_positions, random_positions
from run_scripts.pretraining.synthesizer import synthesize
from run_scripts.pretraining.validation import HeldOutPairs


class SyntheticPairs:
    """
    An endless source of pairs of synthetic sounds: the parameters of the positive are near those of the anchor (Cherep
    and Singh, *Contrastive Learning from Synthetic Audio Doppelgängers*, ICLR 2025, arXiv 2406.05923).

    Args:
        num_pairs (`int`):
            Pairs of a batch.
        num_samples, sampling_rate (`int`):
            Samples of a sound, and their rate in hertz.
        distance (`float`):
            How far from the anchor the positive is, as a share of the way to another sound: with 0 it has the same
            parameters, and with 1 nothing in common with the anchor.
        device (`torch.device`):
            Where the sounds are made.
        seed (`int`):
            The seed of the run.
        stream (`int`, *optional*, defaults to 0):
            Which of the streams of a run this is. No two of them have the same sounds.
        state (`str`, *optional*, defaults to `""`):
            The `state` to go on from. Without one, the stream starts from its beginning.
    """

    def __init__(
        self,
        num_pairs: int,
        num_samples: int,
        sampling_rate: int,
        distance: float,
        device: torch.device,
        seed: int,
        stream: int = 0,
        state: str = "",
    ):
        self.num_pairs = num_pairs
        self.num_samples = num_samples
        self.sampling_rate = sampling_rate
        self.distance = distance
        mixed = int(np.random.SeedSequence((seed, stream)).generate_state(1)[0])
        self.generator = torch.Generator(device).manual_seed(mixed)
        if state:
            self.generator.set_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))

    @property
    def state(self) -> str:
        """The state of the generator, in hexadecimal digits."""
        return self.generator.get_state().numpy().tobytes().hex()

    def draw(self) -> torch.Tensor:
        """Draws the pairs of a batch, of shape `(2 * num_pairs, num_samples)`: the anchors, then the positives."""
        anchors = random_positions(self.num_pairs, self.generator)
        positives = nearby_positions(anchors, self.distance, self.generator)
        return synthesize(torch.cat([anchors, positives]), self.num_samples, self.generator, self.sampling_rate)

    def join(self, batch: dict[str, Any]) -> dict[str, Any]:
        """
        Adds pairs to a batch.

        Args:
            batch (`dict`):
                Pairs of recorded segments, from `collate_segment_pairs`; there may be none.

        Returns:
            The `waveforms`, `lengths` and `gaps` of all pairs. Synthetic ones have no gap.
        """
        sounds = self.draw()
        recorded = batch["waveforms"].to(sounds.device, non_blocking=True)
        recorded = F.pad(recorded, (0, self.num_samples - recorded.shape[1]))
        lengths = torch.full((len(sounds),), self.num_samples)
        return {
            "waveforms": _join_halves(recorded, sounds),
            "lengths": _join_halves(batch["lengths"], lengths),
            "gaps": torch.cat([batch["gaps"], torch.full((self.num_pairs,), torch.nan)]),
        }

    def log_mel(self, extractor: COLAFeatureExtractor) -> torch.Tensor:
        """Draws the pairs of a batch as log-mel frames, `(2 * num_pairs, num_frames, num_mel_bins)`."""
        lengths = torch.full((2 * self.num_pairs,), self.num_samples, device=self.generator.device)
        return extractor.log_mel(self.draw(), lengths)[0]

    def held_out(self, extractor: COLAFeatureExtractor) -> HeldOutPairs:
        """Draws pairs to validate on."""
        if not self.num_pairs:
            return HeldOutPairs.none()
        anchors, positives = self.log_mel(extractor).cpu().chunk(2)
        gaps = torch.full((self.num_pairs,), torch.nan)
        return HeldOutPairs(
            {"input_values": anchors, "positive_values": positives, "gaps": gaps}, kind="synthetic sounds"
        )


def no_recordings(num_samples: int) -> dict[str, Any]:
    """A batch without pairs, as `collate_segment_pairs` would make it."""
    return {
        "waveforms": torch.empty(0, num_samples),
        "lengths": torch.empty(0, dtype=torch.long),
        "gaps": torch.empty(0),
        "state": (),
        "notes": [],
    }


def _join_halves(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The anchors of both, then the positives of both."""
    return torch.cat([part for halves in zip(first.chunk(2), second.chunk(2)) for part in halves])
