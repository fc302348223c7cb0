"""
A cache on disk for the embeddings of frozen encoders, so that clips are embedded once and not in every epoch.

An entry is a folder whose name is a hash of everything that its vectors depend on: the encoder's weights, the
features, the clips, and how they are cut into windows. It is written under a temporary name, renamed when it is
complete, and verified by a checksum when it is read. An entry that is outdated, damaged or incomplete is therefore
never used; its clips are embedded again.
"""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers.utils import can_return_tuple
from xxhash import xxh3_128

from feature_extraction import ClipDecoder, COLAFeatureExtractor, undecoded
from feature_extraction.audio_source import file_system_name
from modeling_cola import COLAConfig, COLAModel, COLAModelOutput
from run_scripts.common.errors import FileError, UserError
from run_scripts.common.files import written_whole
from run_scripts.embedding.embedders import encoder_embedder
from run_scripts.embedding.encode import embed_in_batches


logger = logging.getLogger(__name__)

VERSION = 1  # Increase it when the same settings give other vectors than before.
MANIFEST = "manifest.json"
VECTORS = "vectors.f32"
OTHER_CACHE = "Name another folder with --embedding_cache, or pass --embedding_cache off to embed clips in each epoch."

# Training clips are cut into windows that start a quarter of a window apart, or further apart where a clip would have
# more than `MAX_WINDOWS` of them. Training draws one window of each clip per epoch, so that more windows would make
# hardly any difference in the paper's 100 epochs.
WINDOWS_PER_HOP = 4
MAX_WINDOWS = 64


