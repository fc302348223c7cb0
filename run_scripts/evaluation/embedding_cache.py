"""
Vectors of a frozen encoder, embedded once and kept on disk.

An entry is a folder, named by a hash of all that its vectors depend on: the weights, the features, the clips and how
they are cut. It is written under another name, renamed when it is whole, and checked when it is read, so one that is
stale, damaged or half written is never used: it is made anew.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers.utils import can_return_tuple

from feature_extraction import ClipDecoder, COLAFeatureExtractor, undecoded
from modeling_cola import COLAConfig, COLAModel, COLAModelOutput


logger = logging.getLogger(__name__)

VERSION = 1  # goes up when the same settings give other vectors
MANIFEST = "manifest.json"
VECTORS = "vectors.f32"

# Of each training clip windows are cut a quarter of a window apart, or where it is long this many, further apart.
# Training draws one of them per epoch, so the paper's 100 epochs would hardly notice more.
WINDOWS_PER_HOP = 4
MAX_WINDOWS = 64
CLIPS_AT_ONCE = 16


@dataclass(frozen=True)
class Embeddings(torch.utils.data.Dataset):
    """
    What is known of a split's clips, for the Trainer: each access to a clip draws one of its vectors.

    Args:
        vectors (`np.ndarray` of shape `(num_vectors, hidden_size)`, float32):
            h of windows, clip by clip.
        offsets (`np.ndarray` of shape `(num_clips + 1,)`):
            The vectors of clip i are `vectors[offsets[i] : offsets[i + 1]]`.
        labels (`list`):
            The label of each clip: a class, or a vector of 0.0 and 1.0.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        # torch's random state is the one that the Trainer seeds, in each worker too; drawn as ClipDecoder draws.
        rng = np.random.default_rng(torch.randint(2**62, ()).item())
        chosen = rng.integers(self.offsets[i], self.offsets[i + 1])
        return {"input_values": self.vectors[chosen], "labels": self.labels[i]}


class CachedEncoder(nn.Module):
    """Stands in for a `COLAModel` whose output is at hand: `input_values` are h, `[N, hidden_size]`."""

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, *args: Any, **kwargs: Any) -> COLAModelOutput:
        return COLAModelOutput(pooler_output=input_values)


