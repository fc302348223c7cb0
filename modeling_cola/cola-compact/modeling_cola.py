"""
PyTorch COLA: an audio encoder, its contrastive pre-training, and an audio classifier on top of it.

The method is that of Saeed, Grangier and Zeghidour 2020, *Contrastive Learning of General-Purpose Audio
Representations* (https://arxiv.org/abs/2010.10915), which is called "the paper" below.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.distributed.nn.functional as distributed
from huggingface_hub import CommitInfo, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import EntryNotFoundError
from timm.layers import BatchNormAct2d
from timm.models import ConvNeXt, EfficientNet, MobileNetV3, RegNet, ResNet
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput
from transformers.utils import can_return_tuple, logging

from .configuration_cola import COLAConfig


logger = logging.get_logger(__name__)

# What sentence-transformers, and mteb by it, read beside a checkpoint: that it embeds audio, and that the embedding is
# `pooler_output`. Otherwise they average all windows by themselves, those of the padding included.
SENTENCE_TRANSFORMERS_FILES = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {"audio": {"method": "forward", "method_output_name": "pooler_output"}},
        "module_output_name": "sentence_embedding",
    },
}


# The card of a model that is pushed by itself.
CARD = """---
{{ card_data }}
---

# {{ name }}

An audio {{ kind }} by COLA ([arXiv 2010.10915](https://arxiv.org/abs/2010.10915)), with the encoder `{{ encoder }}`.
It reads mono audio at 16 kHz as log-mel frames, cut into windows of {{ "%.2f" | format(seconds) }} s.

```python
from transformers import AutoFeatureExtractor, {{ auto_class }}

extractor = AutoFeatureExtractor.from_pretrained("{{ repo_id }}", trust_remote_code=True)
model = {{ auto_class }}.from_pretrained("{{ repo_id }}", trust_remote_code=True)
inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
{{ result }}
```
"""


@dataclass
class COLAModelOutput(ModelOutput):
    """
    Output of [`COLAModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_windows, hidden_size)`):
            The embedding h of each window. It is zero where `window_mask` is 0.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
            The embedding of each recording: the mean of h over its valid windows.
        window_mask (`torch.LongTensor` of shape `(batch_size, num_windows)`):
            1 for valid windows, 0 for padding. The first window of a recording is always valid; any other is valid if
            at least half of its frames are.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
            The feature map after each stage of the encoder, of shape `(num_valid_windows, channels, frames, bands)`.
            The valid windows of all recordings follow one another: `stage.split(outputs.window_mask.sum(1).tolist())`
            gives those of each recording. The other outputs are computed from these very tensors, so after
            `stage.retain_grad()` and a backward pass `stage.grad` holds their gradients. An exported model, and a
            compiled one in evaluation mode, returns the feature maps of all windows, valid or not.
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
            The loss to minimise. For [`COLAForPreTraining`] this is the cross-entropy of identifying each anchor's
            own positive among all positives (paper, equation 1), plus the weighted [`decorrelation_loss`] if
            `config.decorrelation_weight` is not 0. In distributed training the cross-entropy and the accuracy are
            weighted by this process's share of the batch, so that their mean over the processes is that of the batch.
        logits (`torch.FloatTensor` of shape `(batch_size, global_batch_size)`):
            Similarity of each anchor (row) to each positive (column), those of the other processes included.
        accuracy (`torch.FloatTensor` of shape `()`):
            Pretext accuracy: the fraction of anchors whose most similar positive is their own.
        anchor_embeds, positive_embeds (`torch.FloatTensor` of shape `(batch_size, projection_size)`):
            The projections z of the anchors and of the positives.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
            The feature map after each stage of the encoder, as in [`COLAModelOutput`]: the windows of all anchors,
            followed by the windows of all positives.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    accuracy: torch.FloatTensor | None = None
    anchor_embeds: torch.FloatTensor | None = None
    positive_embeds: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


# What is folded in the call that is running, in each thread for itself.
FOLDING: ContextVar["BatchNormFolding | None"] = ContextVar("FOLDING", default=None)


class BatchNormFolding:
    """
    The convolutions of an encoder into whose weights the BatchNorm after them is folded for the time of one call,
    which saves a pass over each feature map.

    The folded weights are computed from the weights of the moment and live no longer than the call, so they cannot be
    stale. A convolution is left as it is if it or its BatchNorm has hooks, which may look at the feature map between
    them or bring the weights from elsewhere, or if another module, such as an adapter, is in the place of either.
    """

    def __init__(self, encoder: nn.Module):
        self.norms = {
            conv: norm
            for conv, norm in _neighbours(encoder)
            if type(conv) is COLAConv2d
            and type(norm) in (COLABatchNorm2d, COLABatchNormAct2d)
            and conv.bias is None
            and norm.running_var is not None
            and not (norm.training or _has_hooks(conv) or _has_hooks(norm))
        }
        self.skipped = set(self.norms.values())
        self.weights: dict[nn.Conv2d, tuple[torch.Tensor, torch.Tensor]] = {}

    def weight_and_bias(self, conv: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
        # Computed when the convolution runs: only then are the weights of an offloaded or sharded module there.
        if conv not in self.weights:
            norm = self.norms[conv]
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            self.weights[conv] = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        return self.weights[conv]


@contextmanager
def folded_batch_norm(encoder: nn.Module) -> Iterator[None]:
    """
    Folds BatchNorm into the convolutions of an encoder in evaluation without gradients, and does nothing otherwise. It
    makes a difference to the compact encoder and to timm's EfficientNets.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        yield
        return
    token = FOLDING.set(BatchNormFolding(encoder))  # of this thread alone
    try:
        yield
    finally:
        FOLDING.reset(token)


def _neighbours(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The modules of a network that follow one another within the same parent."""
    for module in network.modules():
        yield from pairwise(module.children())


def _has_hooks(module: nn.Module) -> bool:
    # `accelerate` wraps the method `forward` of the modules that it offloads, and there are hooks of all modules.
    everywhere = nn.modules.module._global_forward_pre_hooks or nn.modules.module._global_forward_hooks
    return bool(everywhere or module._forward_pre_hooks or module._forward_hooks or "forward" in vars(module))


def _folding_with(module: nn.Module) -> BatchNormFolding | None:
    """The folding of the call that is running, if the module takes part in it."""
    folding = None if torch.compiler.is_compiling() else FOLDING.get()
    return folding if folding is not None and (module in folding.norms or module in folding.skipped) else None


class COLAConv2d(nn.Conv2d):
    """A convolution without bias that can take over the BatchNorm after it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        folding = _folding_with(self)
        return super().forward(x) if folding is None else self._conv_forward(x, *folding.weight_and_bias(self))


class COLABatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that the convolution before it can take over."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if _folding_with(self) is None else x


class COLABatchNormAct2d(BatchNormAct2d):
    """timm's BatchNorm with an activation. The convolution before it can take over the BatchNorm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if _folding_with(self) is None else self.act(self.drop(x))


def make_foldable(network: nn.Module) -> None:
    """
    Gives the convolutions of a network and the BatchNorms after them the classes above. In the networks for which this
    is called, a BatchNorm that follows a convolution within the same module reads its output, and nothing else does.
    """
    for conv, norm in _neighbours(network):
        if type(conv) is nn.Conv2d and conv.bias is None and type(norm) in (nn.BatchNorm2d, BatchNormAct2d):
            conv.__class__ = COLAConv2d
            norm.__class__ = COLABatchNorm2d if type(norm) is nn.BatchNorm2d else COLABatchNormAct2d


class COLAResidual(nn.Module):
    """
    A 3x3 convolution and BatchNorm, which are added to their input, and ReLU. It starts as the identity.

    Args:
        channels (`int`): Channels of the input and of the output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.norm(self.conv(x)))


class COLACompactBlock(GradientCheckpointingLayer, nn.Sequential):
    """
    A 3x3 convolution, BatchNorm, 2x2 max pooling, which halves the number of frames and of bands, and ReLU, followed
    by residual convolutions.

    Args:
        in_channels (`int`): Channels of the input.
        out_channels (`int`): Channels of the output.
        depth (`int`): Number of convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.MaxPool2d(2),
            nn.ReLU(),  # after the pooling, with which it commutes, it has a quarter of the values to read
            *(COLAResidual(out_channels) for _ in range(depth - 1)),
        )


class COLACompactEncoder(nn.Module):
    """
    A small network of three [`COLACompactBlock`]s that can be trained in minutes on a laptop. Its default architecture
    is that of BYOL-A (Niizumi et al. 2021, arXiv 2103.06695).

    Its methods have the names and return values of timm's convolutional networks.
    """

    def __init__(self, config: COLAConfig):
        super().__init__()
        channels = config.stage_channels
        self.blocks = nn.ModuleList(
            COLACompactBlock(*pair, config.compact_depth) for pair in zip([1, *channels], channels)
        )
        self.num_features = channels[-1]
        make_foldable(self)

    def forward_intermediates(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """
        Encodes windows `[N, 1, frames, bands]`. Returns the last feature map `[N, channels, frames // 8, bands // 8]`
        and the list of the feature maps after each block.
        """
        intermediates = []
        for block in self.blocks:
            x = block(x)
            intermediates.append(x)
        return x, intermediates

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Encodes windows `[N, 1, frames, bands]` and returns the last feature map alone."""
        return self.forward_intermediates(x)[0]


# With the strides of `channels_last` these networks are up to twice as fast on a CPU, and several of each class passed
# glibc's check of the heap (`GLIBC_TUNABLES=glibc.malloc.check=3`) in training and evaluation. Not all do: with these
# strides the backward pass of timm's FastViT overwrites memory on an AMD Zen 4 (torch 2.11). So every network that was
# not checked keeps the default strides.
CHANNELS_LAST_NETWORKS = (COLACompactEncoder, ConvNeXt, EfficientNet, MobileNetV3, RegNet, ResNet)


def build_backbone(config: COLAConfig) -> nn.Module:
    """
    Builds the network that `config.encoder` names, with fresh weights, up to its last stage of at most
    `config.encoder_stride`.

    Raises:
        `ValueError`: If timm has no model of this name, or if all stages of the network have a larger stride.
    """
    if config.encoder == "compact":
        return COLACompactEncoder(config)
    if not timm.is_model(config.encoder):
        raise ValueError(
            f"`encoder` must be 'compact' or the name of a timm model, got {config.encoder!r}. "
            "`timm.list_models()` lists the names."
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
                f"`encoder_stride` must be at least {min(strides)}, the smallest stride of {config.encoder!r}, "
                f"got {config.encoder_stride}."
            )
        network.prune_intermediate_layers([stages[-1]], prune_norm=True, prune_head=True)
    if config.zero_init_residual:
        for block in network.modules():
            if getattr(block, "has_skip", False):
                *_, last = (module for module in block.modules() if isinstance(module, nn.BatchNorm2d))
                nn.init.zeros_(last.weight)
    if isinstance(network, EfficientNet):
        make_foldable(network)
    return network


class COLAPooling(nn.Module):
    """
    Pools the feature maps of each window into its embedding h `[N, num_features]`, with the method that
    `config.pooling` names.

    Args:
        config (`COLAConfig`): The model's configuration.
        sizes (`list[tuple[int, int]]`): Channels and frequency bands of each feature map that is pooled.
    """

    def __init__(self, config: COLAConfig, sizes: list[tuple[int, int]]):
        super().__init__()
        self.mode = config.pooling
        channels, bands = sizes[-1]
        # How many neighbouring bands of each map are averaged.
        self.widths = [map_bands // bands for _, map_bands in sizes]
        self.dense = None
        if self.mode == "dense":
            self.dense = nn.Sequential(
                nn.Linear(bands * channels, config.pooling_hidden_size),
                nn.ReLU(),
                nn.Dropout(config.pooling_dropout),
                nn.Linear(config.pooling_hidden_size, config.hidden_size),
                *([nn.ReLU()] if config.pooling_relu else []),
            )
        statistics = 3 * bands * sum(map_channels for map_channels, _ in sizes)
        self.num_features = {"dense": config.hidden_size, "statistics": statistics}.get(self.mode, channels)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Pools feature maps `[N, channels, frames, bands]`, one for each of `sizes`."""
        if self.mode == "statistics":
            return torch.cat([self._statistics(*pair) for pair in zip(maps, self.widths)], dim=1)
        features = maps[-1]
        if self.dense is None:
            features = features.flatten(2)
        else:
            features = features.permute(0, 3, 1, 2).flatten(1, 2)  # [N, bands x channels, frames]
            features = self.dense(features.transpose(1, 2)).transpose(1, 2)
        if self.mode == "max":
            return features.amax(-1)
        mean = features.mean(-1)
        if self.mode == "mean":
            return mean
        return mean + features.amax(-1)

    @staticmethod
    def _statistics(features: torch.Tensor, width: int) -> torch.Tensor:
        if width > 1:
            features = F.avg_pool2d(features, (1, width))
        features = features.permute(0, 3, 1, 2).flatten(1, 2)  # [N, bands x channels, frames]
        mean = features.mean(-1)
        # The square root has no finite gradient at 0.
        std = (features - mean[..., None]).square().mean(-1).clamp_min(1e-7).sqrt()
        return torch.cat([mean, features.amax(-1), std], dim=1)


class COLAEncoder(nn.Module):
    """
    The encoder f of the paper: it maps windows of log-mel frames `[N, window_size, num_mel_bins]` to embeddings h
    `[N, hidden_size]`.
    """

    def __init__(self, config: COLAConfig):
        super().__init__()
        self.backbone = build_backbone(config)
        self.pooling_stages = config.pooling_stages
        self.pooling = COLAPooling(config, self._prune_backbone(config))
        self.num_features = self.pooling.num_features
        self.register_buffer("zero", torch.tensor(float(config.conv_padding_value)), persistent=False)
        self.gradient_checkpointing = False

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of [`COLAPreTrainedModel.memory_format`]."""
        # Not an attribute, which `torch.save` could not pickle.
        is_checked = isinstance(self.backbone, CHANNELS_LAST_NETWORKS)
        return torch.channels_last if is_checked else torch.contiguous_format

    @torch.no_grad()
    def _prune_backbone(self, config: COLAConfig) -> list[tuple[int, int]]:
        """
        Encodes one silent window, removes the modules of the backbone that did not run, and returns the numbers of
        channels and of frequency bands of each feature map that is pooled.

        These modules are the network's head, which `forward_features` does not run. Its parameters would never get a
        gradient, which stops distributed training, and would take up space in every checkpoint (119 million
        parameters for `vgg11`). Older checkpoints that contain them load without a warning. timm's own
        `prune_intermediate_layers` removes the last layers of the features of `efficientnet_b0` along with the head.

        Raises:
            `ValueError`: If the network does not take such windows, if its features are not of shape
                `[N, channels, frames, bands]`, or if it has fewer stages than are to be pooled.
        """
        run = set()
        hooks = [
            module.register_forward_hook(lambda module, *_: run.add(module)) for module in self.backbone.modules()
        ]
        window = torch.zeros(1, 1, config.window_size, config.num_mel_bins)
        self.backbone.eval()
        try:
            shapes = [features.shape for features in self.feature_maps(window)[0]]
        except (AssertionError, RuntimeError) as error:  # as networks for images of one size raise
            raise ValueError(
                f"`encoder` must be a convolutional network that takes windows of {config.window_size} frames and "
                f"{config.num_mel_bins} bands, but {config.encoder!r} does not: {error}"
            ) from error
        self.backbone.train()
        for hook in hooks:
            hook.remove()

        channels = self.backbone.num_features
        if len(shapes[-1]) != 4 or shapes[-1][1] != channels:
            raise ValueError(
                f"`encoder` must be a convolutional network whose features are of shape [N, {channels}, frames, "
                f"bands], but those of {config.encoder!r} are of shape {list(shapes[-1])}."
            )
        if len(shapes) < config.pooling_stages:
            raise ValueError(
                f"`pooling_stages` must be at most {len(shapes)}, the number of stages of {config.encoder!r}, "
                f"got {config.pooling_stages}."
            )
        unused = [name for name, module in self.backbone.named_children() if run.isdisjoint(module.modules())]
        for name in unused:
            setattr(self.backbone, name, nn.Identity())
        self._keys_to_ignore_on_load_unexpected = [rf"encoder\.backbone\.{name}\." for name in unused]
        return [(shape[1], shape[3]) for shape in shapes]

    def feature_maps(
        self, x: torch.Tensor, output_hidden_states: bool = False
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """
        Encodes windows `[N, 1, frames, bands]`. Returns the feature maps to pool, and those after each stage (an empty
        list unless asked for).
        """
        if self.pooling_stages == 1 and not output_hidden_states:
            return [self.backbone.forward_features(x)], []
        features, stages = self.backbone.forward_intermediates(x)
        # A layer that timm does not count as a stage may follow the last one.
        return [*stages[:-1], features][-self.pooling_stages :], stages if output_hidden_states else []

    def forward(
        self, windows: torch.Tensor, output_hidden_states: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns h `[N, hidden_size]`, and the feature maps after each stage (an empty list unless asked for)."""
        # The zeros with which convolutions pad stand for `conv_padding_value`, which is silence by default.
        x = windows - self.zero
        if x.device.type == "cpu" and self.memory_format == torch.channels_last and not torch.compiler.is_compiling():
            # The strides of `channels_last`, which convolutions pass on to their outputs. On a CPU they are faster.
            x = x.unsqueeze(-1).permute(0, 3, 1, 2)
        else:
            x = x.unsqueeze(1)
        if self.gradient_checkpointing and self.training:
            # With `use_reentrant=True` a block gets gradients only if its input requires them.
            x.requires_grad_()
        maps, hidden_states = self.feature_maps(x, output_hidden_states)
        return self.pooling(maps), hidden_states


class COLAPreTrainedModel(PreTrainedModel):
    """The base class of all COLA models: what they need for saving, loading and gradient checkpointing."""

    config_class = COLAConfig
    base_model_prefix = "cola"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    # Checkpoints of one class are routinely loaded by another, which has no use for the first one's head.
    _keys_to_ignore_on_load_unexpected = [r"^projection\.", r"^similarity\.", r"^classifier\."]
    # The losses are means over the batch: the Trainer must not rescale them under gradient accumulation.
    accepts_loss_kwargs = False

    @property
    def memory_format(self) -> torch.memory_format:
        """
        The memory format to convert the model to for training, with `model.to(memory_format=model.memory_format)`:
        `torch.channels_last`, in which convolutions are faster, for encoders that are known to be safe in it, and
        `torch.contiguous_format` for all others. On a CPU the encoder arranges its input in this format by itself.
        """
        return self.base_model.encoder.memory_format

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, torch.Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """
        Saves the model as Transformers does, and the two files that sentence-transformers reads. With `push_to_hub`,
        the same is uploaded; the arguments of [`push_to_hub`] are taken as well.
        """
        names = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")
        push_kwargs = {name: kwargs.pop(name) for name in names if name in kwargs} if push_to_hub else {}
        # Transformers takes tensors out of the dict as it writes them.
        own = None if state_dict is None else dict(state_dict)
        super().save_pretrained(save_directory, is_main_process, own, **kwargs)
        if not is_main_process:
            return
        for name, content in SENTENCE_TRANSFORMERS_FILES.items():
            Path(save_directory, name).write_text(json.dumps(content, indent=2) + "\n")
        if push_to_hub:
            push_kwargs.setdefault("repo_id", Path(save_directory).name)
            self._upload(
                lambda folder: self.save_pretrained(folder, is_main_process, state_dict, **kwargs),
                token=kwargs.get("token"),
                **push_kwargs,
            )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str | None = "50GB",
        tags: list[str] | None = None,
    ) -> CommitInfo:
        """
        Uploads the model as Transformers does, with a card that says how to use it if the repository has none. The
        arguments are those of [`~transformers.utils.PushToHubMixin.push_to_hub`].
        """
        return self._upload(
            partial(self.save_pretrained, max_shard_size=max_shard_size),
            repo_id,
            commit_message=commit_message,
            commit_description=commit_description,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            tags=tags,
        )

    def _upload(
        self,
        save: Callable[[str], None],
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        tags: list[str] | None = None,
    ) -> CommitInfo:
        """Uploads what `save` writes to a folder, and a card."""
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        try:
            card = ModelCard.load(repo_id, token=token)
            card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *(tags or [])])) or None
        except EntryNotFoundError:
            card = self._model_card(repo_id, [*(self.model_tags or []), *(tags or [])])
        with tempfile.TemporaryDirectory() as folder:
            save(folder)
            card.save(Path(folder, "README.md"))
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or "Upload model",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
            )

    def _model_card(self, repo_id: str, tags: list[str]) -> ModelCard:
        """The card of a model that is pushed by itself, without the report of a job."""
        classifies = isinstance(self, COLAForAudioClassification)
        base_model = self.config._name_or_path
        on_hub = (
            re.fullmatch(r"[\w.-]+/[\w.-]+", base_model) and not Path(base_model).exists() and base_model != repo_id
        )
        data = ModelCardData(
            library_name="transformers",
            pipeline_tag="audio-classification" if classifies else "feature-extraction",
            tags=["audio", "cola", *tags],
            base_model=base_model if on_hub else None,
        )
        return ModelCard.from_template(
            data,
            template_str=CARD,
            repo_id=repo_id,
            name=repo_id.rpartition("/")[2],
            kind="classifier" if classifies else "encoder",
            encoder=self.config.encoder,
            seconds=self.config.window_size / 100,
            auto_class="AutoModelForAudioClassification" if classifies else "AutoModel",
            result="logits = model(**inputs).logits" if classifies else "embedding = model(**inputs).pooler_output",
        )

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs: Any) -> None:
        """
        Enables or disables gradient checkpointing; `gradient_checkpointing_enable()` calls this. timm's networks
        choose their own checkpoints and do not use the further arguments.

        Raises:
            `ValueError`: If timm does not support gradient checkpointing for the encoder.
        """
        if self.config.encoder != "compact":
            try:
                self.base_model.encoder.backbone.set_grad_checkpointing(enable)
            except AssertionError as error:
                raise ValueError(
                    f"timm does not support gradient checkpointing for the encoder {self.config.encoder!r}. Train "
                    "without it, or choose another `encoder`."
                ) from error
        super()._set_gradient_checkpointing(enable, **kwargs)


