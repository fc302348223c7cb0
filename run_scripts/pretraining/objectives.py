"""
The objectives of pre-training: COLA's own, those that the paper compares it with under the same encoder and data (its
table 2), and distillation from an encoder that is trained already.

Every objective is a model with the encoder as `cola`, and with a `forward` that takes two segments of each recording
in the same order, anchors as `input_values` and positives as `positive_values`, each of shape `(batch_size,
num_frames, num_mel_bins)`, and returns a `COLAForPreTrainingOutput`. `num_windows` is the length of its segments in
windows of the encoder. What else it needs, such as the gaps between the segments, it takes by name; see `inputs_of`.
Those of this file work on the pairs of their own process: with several processes the gradients are averaged.
"""

import torch
from torch import nn
from torch.nn import functional as F

from modeling_cola import COLAConfig, COLAForPreTraining, COLAForPreTrainingOutput, COLAModel, COLAPreTrainedModel
from modeling_cola.modeling_cola import COLAProjectionHead, initialize_like_keras
from run_scripts.common.cpu import bfloat16_where_fast
from run_scripts.common.errors import UserError


class Objective(COLAPreTrainedModel):
    """An encoder to which a subclass adds a head and, as its `forward`, a loss."""

    num_windows = 1
    """Length of a segment, in windows of the encoder."""

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.cola = COLAModel(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize_like_keras(module)


def triplet_loss(similarities: torch.Tensor, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Computes the triplet loss with semi-hard negatives (Schroff et al. 2015, *FaceNet*, arXiv 1503.03832, section 3) on
    squared distances of unit vectors, relu(|a - p|^2 - |a - n|^2 + margin), averaged over the anchors.

    The negative n of an anchor is the nearest one that is farther away than its own positive p. It is semi-hard if it
    is within the margin, and costs nothing otherwise. If all negatives are nearer than p, the farthest one is taken.

    Args:
        similarities (`torch.Tensor` of shape `(batch_size, batch_size)`):
            Cosine similarity of each anchor (row) and positive (column). An anchor's own positive is on the diagonal,
            and the others are its negatives.
        margin (`float`):
            How much farther away than its positive an anchor's negative has to be.

    Returns:
        The loss and the pretext accuracy, two scalars.
    """
    distances = 2 - 2 * similarities.float()
    own = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    positive = distances.diagonal()
    farther = distances.masked_fill(own | (distances <= positive[:, None]), torch.inf).amin(-1)
    farthest = distances.masked_fill(own, -torch.inf).amax(-1)
    negative = torch.where(farther.isfinite(), farther, farthest)
    negative = torch.where(negative.isfinite(), negative, positive + margin)  # a batch of one has no negative
    accuracy = (distances.argmin(-1) == torch.arange(len(distances), device=distances.device)).float().mean()
    return F.relu(positive - negative + margin).mean(), accuracy


class TripletObjective(Objective):
    """
    Is an anchor nearer to the positive of its own recording than to that of another one? (Jansen et al. 2018,
    *Unsupervised Learning of Semantic Audio Representations*, arXiv 1711.02209, "temporal proximity".)

    The negatives of an anchor are the other positives of the batch.
    """

    margin = 0.1

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.projection = COLAProjectionHead(config)
        self.post_init()

    def similarity(self, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        """Computes the cosine similarity of every anchor `[A, D]` and positive `[P, D]`: `[A, P]`."""
        return F.normalize(anchors, dim=-1) @ F.normalize(positives, dim=-1).T

    def forward(self, input_values: torch.Tensor, positive_values: torch.Tensor) -> COLAForPreTrainingOutput:
        """Returns loss, accuracy, cosine similarities `(batch_size, batch_size)` as logits, and projections."""
        embeddings = self.cola(torch.cat([input_values, positive_values]), return_dict=True).pooler_output
        anchor_embeds, positive_embeds = self.projection(embeddings).chunk(2)
        similarities = self.similarity(anchor_embeds, positive_embeds)
        loss, accuracy = triplet_loss(similarities, self.margin)
        return COLAForPreTrainingOutput(
            loss=loss,
            logits=similarities,
            accuracy=accuracy,
            anchor_embeds=anchor_embeds,
            positive_embeds=positive_embeds,
        )


class TemporalGapObjective(Objective):
    """
    How far apart in time are two segments of a recording? (Tagliasacchi et al. 2019, arXiv 1905.11796, "temporal gap",
    and 2020, *Pre-training Audio Representations with Self-Supervision*, IEEE Signal Processing Letters 27.)

    As in these papers, the gap is a share of the greatest gap that the recording allows, between 0 and 1 as
    cross-entropy needs it. The segments are drawn as for the other objectives.
    """

    estimator_size = 64

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.estimator = nn.Sequential(
            nn.Linear(2 * config.hidden_size, self.estimator_size), nn.ReLU(), nn.Linear(self.estimator_size, 1)
        )
        self.post_init()

    def forward(
        self, input_values: torch.Tensor, positive_values: torch.Tensor, gaps: torch.Tensor | None = None
    ) -> COLAForPreTrainingOutput:
        """
        Returns the cross-entropy of the estimated gaps. Its least possible value is the entropy of the true ones, not
        0. The `gaps`, of shape `(batch_size,)`, are from 0 to 1, or NaN if the recording has room for only one
        position of a segment: such pairs do not contribute.
        """
        if gaps is None:
            raise UserError("The temporal-gap objective needs `gaps`, the distance of the segments of each pair.")
        embeddings = self.cola(torch.cat([input_values, positive_values]), return_dict=True).pooler_output
        logits = self.estimator(torch.cat(embeddings.chunk(2), dim=-1))[:, 0]
        losses = F.binary_cross_entropy_with_logits(logits.float(), gaps.nan_to_num(), reduction="none")
        known = ~gaps.isnan()
        return COLAForPreTrainingOutput(loss=(losses * known).sum() / known.sum().clamp_min(1))


class Audio2VecObjective(Objective):
    """
    What do some slices of a segment sound like, given the vectors of the others? (Tagliasacchi et al. 2019, arXiv
    1905.11796, "Audio2Vec", and 2020, *Pre-training Audio Representations with Self-Supervision*, IEEE Signal
    Processing Letters 27.) The loss is the mean squared error of the log-mel that is decoded from the concatenated h
    of the other slices.

    A segment consists of five slices, each one window of the encoder. The decoder mirrors an encoder: a dense layer,
    then convolutions and nearest-neighbour upsampling by two. A recording that is shorter than a segment is padded
    with silence, which is encoded and decoded like everything else, so such recordings teach little.
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
        """Returns the reconstruction error. Each segment is an example of its own."""
        frames = torch.cat([input_values, positive_values])
        missing = self.num_windows * self.config.window_size - frames.shape[1]
        frames = F.pad(frames, (0, 0, 0, missing), value=float(self.config.padding_value))
        slices = frames.unflatten(1, (self.num_windows, self.config.window_size))
        embeddings = self.cola(slices[:, self.sources].flatten(0, 1), return_dict=True).pooler_output
        decoded = self.decoder(embeddings.view(len(slices), -1))
        # Silence is zero to the decoder, as it is to the encoder.
        return COLAForPreTrainingOutput(loss=F.mse_loss(decoded, slices[:, self.targets] - self.config.padding_value))


class Audio2VecCBoWObjective(Audio2VecObjective):
    """Audio2Vec as a continuous bag of words: the middle slice is decoded from those around it."""

    sources = [0, 1, 3, 4]
    targets = [2]


class Audio2VecSkipGramObjective(Audio2VecObjective):
    """Audio2Vec as a skip-gram model: the slices around the middle one are decoded from it."""

    sources = [2]
    targets = [0, 1, 3, 4]


def half_whitening(vectors: torch.Tensor, num_components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The transformation of vectors to their first principal components, each divided by the fourth root of its variance.

    Whitening would make all of these variances equal, and standardising alone leaves them as they are, so that a few
    components decide a squared error: of an encoder's h, the first sixteen have more than half of the variance. This
    is half way between. The vectors are standardised first, and the components scaled to a mean variance of 1.

    Args:
        vectors (`torch.Tensor` of shape `(num_vectors, size)`):
            The vectors.
        num_components (`int`):
            The number of components, at most `size`.

    Returns:
        `center` of shape `(size,)` and `matrix` of shape `(size, num_components)`: the components of vectors are
        `(vectors - center) @ matrix`.
    """
    center, std = vectors.mean(0), vectors.std(0).clamp_min(1e-5)
    _, values, directions = torch.linalg.svd((vectors - center) / std, full_matrices=False)
    values, directions = values[:num_components], directions[:num_components]
    deviations = values / (len(vectors) - 1) ** 0.5
    scale = 1 / deviations.clamp_min(1e-3 * deviations[0]).sqrt()
    mean_variance = (deviations * scale).square().mean()
    return center, directions.T * (scale / mean_variance.sqrt()) / std[:, None]


class DistillationObjective(Objective):
    """
    What does a trained encoder, the teacher, make of a segment? (Hinton et al. 2015, *Distilling the Knowledge in a
    Neural Network*, arXiv 1503.02531, here of embeddings in place of classes.) The loss is the mean squared error with
    which a linear layer predicts, from h, the half-whitened principal components of the teacher's h; see
    [`half_whitening`].

    Both encoders hear the same segment, augmented if it is a positive (Beyer et al. 2022, *Knowledge distillation: A
    good teacher is patient and consistent*, arXiv 2106.05237). The teacher, which is not trained, computes in bfloat16
    where the device is made for it.
    """

    max_components = 512

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.teacher: COLAModel | None = None
        self.post_init()

    def set_teacher(self, teacher: COLAModel) -> None:
        """
        Sets the encoder to learn from, which training leaves as it is. Its principal components are missing until
        [`fit_targets`] computes them or a checkpoint of this objective is loaded.

        Args:
            teacher (`COLAModel`):
                The encoder.

        Raises:
            `ValueError`: If the teacher's windows are of another shape.
        """
        shape, own = ((c.window_size, c.num_mel_bins) for c in (teacher.config, self.config))
        if shape != own:
            raise UserError(
                f"The teacher hears windows of {shape[0]} frames and {shape[1]} bands, the encoder of {own[0]} and "
                f"{own[1]}: they must be the same."
            )
        self.teacher = teacher.requires_grad_(False).eval()
        size = teacher.config.hidden_size
        num_components = min(self.max_components, size)
        # A loss of NaN ends the training where they were forgotten.
        self.register_buffer("target_center", torch.full((size,), torch.nan))
        self.register_buffer("target_matrix", torch.full((size, num_components), torch.nan))
        self.predictor = nn.Linear(self.config.hidden_size, num_components)

    def fit_targets(self, segments: torch.Tensor) -> None:
        """
        Computes the principal components of the teacher's h.

        Args:
            segments (`torch.Tensor` of shape `(num_segments, num_frames, num_mel_bins)`):
                Log-mel frames of a thousand segments or more.
        """
        vectors = torch.cat([self._teach(batch) for batch in segments.split(64)])
        center, matrix = half_whitening(vectors, self.target_matrix.shape[1])
        self.target_center.copy_(center)
        self.target_matrix.copy_(matrix)

    @torch.no_grad()
    def _teach(self, segments: torch.Tensor) -> torch.Tensor:
        """The teacher's h of segments."""
        with bfloat16_where_fast(segments.device):
            return self.teacher(segments, return_dict=True).pooler_output.float()

    def train(self, mode: bool = True) -> "DistillationObjective":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, input_values: torch.Tensor, positive_values: torch.Tensor) -> COLAForPreTrainingOutput:
        """Returns the mean error over all segments, which is about 1 if nothing is predicted but the mean."""
        segments = torch.cat([input_values, positive_values])
        # In half precision, rounding the large components would drown the small ones.
        with torch.autocast(segments.device.type, enabled=False):
            targets = (self._teach(segments) - self.target_center) @ self.target_matrix
        predictions = self.predictor(self.cola(segments, return_dict=True).pooler_output)
        return COLAForPreTrainingOutput(loss=F.mse_loss(predictions, targets))


OBJECTIVES = {
    "contrastive": COLAForPreTraining,
    "triplet": TripletObjective,
    "temporal_gap": TemporalGapObjective,
    "audio2vec_cbow": Audio2VecCBoWObjective,
    "audio2vec_skipgram": Audio2VecSkipGramObjective,
    "distillation": DistillationObjective,
}