def encoder_key(model: COLAModel, extractor: COLAFeatureExtractor) -> str:
    """A hash of the weights and of the settings of model and features."""
    config = {name: getattr(model.config, name) for name in COLAConfig.__annotations__}
    digest = hashlib.sha256(json.dumps([config, extractor.to_dict()], sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def data_key(dataset: Dataset, column: str) -> str:
    """A hash of the clips and their order: the data set's fingerprint and, of clips that are files, their state."""
    stored = undecoded(dataset, column).data.column(column)
    is_file = pc.is_null(pc.struct_field(stored, "bytes"))
    paths = pc.if_else(is_file, pc.struct_field(stored, "path"), None).drop_null().to_pylist()
    digest = hashlib.sha256(dataset._fingerprint.encode())
    for path in paths:
        file = path.rsplit("::", 1)[-1]  # a file in an archive is as old as that
        if os.path.exists(file):
            status = os.stat(file)
            path += f" {status.st_size} {status.st_mtime_ns}"
        digest.update(path.encode())
    return digest.hexdigest()


def cut_windows(waveform: np.ndarray, num_samples: int) -> list[np.ndarray]:
    """Windows at even distances, from the first to the last whole one; a shorter waveform is its own window."""
    last = max(len(waveform) - num_samples, 0)
    count = min(1 + -(-last * WINDOWS_PER_HOP // num_samples), MAX_WINDOWS)
    return [waveform[start : start + num_samples] for start in np.linspace(0, last, count).astype(int)]


def embed_cached(
    model: COLAModel,
    extractor: COLAFeatureExtractor,
    dataset: Dataset,
    column: str,
    label_column: str,
    cache_dir: str | os.PathLike,
    random_windows: bool = False,
    num_workers: int = 0,
) -> Embeddings:
    """
    The vectors of a data set's clips, from the cache if they are there.

    Args:
        model ([`COLAModel`]):
            The frozen encoder, on the device to use.
        extractor ([`COLAFeatureExtractor`]):
            Its features.
        dataset (`Dataset`):
            The clips.
        column, label_column (`str`):
            Its columns of audio and of labels.
        cache_dir (`str` or `os.PathLike`):
            Where entries are kept.
        random_windows (`bool`, *optional*, defaults to `False`):
            Whether a clip has a vector for each of many windows, one of which is drawn at each access, in place of
            the random segments that the paper trains on; else it has one, the mean over its windows.
        num_workers (`int`, *optional*, defaults to 0):
            Processes that decode.

    Raises:
        `OSError`: if the entry cannot be written.
    """
    num_samples = extractor.num_samples(model.config.window_size) if random_windows else None
    settings = {
        "version": VERSION,
        "encoder": encoder_key(model, extractor),
        "clips": data_key(dataset, column),
        "windows": [num_samples, WINDOWS_PER_HOP, MAX_WINDOWS] if random_windows else "mean",
    }
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache_dir).expanduser() / name
    found = _read(folder)
    if found is None:
        rows = undecoded(dataset.select_columns([column, label_column]), column)
        rows = rows.with_transform(ClipDecoder(extractor, column, label_column))
        loader = DataLoader(rows, batch_size=CLIPS_AT_ONCE, collate_fn=list, num_workers=num_workers)
        progress = tqdm(loader, desc="Embedding clips", unit="batch", leave=False)
        clips = ([row["waveform"] for row in batch] for batch in progress)
        _write(folder, _embed(model, extractor, clips, num_samples), settings)
        found = _read(folder)
        if found is None:
            raise OSError(f"{folder} could not be read back: check the disk, or pass --embedding_cache off.")
    return Embeddings(*found, labels=list(dataset[label_column]))


@torch.inference_mode()
def _embed(
    model: COLAModel, extractor: COLAFeatureExtractor, batches: Iterator[list[np.ndarray]], num_samples: int | None
) -> Iterator[list[np.ndarray]]:
    """For each batch of waveforms the vectors `[num_vectors, hidden_size]` of each."""
    model.eval()
    for waveforms in batches:
        clips = [[waveform] if num_samples is None else cut_windows(waveform, num_samples) for waveform in waveforms]
        pieces = [piece for clip in clips for piece in clip]
        features = extractor(pieces, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(model.device)
        vectors = model(**features).pooler_output.float().cpu().numpy()
        yield np.split(vectors, np.cumsum([len(clip) for clip in clips])[:-1])


def _checksum(vectors: np.ndarray, offsets: np.ndarray) -> int:
    return zlib.crc32(offsets.astype("<i8").tobytes(), zlib.crc32(np.ascontiguousarray(vectors)))


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Vectors and offsets, or `None` if the entry is not there or not whole."""
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        offsets = np.array(manifest["offsets"], dtype=np.int64)
        shape = (int(offsets[-1]), manifest["hidden_size"])
        vectors = np.memmap(folder / VECTORS, np.dtype("<f4"), "r", shape=shape)
        if _checksum(vectors, offsets) != manifest["checksum"]:
            raise ValueError("its checksum is another")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        logger.warning(f"{folder} is damaged ({error}): embedding its clips anew.")
        return None
    return vectors, offsets


def _write(folder: Path, batches: Iterator[list[np.ndarray]], settings: dict[str, Any]) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        counts, checksum, hidden_size = [], 0, 0
        with open(temporary / VECTORS, "wb") as file:
            for clips in batches:
                for vectors in clips:
                    data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
                    file.write(data)
                    checksum = zlib.crc32(data, checksum)
                    counts.append(len(vectors))
                    hidden_size = vectors.shape[1]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        manifest = {
            "settings": settings,
            "hidden_size": hidden_size,
            "checksum": zlib.crc32(offsets.astype("<i8").tobytes(), checksum),
            "offsets": offsets.tolist(),
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or that of another run: it is the same
        os.replace(temporary, folder)
    except FileNotFoundError:
        raise  # a clip: that says it all
    except OSError as error:
        raise OSError(
            f"Could not write {folder}: {error}. Make room, name another folder with --embedding_cache, or pass "
            "--embedding_cache off to embed the clips anew in each epoch."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
