"""
The objectives that the paper compares COLA with (its table 2), under the same encoder and data: `--objective`.

Each is called like [`COLAForPreTraining`], has the encoder as `cola`, and works on the pairs of its own process: with
several their gradients are averaged and nothing is gathered.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from modeling_cola import COLAConfig, COLAForPreTraining, COLAForPreTrainingOutput, COLAModel, COLAPreTrainedModel
from modeling_cola.modeling_cola import COLAProjectionHead


class Objective(COLAPreTrainedModel):
    """An encoder to which a subclass adds a head and a loss."""

    num_windows = 1
    """Length of the segments, in windows of the encoder."""
    takes_gaps = False
    """Whether `forward` has a third argument, the pairs' gaps."""

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.cola = COLAModel(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        COLAForPreTraining._init_weights(self, module)
        if isinstance(module, nn.Conv2d):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)


def triplet_loss(similarities: torch.Tensor, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Triplet loss with semi-hard negatives (Schroff et al. 2015, *FaceNet*, arXiv 1503.03832, section 3), on squared
    distances of unit vectors: relu(|a - p|^2 - |a - n|^2 + margin), the mean over the anchors, and pretext accuracy.

    The negative n of an anchor is the nearest that is farther than its own positive p: semi-hard if it is within the
    margin, and else one that costs nothing. If all are nearer than p, it is the farthest of them.

    Args:
        similarities (`torch.Tensor` of shape `(batch_size, batch_size)`):
            Cosine of each anchor (row) and positive (column): an anchor's own is on the diagonal, its negatives are
            the others.
        margin (`float`):
            How much farther than its positive an anchor's negative has to be.
    """
    distances = 2 - 2 * similarities.float()
    own = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    positive = distances.diagonal()
    farther = distances.masked_fill(own | (distances <= positive[:, None]), torch.inf).amin(-1)
    farthest = distances.masked_fill(own, -torch.inf).amax(-1)
    negative = torch.where(farther.isfinite(), farther, farthest)
    negative = torch.where(negative.isfinite(), negative, positive + margin)  # a batch of one has none
    accuracy = (distances.argmin(-1) == torch.arange(len(distances), device=distances.device)).float().mean()
    return F.relu(positive - negative + margin).mean(), accuracy


class TripletObjective(Objective):
    """
    Is an anchor nearer to the positive of its own recording than to one of another? (Jansen et al. 2018, *Unsupervised
    Learning of Semantic Audio Representations*, arXiv 1711.02209, their "temporal proximity".)

    The negatives are the other positives of the batch.
    """

    margin = 0.1

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.projection = COLAProjectionHead(config)
        self.post_init()

    def similarity(self, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        """The cosine of every anchor `[A, D]` and positive `[P, D]`: `[A, P]`."""
        return F.normalize(anchors, dim=-1) @ F.normalize(positives, dim=-1).T

    def forward(self, input_values: torch.Tensor, positive_values: torch.Tensor) -> COLAForPreTrainingOutput:
        """Anchors and positives `[B, T, bands]` -> loss, pretext accuracy, cosines `[B, B]` and projections."""
        embeddings = self.cola(torch.cat([input_values, positive_values]), return_dict=True).pooler_output
        anchors, positives = self.projection(embeddings).chunk(2)
        similarities = self.similarity(anchors, positives)
        loss, accuracy = triplet_loss(similarities, self.margin)
        return COLAForPreTrainingOutput(loss, similarities, accuracy, anchors, positives)


class TemporalGapObjective(Objective):
    """
    How far apart in time are two segments of a recording? (Tagliasacchi et al. 2019, arXiv 1905.11796, "temporal gap",
    and 2020, *Pre-training Audio Representations with Self-Supervision*, IEEE Signal Processing Letters 27.)

    As theirs the gap is a share of the greatest one possible in the recording, between 0 and 1 as cross-entropy needs
    it. The segments are drawn as for the other objectives.
    """

    takes_gaps = True
    estimator_size = 64

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.estimator = nn.Sequential(
            nn.Linear(2 * config.hidden_size, self.estimator_size), nn.ReLU(), nn.Linear(self.estimator_size, 1)
        )
        self.post_init()

    def forward(
        self, input_values: torch.Tensor, positive_values: torch.Tensor, gaps: torch.Tensor
    ) -> COLAForPreTrainingOutput:
        """
        Anchors and positives `[B, T, bands]` and their gaps `[B]`, from 0 to 1 -> cross-entropy of the estimated gaps,
        whose least value is the entropy of the true ones, not 0. Pairs without a gap (NaN: the recording has only one
        place for a segment) count for nothing.
        """
        embeddings = self.cola(torch.cat([input_values, positive_values]), return_dict=True).pooler_output
        logits = self.estimator(torch.cat(embeddings.chunk(2), dim=-1))[:, 0]
        losses = F.binary_cross_entropy_with_logits(logits.float(), gaps.nan_to_num(), reduction="none")
        known = ~gaps.isnan()
        return COLAForPreTrainingOutput(loss=(losses * known).sum() / known.sum().clamp_min(1))


class Audio2VecObjective(Objective):
    """
    What some slices of a segment sound like, by the vectors of the others (Tagliasacchi et al. 2019, arXiv 1905.11796,
    "Audio2Vec", and 2020, *Pre-training Audio Representations with Self-Supervision*, IEEE Signal Processing Letters
    27): the mean squared error of log-mel that is decoded from the others' h side by side.

    A segment is five slices, each a window of the encoder. The decoder mirrors an encoder: dense, then convolutions
    and nearest-neighbour upsampling by two. What a recording shorter than a segment lacks is silence, which is encoded
    and decoded like anything else: such recordings teach little.
    """

    num_windows = 5
    decoder_channels = 16
    sources: list[int]
    """The slices that are encoded."""
    targets: list[int]
    """The slices that are decoded from them."""

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        frames, bands, channels = config.window_size, config.num_mel_bins, self.decoder_channels
        layers = [
            nn.Linear(len(self.sources) * config.hidden_size, channels * (frames // 8) * (bands // 8)),
            nn.Unflatten(1, (channels, frames // 8, bands // 8)),
        ]
        for stride in (4, 2, 1):
            layers += [
                nn.ReLU(),
                nn.Upsample((frames // stride, bands // stride)),
                nn.Conv2d(channels, channels if stride > 1 else len(self.targets), kernel_size=3, padding=1),
            ]
        self.decoder = nn.Sequential(*layers)
        self.post_init()

    def forward(self, input_values: torch.Tensor, positive_values: torch.Tensor) -> COLAForPreTrainingOutput:
        """Two segments `[B, T, bands]` of each recording, each an example of its own -> the error."""
        frames = torch.cat([input_values, positive_values])
        missing = self.num_windows * self.config.window_size - frames.shape[1]
        frames = F.pad(frames, (0, 0, 0, missing), value=float(self.config.padding_value))
        slices = frames.unflatten(1, (self.num_windows, self.config.window_size))
        embeddings = self.cola(slices[:, self.sources].flatten(0, 1), return_dict=True).pooler_output
        decoded = self.decoder(embeddings.view(len(slices), -1))
        # Silence is zero to the decoder, as it is to the encoder.
        return COLAForPreTrainingOutput(loss=F.mse_loss(decoded, slices[:, self.targets] - self.config.padding_value))


class Audio2VecCBoWObjective(Audio2VecObjective):
    """Audio2Vec, continuous bag of words: the middle slice, by those around it."""

    sources = [0, 1, 3, 4]
    targets = [2]


class Audio2VecSkipGramObjective(Audio2VecObjective):
    """Audio2Vec, skip-gram: the slices around the middle one, by it."""

    sources = [2]
    targets = [0, 1, 3, 4]


OBJECTIVES = {
    "contrastive": COLAForPreTraining,
    "triplet": TripletObjective,
    "temporal_gap": TemporalGapObjective,
    "audio2vec_cbow": Audio2VecCBoWObjective,
    "audio2vec_skipgram": Audio2VecSkipGramObjective,
}