class COLAModel(COLAPreTrainedModel):
    r"""
    The COLA audio encoder. It cuts the log-mel frames of a recording into windows, embeds each window, and averages
    the embeddings of the windows into one of the recording.

    In evaluation mode the output for a recording depends neither on what it is batched with nor on how far it is
    padded. Windows are then encoded in chunks of `config.window_chunk_size`, so that memory stays bounded for
    recordings of any length; with gradients enabled, the activations of the chunks are recomputed in the backward
    pass.

    Args:
        config ([`COLAConfig`]):
            The model's configuration. Its `hidden_size` is set to that of the encoder.

    Example:

    ```python
    >>> import torch
    >>> from transformers import AutoFeatureExtractor, AutoModel

    >>> extractor = AutoFeatureExtractor.from_pretrained("modeling_cola/cola-compact", trust_remote_code=True)
    >>> model = AutoModel.from_pretrained("modeling_cola/cola-compact", trust_remote_code=True)
    >>> inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")  # mono, at 16 kHz
    >>> with torch.no_grad():
    ...     outputs = model(**inputs)
    >>> embedding = outputs.pooler_output  # one vector for the recording
    >>> timeline = outputs.last_hidden_state  # one vector for each window of 0.96 s
    ```"""

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.seed = int(torch.randint(2**62, (), device="cpu"))
        self.encoder = self._build_encoder()
        self.is_fresh = not self.encoder.zero.is_meta
        config.hidden_size = self.encoder.num_features
        self.post_init()

    def _build_encoder(self) -> COLAEncoder:
        # From a seed of its own, so that the random state is left the same whether the values are drawn or, on the
        # meta device, are not.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return COLAEncoder(self.config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Only the constructors of the encoder's layers know their initial values. So what a checkpoint lacks is copied
        # from an encoder that is built once more; `init.copy_` leaves alone what the checkpoint has.
        if self.is_fresh or not isinstance(module, COLAEncoder):
            return
        init.constant_(module.zero, float(self.config.conv_padding_value))  # which is never in a checkpoint
        if all(getattr(tensor, "_is_hf_initialized", False) for tensor in _tensors(module)):
            return
        with torch.device("cpu"):
            fresh = self._build_encoder()
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
        Computes the embeddings of the windows of each recording, and of each recording as a whole.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                Log-mel frames from [`COLAFeatureExtractor`].
            attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
                1 for valid frames, 0 for padding, which must be on the right. By default all frames are valid.
            output_hidden_states (`bool`, *optional*):
                Whether to return the feature map after each stage of the encoder. Defaults to
                `config.output_hidden_states`.

        Raises:
            `ValueError`: If `input_values` or `attention_mask` is of another shape, or if padding is not on the right.
        """
        if input_values.dim() != 3 or input_values.shape[-1] != self.config.num_mel_bins:
            raise ValueError(
                f"`input_values` must be of shape [batch_size, num_frames, {self.config.num_mel_bins}], "
                f"got {list(input_values.shape)}."
            )
        if attention_mask is not None and attention_mask.shape != input_values.shape[:2]:
            raise ValueError(
                f"`attention_mask` must be of shape {list(input_values.shape[:2])}, as `input_values` are, got "
                f"{list(attention_mask.shape)}."
            )
        if attention_mask is not None and not torch.compiler.is_compiling():
            if (attention_mask.long().diff(dim=-1) > 0).any():
                raise ValueError("`attention_mask` has padding before valid frames: pad recordings on the right.")
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        if self.training and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            logger.warning_once(
                "The model is in training mode, in which BatchNorm normalises by the statistics of the batch and "
                "changes its own, but no gradients are computed. To embed or to classify, call `model.eval()` first."
            )

        windows, window_mask = self._windows(input_values, attention_mask)
        # The shapes of a graph must not depend on the values of the mask, so all windows are encoded at once. In
        # training only if all are valid, since BatchNorm must not see padding: `torch.compile` then breaks the graph.
        # (To dynamo, `is_exporting` is always true.)
        is_whole = not self.training or attention_mask is None or not torch.compiler.is_dynamo_compiling()
        if torch.compiler.is_compiling() and is_whole:
            h, hidden_states = self.encoder(windows.flatten(0, 1), output_hidden_states)
            last_hidden_state = h.unflatten(0, window_mask.shape) * window_mask[..., None]
        else:
            last_hidden_state, hidden_states = self._encode_valid(windows, window_mask, output_hidden_states)
        # The sum over the windows of a long recording is more than half precision can hold.
        dtype = last_hidden_state.dtype
        total = last_hidden_state.sum(1, dtype=torch.promote_types(dtype, torch.float32))
        return COLAModelOutput(
            last_hidden_state=last_hidden_state,
            pooler_output=(total / window_mask.sum(1, keepdim=True)).to(dtype),
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
        # In training, BatchNorm must see all windows at once. Hidden states that can get gradients must be the
        # encoder's own tensors rather than concatenations, and the graph keeps all activations in memory anyway.
        whole = self.training or (output_hidden_states and torch.is_grad_enabled())
        # With gradients, small chunks would fragment the heap of a CPU.
        is_small = windows.device.type == "cpu" and not torch.is_grad_enabled()
        size = (8 if self.config.encoder == "compact" else 32) if is_small else 256
        chunks = [valid] if whole else valid.split(self.config.window_chunk_size or size)
        encode = self.encoder
        if len(chunks) > 1 and torch.is_grad_enabled():
            # Where `torch.no_grad()` was forgotten, the activations of an hour of audio would fill the memory. They
            # are computed again if there is a backward pass.
            encode = partial(checkpoint, self.encoder, use_reentrant=False, preserve_rng_state=False)
        last_hidden_state, stages = None, []
        with folded_batch_norm(self.encoder):
            for chunk in chunks:
                index = chunk.unbind(1)
                h, hidden_states = encode(windows[index], output_hidden_states)
                stages.append(hidden_states)
                if last_hidden_state is None:
                    last_hidden_state = h.new_zeros(*window_mask.shape, h.shape[-1])
                last_hidden_state[index] = h  # at once, since small tensors that outlive a chunk fragment the heap
        hidden_states = stages[0] if len(chunks) == 1 else [torch.cat(stage) for stage in zip(*stages)]
        return last_hidden_state, hidden_states

    def _windows(
        self, input_values: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Cuts frames `[B, T, bands]` into windows. Returns a view of shape `[B, W, window_size, bands]` and the mask of
        valid windows `[B, W]`.
        """
        size, hop = self.config.window_size, self.config.window_hop
        half = (size + 1) // 2
        batch_size, num_frames, _ = input_values.shape
        # With so much silence at the end there is a window wherever at least half of its frames are of the recording.
        # The amount is the same for all but very short recordings, so that an exported graph takes any length.
        silence = max(size - half, size - num_frames)
        padding_value = float(self.config.padding_value)
        input_values = F.pad(input_values.to(self.encoder.zero.dtype), (0, 0, 0, silence), value=padding_value)
        if attention_mask is None:
            attention_mask = input_values.new_ones(batch_size, num_frames, dtype=torch.long)
        lengths = attention_mask.sum(-1, keepdim=True)
        # The last window of a recording must see silence, whatever the padding contains. In place, because a long
        # recording need not be copied twice.
        frames = torch.arange(num_frames + silence, device=input_values.device)
        input_values.masked_fill_((frames >= lengths)[..., None], padding_value)
        starts = torch.arange(0, num_frames + silence - size + 1, hop, device=input_values.device)
        if torch.compiler.is_compiling():
            # The strides of a view would tie an exported graph to more than one window, or to exactly one.
            windows = input_values[:, starts[:, None] + torch.arange(size, device=input_values.device)]
        else:
            windows = input_values.unfold(1, size, hop).transpose(2, 3)
        window_mask = (starts + half <= lengths) | (starts == 0)
        return windows, window_mask.long()


