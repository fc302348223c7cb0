"""PyTorch COLA: an audio encoder, its contrastive pre-training and its classification head.

Saeed, Grangier and Zeghidour 2020, *Contrastive Learning of General-Purpose Audio Representations*
(https://arxiv.org/abs/2010.10915), cited below as "the paper".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import timm
import torch
import torch.distributed.nn.functional as distributed
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_cola import COLAConfig


@dataclass
class COLAModelOutput(ModelOutput):
    """
    Output of [`COLAModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_windows, hidden_size)`):
            One vector h per window; zeros where `window_mask` is 0.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
            The mean of h over the valid windows: the embedding of the recording.
        window_mask (`torch.LongTensor` of shape `(batch_size, num_windows)`):
            1 for a valid window: the first, and each of which at least half the frames are valid.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
            The feature map after each stage of the encoder, each of shape
            `(num_valid_windows, channels, frames, bands)`: the valid windows of all recordings, one after the other.
            `stage.split(outputs.window_mask.sum(1).tolist())` gives those of each recording. They are the tensors that
            the other outputs were computed from, so that `retain_grad()` and a backward pass leave gradients on them.
            A compiled or exported model returns the feature maps of all windows.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    window_mask: torch.LongTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class COLAForPreTrainingOutput(ModelOutput):
    """
    Output of [`COLAForPreTraining`].

    Args:
        loss (`torch.FloatTensor` of shape `()`):
            Cross-entropy of each anchor's own positive among all the positives (paper, equation 1). With several
            processes the mean over them is that of the whole batch: it is weighted by the size of the process's own.
            With `config.decorrelation_weight` also [`decorrelation_loss`] of the process's own segments.
        logits (`torch.FloatTensor` of shape `(batch_size, global_batch_size)`):
            Similarity of each anchor (row) to each positive of every process (column).
        accuracy (`torch.FloatTensor` of shape `()`):
            Pretext accuracy: the share of anchors that are most similar to their own positive.
        anchor_embeds, positive_embeds (`torch.FloatTensor` of shape `(batch_size, projection_size)`):
            The projections z of the segments.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
            The feature map after each stage of the encoder, as in [`COLAModelOutput`]: the windows of the anchors,
            then those of the positives.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    accuracy: torch.FloatTensor | None = None
    anchor_embeds: torch.FloatTensor | None = None
    positive_embeds: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


class COLACompactBlock(GradientCheckpointingLayer, nn.Sequential):
    """3x3 convolution, BatchNorm, ReLU and 2x2 max pooling: `[N, C, T, F]` -> `[N, D, T // 2, F // 2]`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )


