"""Embedders, which turn clips into vectors: by a frozen encoder, or by statistics of the log-mel spectrogram."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAModel, COLAModelOutput
from run_scripts.common.checkpoints import load_config


LOG_MEL = "log-mel statistics"

# An embedder takes mono waveforms at 16 kHz and returns a vector for each, `[N, D]`, or its windows', `[N][W, D]`.
Embedder = Callable[[list[np.ndarray]], Sequence[np.ndarray]]


def log_mel_statistics(extractor: COLAFeatureExtractor) -> Embedder:
    """
    Builds the baseline embedder that needs no encoder.

    A clip's vector is the mean, the standard deviation and the maximum of each mel band over its frames.
    """

    def embed(waveforms: list[np.ndarray]) -> np.ndarray:
        features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        mask = features["attention_mask"][..., None]
        values, count = features["input_values"], mask.sum(1)
        mean = (values * mask).sum(1) / count
        std = (((values - mean[:, None]) * mask).square().sum(1) / count).sqrt()
        maximum = values.masked_fill(mask == 0, -torch.inf).amax(1)
        return torch.cat([mean, std, maximum], dim=1).numpy()

    return embed


def encoder_embedder(model: COLAModel, extractor: COLAFeatureExtractor, windows: bool = False) -> Embedder:
    """
    Builds the embedder of a frozen encoder and puts the model into evaluation mode.

    A clip's vector is `pooler_output`: the encoder's output h, averaged over the clip's windows. With `windows` each
    clip has its h `[W, D]` instead.
    """
    model.eval()

    def embed(waveforms: list[np.ndarray]) -> Sequence[np.ndarray]:
        outputs = encode_waveforms(model, extractor, waveforms)
        if not windows:
            return outputs.pooler_output.float().cpu().numpy()
        counts = outputs.window_mask.sum(1).tolist()
        return [h[:count].float().cpu().numpy() for h, count in zip(outputs.last_hidden_state, counts)]

    return embed


@torch.inference_mode()
def encode_waveforms(
    model: COLAModel, extractor: COLAFeatureExtractor, waveforms: list[np.ndarray] | torch.Tensor
) -> COLAModelOutput:
    """Computes features and the output of a model, on its device, for a batch of waveforms at the extractor's rate."""
    return model.base_model(**extractor(waveforms, extractor.sampling_rate, return_tensors="pt", device=model.device))


def name_kind(checkpoint: str) -> str:
    """
    Names a checkpoint's kind of encoder: its architecture and the settings that are not the architecture's defaults,
    for example `compact (pooling mean)`. Checkpoints of one kind have the same random weights with the same seed, and
    learn alike from scratch.
    """
    config = load_config(checkpoint)
    settings, defaults = config.to_dict(), COLAConfig(encoder=config.encoder).to_dict()
    names = ["encoder_kwargs", "encoder_stride", "drop_path_rate", "pooling", "pooling_stages"]
    names += ["num_mel_bins", "conv_padding_value", "window_size", "window_hop"]
    if config.pooling == "dense":  # with any other the size follows from the encoder
        names += ["hidden_size", "pooling_hidden_size", "pooling_dropout", "pooling_relu"]
    # The residual blocks of the compact encoder always start as the identity; no other encoder has these settings.
    names += ["compact_channels", "compact_depth"] if config.encoder == "compact" else ["zero_init_residual"]
    changed = [f"{name} {settings[name]}" for name in names if settings[name] != defaults[name]]
    return config.encoder + (f" ({', '.join(changed)})" if changed else "")