def _tensors(encoder: COLAEncoder) -> Iterator[torch.Tensor]:
    """The parameters and buffers that are part of checkpoints: all but `zero`."""
    for module in (encoder.backbone, encoder.pooling):
        yield from chain(module.parameters(), module.buffers())


class COLAProjectionHead(nn.Module):
    """
    The projection head g of the paper: a dense layer, layer normalisation and tanh, which map h `[N, hidden_size]` to
    z `[N, projection_size]`.

    With `config.projection_hidden_size` they are preceded by a hidden layer (dense, BatchNorm, ReLU), as in SimCLR
    (Chen et al. 2020, arXiv 2002.05709). The information that the contrastive loss discards is then discarded in the
    head rather than in h.
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


def initialize_like_keras(module: nn.Module) -> None:
    """
    Initialises a dense layer, a 2-D convolution with a bias, or a norm as Keras does by default, whose values the
    authors' code has. Other modules are left as they are.
    """
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        init.xavier_uniform_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, (nn.LayerNorm, nn.BatchNorm1d)):
        init.ones_(module.weight)
        init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm1d):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class COLABilinearSimilarity(nn.Module):
    """
    The bilinear similarity z^T W z' of each anchor `[A, D]` and each positive `[P, D]`, of shape `[A, P]` (paper,
    section 3).
    """

    def __init__(self, config: COLAConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.projection_size, config.projection_size))

    def forward(self, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        return anchors @ self.weight @ positives.T


class COLACosineSimilarity(nn.Module):
    """
    The cosine similarity of each anchor `[A, D]` and each positive `[P, D]`, divided by the temperature, of shape
    `[A, P]` (paper, table 4).
    """

    def __init__(self, config: COLAConfig):
        super().__init__()
        self.temperature = config.temperature

    def forward(self, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        return F.normalize(anchors, dim=-1) @ F.normalize(positives, dim=-1).T / self.temperature


def contrastive_loss(logits: torch.Tensor, offset: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Computes the cross-entropy of identifying each anchor's positive in the batch (paper, equation 1), and the pretext
    accuracy, which is the fraction of anchors for which the own positive is the most similar one.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, global_batch_size)`):
            Similarities of anchors (rows) and positives (columns). The positive of row i is column `offset + i`.
        offset (`int`, *optional*, defaults to 0):
            The number of positives that come from processes of lower rank.
    """
    labels = torch.arange(len(logits), device=logits.device) + offset
    return F.cross_entropy(logits.float(), labels), (logits.argmax(-1) == labels).float().mean()