class COLACompactEncoder(nn.Module):
    """
    A small network of three [`COLACompactBlock`]s that learns in minutes on a laptop. (The shape is that of BYOL-A's,
    Niizumi et al. 2021, arXiv 2103.06695.)

    The methods have the names and outputs of timm's convolutional networks.
    """

    def __init__(self, config: COLAConfig):
        super().__init__()
        channels = config.compact_channels
        self.blocks = nn.ModuleList(COLACompactBlock(in_channels, channels) for in_channels in (1, channels, channels))
        self.num_features = channels

    def forward_intermediates(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """`[N, 1, frames, bands]` -> `[N, channels, frames // 8, bands // 8]`, and the map after each block."""
        intermediates = []
        for block in self.blocks:
            x = block(x)
            intermediates.append(x)
        return x, intermediates

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_intermediates(x)[0]


def build_backbone(config: COLAConfig) -> nn.Module:
    """
    The network named by `config.encoder`, freshly initialised, without what comes after `config.encoder_stride`.

    Raises:
        `ValueError`: if timm does not know the name, or the network has no stage of so small a stride.
    """
    if config.encoder == "compact":
        return COLACompactEncoder(config)
    if not timm.is_model(config.encoder):
        raise ValueError(
            f"`encoder` must be 'compact' or the name of a timm model, got {config.encoder!r}. "
            "`timm.list_models()` lists them."
        )
    kwargs = dict(config.encoder_kwargs)
    if config.drop_path_rate:
        kwargs["drop_path_rate"] = config.drop_path_rate
    network = timm.create_model(config.encoder, in_chans=1, num_classes=0, global_pool="", **kwargs)
    if config.encoder_stride is not None:
        strides = [stage["reduction"] for stage in network.feature_info]
        stages = [i for i, stride in enumerate(strides) if stride <= config.encoder_stride]
        if not stages:
            raise ValueError(
                f"`encoder_stride` must be at least {min(strides)}, the least stride of {config.encoder!r}, "
                f"got {config.encoder_stride}."
            )
        network.prune_intermediate_layers([stages[-1]], prune_norm=True, prune_head=True)
    if config.zero_init_residual:
        for block in network.modules():
            if getattr(block, "has_skip", False):
                *_, last = (module for module in block.modules() if isinstance(module, nn.BatchNorm2d))
                nn.init.zeros_(last.weight)
    return network


class COLAPooling(nn.Module):
    """The feature map of a window `[N, channels, frames, bands]` -> h `[N, num_features]`, by `config.pooling`."""

    def __init__(self, config: COLAConfig, channels: int, bands: int):
        super().__init__()
        self.mode = config.pooling
        self.dense = None
        if self.mode == "dense":
            self.dense = nn.Sequential(
                nn.Linear(bands * channels, config.pooling_hidden_size),
                nn.ReLU(),
                nn.Dropout(config.pooling_dropout),
                nn.Linear(config.pooling_hidden_size, config.hidden_size),
            )
        sizes = {"dense": config.hidden_size, "statistics": 3 * bands * channels}
        self.num_features = sizes.get(self.mode, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.mode in ("max", "mean", "mean_max"):
            features = features.flatten(2)
        else:
            features = features.permute(0, 3, 1, 2).flatten(1, 2)  # [N, bands x channels, frames]
        if self.dense is not None:
            features = self.dense(features.transpose(1, 2)).transpose(1, 2)
        if self.mode == "max":
            return features.amax(-1)
        mean = features.mean(-1)
        if self.mode == "mean":
            return mean
        if self.mode == "statistics":
            # The root of 0 has no gradient.
            std = (features - mean[..., None]).square().mean(-1).clamp_min(1e-7).sqrt()
            return torch.cat([mean, features.amax(-1), std], dim=1)
        return mean + features.amax(-1)


class COLAEncoder(nn.Module):
    """The encoder f of the paper: windows of log-mel `[N, window_size, num_mel_bins]` -> h `[N, hidden_size]`."""

    def __init__(self, config: COLAConfig):
        super().__init__()
        self.backbone = build_backbone(config)
        channels, bands = self._prune_backbone(config)
        self.pooling = COLAPooling(config, channels, bands)
        self.num_features = self.pooling.num_features
        self.register_buffer("silence", torch.tensor(float(config.padding_value)), persistent=False)
        self.gradient_checkpointing = False

    @torch.no_grad()
    def _prune_backbone(self, config: COLAConfig) -> tuple[int, int]:
        """
        Encodes one silent window, removes the parts of the backbone that this did not run, and returns the numbers of
        channels and bands of the feature map.

        What `forward_features` does not run is the network's head. It gets no gradient, which data-parallel training
        does not allow, and it takes space in every checkpoint (119 million parameters of `vgg11`). The weights of a
        head in an older checkpoint are ignored when that is loaded.
        """
        run = set()
        hooks = [
            module.register_forward_hook(lambda module, *_: run.add(module)) for module in self.backbone.modules()
        ]
        window = torch.zeros(1, 1, config.window_size, config.num_mel_bins)
        shape = self.backbone.eval().forward_features(window).shape
        self.backbone.train()
        for hook in hooks:
            hook.remove()

        channels = self.backbone.num_features
        if len(shape) != 4 or shape[1] != channels:
            raise ValueError(
                f"`encoder` must be a convolutional network whose features are [N, {channels}, frames, bands], but "
                f"{config.encoder!r} gives {list(shape)}."
            )
        unused = [name for name, part in self.backbone.named_children() if run.isdisjoint(part.modules())]
        for name in unused:
            setattr(self.backbone, name, nn.Identity())
        self._keys_to_ignore_on_load_unexpected = [rf"encoder\.backbone\.{name}\." for name in unused]
        return channels, shape[-1]

    def forward(
        self, windows: torch.Tensor, output_hidden_states: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        # Silence is zero from here on, so the zeros that convolutions pad with are silence too.
        x = (windows - self.silence).unsqueeze(1)
        if self.gradient_checkpointing and self.training:
            x.requires_grad_()  # with `use_reentrant=True` nothing else gives the first block a gradient
        if output_hidden_states:
            features, hidden_states = self.backbone.forward_intermediates(x)
        else:
            features, hidden_states = self.backbone.forward_features(x), []
        return self.pooling(features), hidden_states


class COLAPreTrainedModel(PreTrainedModel):
    config_class = COLAConfig
    base_model_prefix = "cola"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    # A checkpoint of one class is loaded by another as a matter of course; the other's head is no surprise.
    _keys_to_ignore_on_load_unexpected = [r"^projection\.", r"^similarity\.", r"^classifier\."]
    # The losses are means already: the Trainer must not rescale them under gradient accumulation.
    accepts_loss_kwargs = False

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs: Any) -> None:
        """
        Switches gradient checkpointing on or off; called by the library. timm's networks know best where to cut
        themselves, and ignore the arguments.

        Raises:
            `ValueError`: if timm's implementation of the encoder does not support it.
        """
        if self.config.encoder != "compact":
            try:
                self.base_model.encoder.backbone.set_grad_checkpointing(enable)
            except AssertionError as error:
                raise ValueError(
                    f"The encoder {self.config.encoder!r} does not support gradient checkpointing in timm. Train it "
                    "without, or choose another encoder."
                ) from error
        super()._set_gradient_checkpointing(enable, **kwargs)


class COLAModel(COLAPreTrainedModel):
    """
    The COLA encoder: log-mel frames -> one vector h per window, and their mean.

    The output of a clip does not depend on the clips it is batched with nor on how far it is padded. In evaluation
    mode windows are encoded in chunks of `config.window_chunk_size`, so the memory that a recording takes is bounded.
    """

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        # `_init_weights` makes the values; building must not move the random state, so that a fresh model and one
        # that `from_pretrained` builds without drawing anything start from the same state.
        with torch.random.fork_rng(devices=[]):
            self.encoder = COLAEncoder(config)
        config.hidden_size = self.encoder.num_features
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The encoder as a whole: only the layers' own constructors know how they start. `from_pretrained` comes here
        # too, since `silence` is never in a checkpoint, and only what is missing is copied.
        if not isinstance(module, COLAEncoder):
            return
        init.constant_(module.silence, float(self.config.padding_value))
        seed = int(torch.randint(2**62, (), device="cpu"))  # drawn even if unused: the heads' values come after it
        if all(getattr(tensor, "_is_hf_initialized", False) for tensor in _tensors(module)):
            return
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            fresh = COLAEncoder(self.config)
        for tensor, value in zip(_tensors(module), _tensors(fresh), strict=True):
            init.copy_(tensor, value)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> COLAModelOutput:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                Log-mel frames from [`COLAFeatureExtractor`].
            attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
                1 for valid frames, 0 for padding, which must be on the right. Defaults to all valid.
            output_hidden_states (`bool`, *optional*):
                Whether to return the feature map after each stage of the encoder.

        Raises:
            `ValueError`: if the shape of `input_values` is another.
        """
        if input_values.dim() != 3 or input_values.shape[-1] != self.config.num_mel_bins:
            raise ValueError(
                f"`input_values` must be [batch_size, num_frames, {self.config.num_mel_bins}], "
                f"got {list(input_values.shape)}."
            )
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)

        windows, window_mask = self._windows(input_values, attention_mask)
        if torch.compiler.is_compiling():
            # A graph can depend neither on how many windows are valid nor on a loop over chunks: all are encoded.
            h, hidden_states = self.encoder(windows.flatten(0, 1), output_hidden_states)
            last_hidden_state = h.unflatten(0, window_mask.shape) * window_mask[..., None]
        else:
            last_hidden_state, hidden_states = self._encode_valid(windows, window_mask, output_hidden_states)
        return COLAModelOutput(
            last_hidden_state=last_hidden_state,
            pooler_output=last_hidden_state.sum(1) / window_mask.sum(1, keepdim=True),
            window_mask=window_mask,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )

    def _encode_valid(
        self, windows: torch.Tensor, window_mask: torch.Tensor, output_hidden_states: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """
        Encodes the valid windows among `windows` `[B, W, window_size, bands]`. Returns h `[B, W, hidden_size]`, which
        is zero for the other windows, and the feature maps of the valid windows after each stage.
        """
        valid = window_mask.nonzero()
        # In training BatchNorm must see all windows at once. Hidden states that are to get gradients must be the
        # encoder's own tensors, and the graph keeps the activations of all chunks anyway.
        whole = self.training or (output_hidden_states and torch.is_grad_enabled())
        chunks = [valid] if whole else valid.split(self.config.window_chunk_size)
        encoded = [self.encoder(windows[chunk[:, 0], chunk[:, 1]], output_hidden_states) for chunk in chunks]

        vectors, stages = zip(*encoded)
        h = torch.cat(vectors)
        last_hidden_state = h.new_zeros(*window_mask.shape, h.shape[-1]).index_put((valid[:, 0], valid[:, 1]), h)
        hidden_states = stages[0] if len(chunks) == 1 else [torch.cat(stage) for stage in zip(*stages)]
        return last_hidden_state, hidden_states

    def _windows(
        self, input_values: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames `[B, T, bands]` -> windows `[B, W, window_size, bands]` (a view) and their mask `[B, W]`."""
        size, hop = self.config.window_size, self.config.window_hop
        half = (size + 1) // 2
        batch_size, num_frames, _ = input_values.shape
        input_values = input_values.to(self.dtype)
        if attention_mask is None:
            attention_mask = input_values.new_ones(batch_size, num_frames, dtype=torch.long)
        else:
            # Whatever padding holds, the last window of a clip must see silence there.
            padding = (attention_mask == 0)[..., None]
            input_values = input_values.masked_fill(padding, float(self.config.padding_value))

        num_windows = max(num_frames - half, 0) // hop + 1
        missing = max((num_windows - 1) * hop + size - num_frames, 0)
        input_values = F.pad(input_values, (0, 0, 0, missing), value=float(self.config.padding_value))
        windows = input_values.unfold(1, size, hop)[:, :num_windows].transpose(2, 3)

        starts = torch.arange(num_windows, device=input_values.device) * hop
        lengths = attention_mask.sum(-1, keepdim=True)
        window_mask = (starts + half <= lengths) | (starts == 0)
        return windows, window_mask.long()


def _tensors(encoder: COLAEncoder) -> Iterator[torch.Tensor]:
    for module in (encoder.backbone, encoder.pooling):
        yield from chain(module.parameters(), module.buffers())


class COLAProjectionHead(nn.Module):
    """
    The head g of the paper: h `[N, hidden_size]` -> z `[N, projection_size]`, dense, layer norm and tanh.

    With `config.projection_hidden_size` a hidden layer is before these, as in SimCLR (Chen et al. 2020, arXiv
    2002.05709): what a contrastive loss throws away it then throws away there, and not in h.
    """

    def __init__(self, config: COLAConfig):
        super().__init__()
        size = config.projection_hidden_size
        self.hidden = None
        if size is not None:
            self.hidden = nn.Sequential(nn.Linear(config.hidden_size, size), nn.BatchNorm1d(size), nn.ReLU())
        self.dense = nn.Linear(size or config.hidden_size, config.projection_size)
        self.layer_norm = nn.LayerNorm(config.projection_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.hidden is not None:
            hidden = self.hidden(hidden)
        return torch.tanh(self.layer_norm(self.dense(hidden)))


class COLABilinearSimilarity(nn.Module):
    """z^T W z' of every anchor `[A, D]` and positive `[P, D]`: `[A, P]` (paper, section 3)."""

    def __init__(self, config: COLAConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.projection_size, config.projection_size))

    def forward(self, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        return anchors @ self.weight @ positives.T


class COLACosineSimilarity(nn.Module):
    """cos(z, z') / temperature of every anchor `[A, D]` and positive `[P, D]`: `[A, P]` (paper, table 4)."""

    def __init__(self, config: COLAConfig):
        super().__init__()
        self.temperature = config.temperature

    def forward(self, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        return F.normalize(anchors, dim=-1) @ F.normalize(positives, dim=-1).T / self.temperature


def contrastive_loss(logits: torch.Tensor, offset: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Multi-class cross-entropy over the batch (paper, equation 1) and pretext accuracy.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, global_batch_size)`):
            Row i is an anchor, whose positive is column `offset + i`.
        offset (`int`, *optional*, defaults to 0):
            How many positives are from the processes before this one.
    """
    labels = torch.arange(len(logits), device=logits.device) + offset
    return F.cross_entropy(logits.float(), labels), (logits.argmax(-1) == labels).float().mean()


def decorrelation_loss(embeddings: torch.Tensor) -> torch.Tensor:
    """
    How much the numbers of h say the same: the sum of each one's squared correlations with all others over the batch,
    and the mean of these sums. (VICReg's covariance term, Bardes et al. 2021, arXiv 2105.04906, equation 4, with
    correlations in place of covariances, as in Barlow Twins, Zbontar et al. 2021, arXiv 2103.03230.)

    Args:
        embeddings (`torch.Tensor` of shape `(batch_size, hidden_size)`):
            h of anchors and positives. Independent numbers give about `hidden_size / batch_size`, equal ones
            `hidden_size - 1`.
    """
    embeddings = embeddings.float()
    centred = embeddings - embeddings.mean(0)
    # A number that hardly varies correlates with nothing.
    units = centred / (centred.square().mean(0) + 1e-4).sqrt()
    correlations = units.T @ units / len(units)
    return (correlations.square().sum() - correlations.diagonal().square().sum()) / len(correlations)


def gather_from_processes(positives: torch.Tensor) -> tuple[torch.Tensor, int, float]:
    """
    The positives `[N, D]` of every process, with their gradients; how many are from the processes before this one; and
    this process's share of them, as a multiple of an even one.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return positives, 0, 1.0
    own = torch.tensor(len(positives), device=positives.device)
    sizes = [torch.zeros_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(sizes, own)
    sizes = torch.stack(sizes).tolist()
    padded = F.pad(positives, (0, 0, 0, max(sizes) - len(positives))).contiguous()
    parts = [part[:size] for part, size in zip(distributed.all_gather(padded), sizes)]
    return (
        torch.cat(parts),
        sum(sizes[: torch.distributed.get_rank()]),
        len(positives) * len(sizes) / sum(sizes),
    )


class COLAForPreTraining(COLAPreTrainedModel):
    """
    COLA's contrastive pre-training: which of the batch's positives is from the anchor's recording?

    With several processes the positives of all are gathered, with their gradients: the mean of the processes' losses
    and its gradients, which is what data-parallel training takes, are those of one process with the whole batch.
    (Gradient accumulation gathers nothing: it adds no negatives.)
    """

    num_windows = 1
    """Length of a segment, in windows of the encoder."""

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.cola = COLAModel(config)
        with torch.random.fork_rng(devices=[]):  # as in COLAModel
            self.projection = COLAProjectionHead(config)
        bilinear = config.similarity == "bilinear"
        self.similarity = COLABilinearSimilarity(config) if bilinear else COLACosineSimilarity(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Keras' defaults, as the authors' code has them.
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.BatchNorm1d)):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm1d):
                init.zeros_(module.running_mean)
                init.ones_(module.running_var)
                init.zeros_(module.num_batches_tracked)
        elif isinstance(module, COLABilinearSimilarity):
            init.normal_(module.weight, std=self.config.bilinear_init_std)
            diagonal = self.config.bilinear_init_diagonal * torch.eye(len(module.weight)).to(module.weight)
            init.copy_(module.weight, module.weight + diagonal)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        positive_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        positive_attention_mask: torch.Tensor | None = None,
        gaps: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        gather_positives: bool = True,
    ) -> COLAForPreTrainingOutput:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                The anchors: log-mel frames of one segment of each recording.
            positive_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                The positives: another segment of the same recordings, in the same order.
            attention_mask, positive_attention_mask (`torch.LongTensor`, `(batch_size, num_frames)`, *optional*):
                1 for valid frames, 0 for padding on the right.
            gaps (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
                Distance in time between the segments of each pair. This objective does not use it; it is accepted so
                that all pre-training objectives are called alike.
            output_hidden_states (`bool`, *optional*):
                Whether to return the feature map after each stage of the encoder.
            gather_positives (`bool`, *optional*, defaults to `True`):
                Whether the positives of all processes are candidates for each anchor. `False` compares the anchors
                with the positives of this process alone, as validation needs where every process is given the same
                recordings.

        Raises:
            `ValueError`: if anchors and positives differ in shape, or if only one of them has a mask.
        """
        if input_values.shape != positive_values.shape:
            raise ValueError(
                "`input_values` and `positive_values` must have one shape, "
                f"got {list(input_values.shape)} and {list(positive_values.shape)}."
            )
        if (attention_mask is None) != (positive_attention_mask is None):
            raise ValueError("Give both `attention_mask` and `positive_attention_mask`, or neither.")
        mask = None if attention_mask is None else torch.cat([attention_mask, positive_attention_mask])
        # One pass, so that BatchNorm sees anchors and positives as one population.
        segments = torch.cat([input_values, positive_values])
        outputs = self.cola(segments, mask, output_hidden_states, return_dict=True)
        anchors, positives = self.projection(outputs.pooler_output).chunk(2)

        candidates, offset, share = gather_from_processes(positives) if gather_positives else (positives, 0, 1.0)
        logits = self.similarity(anchors, candidates)
        loss, accuracy = contrastive_loss(logits, offset)
        loss = share * loss
        if self.config.decorrelation_weight:
            loss = loss + self.config.decorrelation_weight * decorrelation_loss(outputs.pooler_output)
        return COLAForPreTrainingOutput(
            loss=loss,
            logits=logits,
            accuracy=share * accuracy,
            anchor_embeds=anchors,
            positive_embeds=positives,
            hidden_states=outputs.hidden_states,
        )


class COLAForAudioClassification(COLAPreTrainedModel):
    """
    COLA with a linear layer on h, for linear evaluation (after [`freeze_encoder`]) and fine-tuning.

    The logits of a clip are the mean over its windows, as in the paper (section 3, "downstream").
    """

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder_frozen = False
        self.cola = COLAModel(config)
        with torch.random.fork_rng(devices=[]):  # as in COLAModel
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)

    def freeze_encoder(self) -> None:
        """Trains the classifier alone from here on; BatchNorm statistics and dropout stay in evaluation mode."""
        self.encoder_frozen = True
        self.cola.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "COLAForAudioClassification":
        super().train(mode)
        if self.encoder_frozen:
            self.cola.eval()
        return self

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                Log-mel frames from [`COLAFeatureExtractor`].
            attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
                1 for valid frames, 0 for padding on the right.
            labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
                Class indices, or for `problem_type="multi_label_classification"` 0/1 floats, or for `"regression"`
                the targets. Without a `problem_type` it is told by the labels' type, and kept in the config.
            output_hidden_states (`bool`, *optional*):
                Whether to return the feature map after each stage of the encoder.
        """
        outputs = self.cola(input_values, attention_mask, output_hidden_states, return_dict=True)
        # The head is affine, so the logits of the mean h are the mean of the windows' logits.
        logits = self.classifier(outputs.pooler_output)

        loss = None
        if labels is not None:
            if labels.numel() == logits.numel() and self.config.problem_type != "single_label_classification":
                labels = labels.view_as(logits).float()  # one target per logit: these losses take no integers
            loss = self.loss_function(labels, logits.float(), self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


__all__ = [
    "COLAForAudioClassification",
    "COLAForPreTraining",
    "COLAForPreTrainingOutput",
    "COLAModel",
    "COLAModelOutput",
    "COLAPreTrainedModel",
    "contrastive_loss",
    "decorrelation_loss",
]
