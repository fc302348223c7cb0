"""Clips -> vectors: of a frozen encoder, or statistics of log-mel."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import set_seed

from feature_extraction import COLAFeatureExtractor, find_audio_column, load_audio, undecoded
from modeling_cola import COLAConfig, COLAModel


LOG_MEL = "log-mel statistics"
Embedder = Callable[[list[np.ndarray]], np.ndarray]

CLIPS_AT_ONCE = 128  # decoded and in memory


def log_mel_statistics(extractor: COLAFeatureExtractor) -> Embedder:
    """The baseline that needs no encoder: mean, standard deviation and maximum of each mel band over the clip."""

    def embed(waveforms: list[np.ndarray]) -> np.ndarray:
        features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        mask = features["attention_mask"][..., None]
        values, count = features["input_values"], mask.sum(1)
        mean = (values * mask).sum(1) / count
        std = (((values - mean[:, None]) * mask).square().sum(1) / count).sqrt()
        maximum = values.masked_fill(mask == 0, -torch.inf).amax(1)
        return torch.cat([mean, std, maximum], dim=1).numpy()

    return embed


def encoder_embedder(model: COLAModel, extractor: COLAFeatureExtractor) -> Embedder:
    """h averaged over the clip's windows."""
    device = model.device
    model.eval()

    @torch.inference_mode()
    def embed(waveforms: list[np.ndarray]) -> np.ndarray:
        features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(device)
        return model(**features).pooler_output.float().cpu().numpy()

    return embed


def read_waveforms(dataset: Dataset, sampling_rate: int, description: str) -> list[np.ndarray]:
    """Decodes all of a data set's clips."""
    column = find_audio_column(dataset)
    rows = undecoded(dataset.select_columns([column]), column)
    return [load_audio(row[column], sampling_rate) for row in tqdm(rows, desc=description, leave=False)]


def embed_all(embed: Embedder, waveforms: list[np.ndarray], description: str, batch_size: int = 32) -> np.ndarray:
    """Embeds clips in batches of similar length: `[N, D]`, in their order."""
    order = np.argsort([len(waveform) for waveform in waveforms], kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    vectors = [
        embed([waveforms[i] for i in batch]) for batch in tqdm(batches, desc=description, leave=False, unit="batch")
    ]
    return np.concatenate(vectors)[np.argsort(order)]


def embed_clips(
    embedders: dict[str, Embedder], dataset: Dataset, name: str
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Each embedder's vectors `[N, D]` of all clips, which are decoded once, and the seconds that it took."""
    sampling_rate = COLAFeatureExtractor().sampling_rate
    vectors, seconds = {method: [] for method in embedders}, dict.fromkeys(embedders, 0.0)
    for start in range(0, len(dataset), CLIPS_AT_ONCE):
        chunk = dataset.select(range(start, min(start + CLIPS_AT_ONCE, len(dataset))))
        waveforms = read_waveforms(chunk, sampling_rate, f"{name}: decoding")
        for method, embed in embedders.items():
            started = time.perf_counter()
            vectors[method].append(embed_all(embed, waveforms, f"{name}: {method}"))
            seconds[method] += time.perf_counter() - started
    return {method: np.concatenate(parts) for method, parts in vectors.items()}, seconds


def load_encoder(checkpoint: str, seed: int | None = None) -> tuple[COLAModel, COLAFeatureExtractor]:
    """The encoder of a checkpoint, or with a seed one of its kind with random weights."""
    extractor = COLAFeatureExtractor.from_pretrained(checkpoint)
    if seed is None:
        return COLAModel.from_pretrained(checkpoint), extractor
    set_seed(seed)
    return COLAModel(COLAConfig.from_pretrained(checkpoint)), extractor


def name_kind(checkpoint: str) -> str:
    """The checkpoint's kind of encoder, whose random weights are one column whatever was trained from them."""
    config = COLAConfig.from_pretrained(checkpoint)
    usual = COLAConfig(encoder=config.encoder)
    # The compact encoder has no residual blocks, whatever its configuration says of them.
    names = ["encoder_stride", "pooling", "compact_channels" if config.encoder == "compact" else "zero_init_residual"]
    own = [f"{name} {getattr(config, name)}" for name in names if getattr(config, name) != getattr(usual, name)]
    return config.encoder + (f" ({', '.join(own)})" if own else "")


def load_encoders(checkpoints: list[str], seed: int) -> dict[str, Embedder]:
    """For each checkpoint its encoder with random weights, once for each kind of encoder, and the encoder itself."""
    embedders = {}
    for checkpoint in checkpoints:
        random_name = f"{name_kind(checkpoint)}, random"
        if random_name not in embedders:
            embedders[random_name] = encoder_embedder(*load_encoder(checkpoint, seed))
        embedders[Path(checkpoint).name] = encoder_embedder(*load_encoder(checkpoint))
    return embedders