def decorrelation_loss(embeddings: torch.Tensor) -> torch.Tensor:
    """
    Penalises linear correlation between the dimensions of the embeddings, so that they do not encode the same
    information: for each dimension, the sum of its squared correlations over the batch with all other dimensions,
    averaged over the dimensions.

    This is the covariance term of VICReg (Bardes et al. 2021, arXiv 2105.04906, equation 4), with correlations in
    place of covariances, as in Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230).

    Args:
        embeddings (`torch.Tensor` of shape `(batch_size, hidden_size)`):
            The embeddings h of anchors and positives. The loss is about `hidden_size / batch_size` if their dimensions
            are independent, and `hidden_size - 1` if all dimensions are equal.
    """
    embeddings = embeddings.float()
    centred = embeddings - embeddings.mean(0)
    # The small constant keeps a dimension that hardly varies from correlating with anything.
    units = centred / (centred.square().mean(0) + 1e-4).sqrt()
    correlations = units.T @ units / len(units)
    return (correlations.square().sum() - correlations.diagonal().square().sum()) / len(correlations)


def gather_from_processes(positives: torch.Tensor) -> tuple[torch.Tensor, int, float]:
    """
    Gathers the positives `[N, D]` of all processes, which may have different numbers of them; gradients flow back to
    the process that each came from.

    Returns the positives of all processes, the number of those from processes of lower rank, and the weight of this
    process's loss: its number of positives relative to the mean over the processes. The mean over the processes of the
    weighted losses is the loss of the whole batch.
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
    r"""
    COLA's contrastive pre-training: for each anchor segment, the model identifies the positive segment from the same
    recording among all positives of the batch.

    In distributed training the positives of all processes are gathered, with their gradients. The mean of the
    processes' losses, which is what data-parallel training minimises, then equals the loss of a single process with
    the whole batch, and its gradients do too. The decorrelation penalty, however, is computed on the segments of each
    process, and gradient accumulation gathers nothing, so it adds no negatives.

    Args:
        config ([`COLAConfig`]):
            The model's configuration.

    Example:

    ```python
    >>> from modeling_cola import COLAConfig, COLAForPreTraining

    >>> model = COLAForPreTraining(COLAConfig())
    >>> outputs = model(input_values, positive_values)  # two segments of each recording: [batch_size, 96, 64]
    >>> outputs.loss.backward()
    ```"""

    num_windows = 1
    """The length of a segment, in windows of the encoder."""

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
        initialize_like_keras(module)
        if isinstance(module, COLABilinearSimilarity):
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
        output_hidden_states: bool | None = None,
        gather_positives: bool = True,
    ) -> COLAForPreTrainingOutput:
        r"""
        Computes the contrastive loss of a batch of pairs of segments.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                The anchors: log-mel frames of one segment of each recording.
            positive_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                The positives: another segment of each recording, in the same order.
            attention_mask, positive_attention_mask (`torch.LongTensor`, `(batch_size, num_frames)`, *optional*):
                1 for valid frames, 0 for padding, which must be on the right. By default all frames are valid.
            output_hidden_states (`bool`, *optional*):
                Whether to return the feature map after each stage of the encoder. Defaults to
                `config.output_hidden_states`.
            gather_positives (`bool`, *optional*, defaults to `True`):
                Whether to compare each anchor with the positives of all processes. With `False` it is compared only
                with those of its own process, which is right for validation, where every process is given the same
                recordings.

        Raises:
            `ValueError`: If anchors and positives differ in shape, or if only one of the two masks is given.
        """
        if input_values.shape != positive_values.shape:
            raise ValueError(
                "`input_values` and `positive_values` must have the same shape, "
                f"got {list(input_values.shape)} and {list(positive_values.shape)}."
            )
        if (attention_mask is None) != (positive_attention_mask is None):
            raise ValueError("Pass both `attention_mask` and `positive_attention_mask`, or neither of them.")
        mask = None if attention_mask is None else torch.cat([attention_mask, positive_attention_mask])
        # Anchors and positives are encoded in one pass, so that BatchNorm computes its statistics over both.
        segments = torch.cat([input_values, positive_values])
        outputs = self.cola(segments, mask, output_hidden_states, return_dict=True)
        # In mixed precision the projections are in half precision, in which similar segments would have equal logits.
        anchors, positives = self.projection(outputs.pooler_output).to(self.cola.encoder.zero.dtype).chunk(2)

        candidates, offset, share = gather_from_processes(positives) if gather_positives else (positives, 0, 1.0)
        with torch.autocast(segments.device.type, enabled=False):
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
    r"""
    COLA with a linear classifier on top, for fine-tuning and, after [`~COLAForAudioClassification.freeze_encoder`],
    for linear evaluation.

    The logits of a recording are the mean of the logits of its windows (paper, section 3). `config.problem_type`
    selects single-label classification, multi-label classification or regression.

    Args:
        config ([`COLAConfig`]):
            The model's configuration; `num_labels` is the number of classes.

    Example:

    ```python
    >>> from modeling_cola import COLAForAudioClassification

    >>> model = COLAForAudioClassification.from_pretrained("modeling_cola/cola-compact", num_labels=10)
    >>> model.freeze_encoder()  # train the classifier alone
    >>> outputs = model(input_values, attention_mask, labels=labels)
    >>> outputs.loss.backward()
    ```"""

    def __init__(self, config: COLAConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder_frozen = self.batch_norm_frozen = False
        self.cola = COLAModel(config)
        with torch.random.fork_rng(devices=[]):  # as in COLAModel
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize_like_keras(module)

    def freeze_encoder(self) -> None:
        """
        Freezes the encoder, so that training changes the classifier alone. The encoder stays in evaluation mode, with
        neither updates of BatchNorm's statistics nor dropout, even when the model is set to training mode.
        """
        self.encoder_frozen = True
        self.cola.requires_grad_(False)
        self.train(self.training)

    def freeze_feature_encoder(self) -> None:
        """
        Does nothing, and says so. Transformers' audio classification script calls this by default, to freeze what
        turns waveforms into frames. In wav2vec 2.0 these are convolutions; here it is the log-mel spectrogram of the
        feature extractor, which has no parameters. To train the classifier alone, call
        [`~COLAForAudioClassification.freeze_encoder`].
        """
        logger.warning_once(
            "COLA computes frames by a log-mel spectrogram, which has no parameters to freeze: the whole encoder is "
            "trained. To train the classifier alone, call `freeze_encoder()`."
        )

    def freeze_batch_norm(self) -> None:
        """
        Freezes BatchNorm's statistics, which are then those of the checkpoint even when the model is set to training
        mode. All parameters are trained, BatchNorm's scales and offsets among them.

        This is for fine-tuning deep encoders on few clips, where the statistics of a batch are noisy, and running
        statistics cannot follow the weights in a few dozen steps.
        """
        self.batch_norm_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "COLAForAudioClassification":
        super().train(mode)
        if self.encoder_frozen:
            self.cola.eval()
        elif self.batch_norm_frozen:
            for module in self.cola.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
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
        Computes the logits of each recording and, if labels are given, the loss.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_mel_bins)`):
                Log-mel frames from [`COLAFeatureExtractor`].
            attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
                1 for valid frames, 0 for padding, which must be on the right. By default all frames are valid.
            labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
                Labels for computing the loss: class indices, or 0 and 1 for each class if `config.problem_type` is
                `"multi_label_classification"`, or targets if it is `"regression"`. If `config.problem_type` is not
                set, it is inferred from `num_labels` and the type of the labels in the first call.
            output_hidden_states (`bool`, *optional*):
                Whether to return the feature map after each stage of the encoder. Defaults to
                `config.output_hidden_states`.
        """
        outputs = self.cola(input_values, attention_mask, output_hidden_states, return_dict=True)
        # The classifier is affine, so the logits of the mean of h are the mean of the windows' logits.
        logits = self.classifier(outputs.pooler_output)

        loss = None
        if labels is not None:
            # Labels that are not class indices are targets, one per logit, and their losses do not accept integers.
            if labels.numel() == logits.numel() and self.config.problem_type != "single_label_classification":
                labels = labels.view_as(logits).float()
            loss = self.loss_function(labels, logits.float(), self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


__all__ = [
    "COLAForAudioClassification",
    "COLAForPreTraining",
    "COLAForPreTrainingOutput",
    "COLAModel",
    "COLAModelOutput",
    "COLAPreTrainedModel",
    "SENTENCE_TRANSFORMERS_FILES",
    "contrastive_loss",
    "decorrelation_loss",
]