@dataclass(frozen=True)
class Embeddings(torch.utils.data.Dataset):
    """
    The embeddings and labels of a split's clips, as a data set for the Trainer.

    Each access to a clip draws one of its vectors at random.

    Args:
        vectors (`np.ndarray` of shape `(num_vectors, hidden_size)`, float32):
            The encoder's output h of each window, clip by clip.
        offsets (`np.ndarray` of shape `(num_clips + 1,)`):
            The vectors of clip i are `vectors[offsets[i] : offsets[i + 1]]`.
        labels (`list`):
            The label of each clip: a class index, or a vector of 0.0 and 1.0.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        # The Trainer seeds torch's random state, in each worker too. The draw is the one that `ClipDecoder` makes.
        rng = np.random.default_rng(torch.randint(2**62, ()).item())
        chosen = rng.integers(self.offsets[i], self.offsets[i + 1])
        return {"input_values": self.vectors[chosen], "labels": self.labels[i]}


class CachedEncoder(nn.Module):
    """Takes the place of a `COLAModel` whose output h, `[N, hidden_size]`, is passed to it as `input_values`."""

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, *args: Any, **kwargs: Any) -> COLAModelOutput:
        return COLAModelOutput(pooler_output=input_values)


def hash_encoder(model: COLAModel, extractor: COLAFeatureExtractor) -> str:
    """Computes a hash of an encoder's weights, its configuration and the settings of its features."""
    settings = model.config.to_dict()
    config = {name: settings[name] for name in COLAConfig.__annotations__}
    digest = hashlib.sha256(json.dumps([config, extractor.to_dict()], sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_clips(dataset: Dataset, audio_column: str) -> str:
    """
    Computes a hash of clips and their order, by the content of each, so that copies of their files have the same one.
    Of a file that does not exist, may not be read or is elsewhere, such as at a URL, the path takes its place.
    """
    rows = undecoded(dataset.select_columns([audio_column]), audio_column).with_format("arrow")
    digest = xxh3_128()
    for batch in rows.iter(batch_size=64):
        for clip in batch[audio_column].to_pylist():
            digest.update(_hash_clip(clip or {}))
    return digest.hexdigest()


def _hash_clip(clip: dict[str, Any]) -> bytes:
    if clip.get("bytes") is not None:
        return xxh3_128(clip["bytes"]).digest()
    inside, _, path = (clip.get("path") or "").rpartition("::")  # a file inside an archive, by whose content it goes
    file = file_system_name(path)
    if not (os.path.isfile(file) and os.access(file, os.R_OK)):
        return xxh3_128(os.fsencode(f"{inside}::{file}, exists: {os.path.isfile(file)}")).digest()
    status = os.stat(file)
    content = _hash_file(file, status.st_size, status.st_mtime_ns)
    return xxh3_128(inside.encode() + content).digest() if inside else content


@lru_cache(maxsize=2**20)
def _hash_file(path: str, size: int, modified: int) -> bytes:
    """Reads a file once for each size and time of modification."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, xxh3_128).digest()


def cut_windows(waveform: np.ndarray, num_samples: int) -> list[np.ndarray]:
    """
    Cuts a waveform into overlapping windows of `num_samples` samples, evenly spaced from its start to its end.

    A waveform that is shorter than one window is returned as it is.
    """
    last = max(len(waveform) - num_samples, 0)
    count = min(1 + -(-last * WINDOWS_PER_HOP // num_samples), MAX_WINDOWS)
    return [waveform[start : start + num_samples] for start in np.linspace(0, last, count).astype(int)]


def embed_cached(
    model: COLAModel,
    extractor: COLAFeatureExtractor,
    dataset: Dataset,
    audio_column: str,
    label_column: str,
    cache_dir: str | os.PathLike,
    random_windows: bool = False,
    num_workers: int = 0,
) -> Embeddings:
    """
    Returns the embeddings of a data set's clips by a frozen encoder, from the cache if they are in it.

    Args:
        model ([`COLAModel`]), extractor ([`COLAFeatureExtractor`]):
            The encoder and its feature extractor.
        dataset (`Dataset`), audio_column (`str`), label_column (`str`):
            The clips, and the names of the columns of their audio and their labels.
        cache_dir (`str` or `os.PathLike`):
            The folder of the cache, which has an entry for each encoder and list of clips.
        random_windows (`bool`, *optional*, defaults to `False`):
            Whether to embed windows of each clip one by one. They stand in for the random segments of which the paper
            trains. Otherwise, each clip has one vector, the mean over its windows.
        num_workers (`int`, *optional*, defaults to 0):
            The number of worker processes that decode clips.

    Returns:
        [`Embeddings`]: The vectors of all clips, and their labels.

    Raises:
        `OSError`: If the entry cannot be written.
    """
    num_samples = extractor.num_samples(model.config.window_size) if random_windows else None
    settings = {
        "version": VERSION,
        "encoder": hash_encoder(model, extractor),
        "clips": hash_clips(dataset, audio_column),
        "windows": [num_samples, WINDOWS_PER_HOP, MAX_WINDOWS] if random_windows else "mean",
    }
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache_dir).expanduser() / name
    entry = _read(folder)
    if entry is None:
        clips = undecoded(dataset.select_columns([audio_column, label_column]), audio_column)
        clips = clips.with_transform(ClipDecoder(extractor, audio_column, label_column))
        _write(folder, _embed(model, extractor, clips, num_samples, num_workers), settings)
        entry = _read(folder)
    if entry is None:
        raise FileError(f"{folder} could not be read back: check the disk, or pass --embedding_cache off.")
    vectors, offsets = entry
    return Embeddings(vectors, offsets, labels=list(dataset[label_column]))


def _embed(
    model: COLAModel, extractor: COLAFeatureExtractor, clips: Dataset, num_samples: int | None, num_workers: int
) -> Iterator[np.ndarray]:
    """Yields the vectors `[num_vectors, hidden_size]` of each clip."""
    loader = DataLoader(clips, batch_size=None, collate_fn=dict, num_workers=num_workers)
    rows = enumerate(tqdm(loader, desc="Embedding clips", unit="clip", leave=False))
    waveforms = (
        (number, waveform)
        for number, row in rows
        for waveform in (cut_windows(row["waveform"], num_samples) if num_samples else [row["waveform"]])
    )
    embedded = embed_in_batches(encoder_embedder(model, extractor), waveforms)
    for _, vectors in groupby(embedded, key=itemgetter(0)):
        yield np.stack([vector for _, vector in vectors])


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the vectors and offsets of an entry, or `None` if it is missing or damaged."""
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        offsets = np.array(manifest["offsets"], dtype="<i8")
        shape = (int(offsets[-1]), manifest["hidden_size"])
        vectors = np.memmap(folder / VECTORS, np.dtype("<f4"), "r", shape=shape)
        if zlib.crc32(offsets.tobytes(), zlib.crc32(vectors)) != manifest["checksum"]:
            raise UserError("its checksum does not match")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        logger.warning(f"The cache entry {folder} is damaged ({error}): its clips are embedded again.")
        return None
    return vectors, offsets


def _write(folder: Path, clip_vectors: Iterator[np.ndarray], settings: dict[str, Any]) -> None:
    """Writes an entry clip by clip, so that the vectors need not fit in memory."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"Could not write {folder.parent}: {error.strerror}. {OTHER_CACHE}") from error
    offsets, checksum, hidden_size = [0], 0, 0
    # An entry that is there already is damaged, or was written by another run in the meantime and is the same.
    with written_whole(folder, advice=f"Make room. {OTHER_CACHE}") as temporary:
        temporary.mkdir()
        with open(temporary / VECTORS, "wb") as file:
            for vectors in clip_vectors:
                data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
                file.write(data)
                checksum = zlib.crc32(data, checksum)
                offsets.append(offsets[-1] + len(vectors))
                hidden_size = vectors.shape[1]
        checksum = zlib.crc32(np.array(offsets, dtype="<i8").tobytes(), checksum)
        manifest = {"settings": settings, "hidden_size": hidden_size, "checksum": checksum, "offsets": offsets}
        (temporary / MANIFEST).write_text(json.dumps(manifest))
