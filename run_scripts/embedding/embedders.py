"""Embedders, which turn clips into vectors: by a frozen encoder, or by statistics of the log-mel spectrogram."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import set_seed

from feature_extraction import COLAFeatureExtractor, find_audio_column, load_audio, undecoded
from modeling_cola import COLAConfig, COLAModel
from run_scripts.embedding.batches import batch_by_samples


LOG_MEL = "log-mel statistics"

# An embedder takes mono waveforms at 16 kHz and returns a vector for each, `[N, D]`.
Embedder = Callable[[list[np.ndarray]], np.ndarray]

# How many decoded clips, and how many of their samples, are in memory at a time: at 16 kHz 70 minutes, or 268 MB. One
# clip may be longer.
CLIPS_AT_ONCE = 128
SAMPLES_AT_ONCE = 2**26


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


def encoder_embedder(model: COLAModel, extractor: COLAFeatureExtractor) -> Embedder:
    """
    Builds the embedder of a frozen encoder and puts the model into evaluation mode.

    A clip's vector is `pooler_output`: the encoder's output h, averaged over the clip's windows.
    """
    device = model.device
    model.eval()

    @torch.inference_mode()
    def embed(waveforms: list[np.ndarray]) -> np.ndarray:
        features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(device)
        return model(**features).pooler_output.float().cpu().numpy()

    return embed


def iterate_waveforms(dataset: Dataset, sampling_rate: int, description: str) -> Iterator[np.ndarray]:
    """
    Decodes the clips of a data set one after another.

    Args:
        dataset (`Dataset`):
            Clips with one column of audio.
        sampling_rate (`int`):
            The sampling rate in Hz to resample to.
        description (`str`):
            The text of the progress bar.
    """
    column = find_audio_column(dataset)
    rows = undecoded(dataset.select_columns([column]), column)
    for row in tqdm(rows, desc=description, leave=False):
        yield load_audio(row[column], sampling_rate)


def embed_all(embed: Embedder, waveforms: list[np.ndarray], description: str, batch_size: int = 32) -> np.ndarray:
    """
    Embeds waveforms in batches of similar length and returns their vectors `[N, D]` in the order of the waveforms.

    Args:
        embed (`Embedder`):
            The embedder.
        waveforms (`list[np.ndarray]`):
            Mono waveforms at 16 kHz.
        description (`str`):
            The text of the progress bar.
        batch_size (`int`, *optional*, defaults to 32):
            The greatest number of waveforms in a batch. Batches of long waveforms are smaller.
    """
    order = np.argsort([len(waveform) for waveform in waveforms], kind="stable")
    batches = list(batch_by_samples(order, lambda i: len(waveforms[i]), batch_size))
    vectors = [
        embed([waveforms[i] for i in batch]) for batch in tqdm(batches, desc=description, leave=False, unit="batch")
    ]
    return np.concatenate(vectors)[np.argsort(order)]


def embed_clips(
    embedders: dict[str, Embedder], dataset: Dataset, name: str, sampling_rate: int = 16000
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """
    Embeds all clips of a data set by several embedders, and decodes each clip only once.

    Args:
        embedders (`dict[str, Embedder]`):
            The embedders by name.
        dataset (`Dataset`):
            Clips with one column of audio.
        name (`str`):
            The name of the task, for progress bars.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The sampling rate in Hz that the embedders take.

    Returns:
        `tuple[dict[str, np.ndarray], dict[str, float]]`: For each embedder its vectors `[N, D]`, and the seconds that
        it took, decoding not included.
    """
    vectors, seconds = {method: [] for method in embedders}, dict.fromkeys(embedders, 0.0)
    decoded = iterate_waveforms(dataset, sampling_rate, f"{name}: decoding")
    for waveforms in batch_by_samples(decoded, len, CLIPS_AT_ONCE, SAMPLES_AT_ONCE, padded=False):
        for method, embed in embedders.items():
            started = time.perf_counter()
            vectors[method].append(embed_all(embed, waveforms, f"{name}: {method}"))
            seconds[method] += time.perf_counter() - started
    return {method: np.concatenate(chunks) for method, chunks in vectors.items()}, seconds


def load_encoder(checkpoint: str, seed: int | None = None) -> tuple[COLAModel, COLAFeatureExtractor]:
    """
    Loads a checkpoint's encoder and feature extractor.

    Args:
        checkpoint (`str`):
            A folder or the name of a model on the Hub.
        seed (`int`, *optional*):
            If given, the encoder has the checkpoint's architecture but random weights, drawn with this seed.
    """
    extractor = COLAFeatureExtractor.from_pretrained(checkpoint)
    if seed is None:
        return COLAModel.from_pretrained(checkpoint), extractor
    set_seed(seed)
    return COLAModel(COLAConfig.from_pretrained(checkpoint)), extractor


def name_kind(checkpoint: str) -> str:
    """
    Names a checkpoint's kind of encoder: its architecture and the settings that are not the architecture's defaults,
    for example `compact (pooling mean)`. Checkpoints of one kind have the same random weights with the same seed.
    """
    config = COLAConfig.from_pretrained(checkpoint)
    settings, defaults = config.to_dict(), COLAConfig(encoder=config.encoder).to_dict()
    names = ["encoder_stride", "pooling", "pooling_stages"]
    # The residual blocks of the compact encoder always start as the identity; no other encoder has these settings.
    names += ["compact_channels", "compact_depth"] if config.encoder == "compact" else ["zero_init_residual"]
    changed = [f"{name} {settings[name]}" for name in names if settings[name] != defaults[name]]
    return config.encoder + (f" ({', '.join(changed)})" if changed else "")


def load_encoders(checkpoints: list[str], seed: int) -> dict[str, Embedder]:
    """
    Builds the embedders of checkpoints, and of random weights for comparison.

    Args:
        checkpoints (`list[str]`):
            Folders or names of models on the Hub.
        seed (`int`):
            The seed of the random weights.

    Returns:
        `dict[str, Embedder]`: For each checkpoint an embedder under the last part of its name, and for each kind of
        encoder among them one with random weights.
    """
    embedders = {}
    for checkpoint in checkpoints:
        random_name = f"{name_kind(checkpoint)}, random"
        if random_name not in embedders:
            embedders[random_name] = encoder_embedder(*load_encoder(checkpoint, seed))
        embedders[Path(checkpoint).name] = encoder_embedder(*load_encoder(checkpoint))
    return embedders
