"""From audio to vectors: many clips in batches, and recordings of any length in bounded memory."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from feature_extraction import BadClipError, COLAFeatureExtractor, open_audio
from modeling_cola import COLAModel
from run_scripts.embedding.batches import batch_by_samples


Key = TypeVar("Key")

# How many decoded clips, and how many of their samples after padding, are in memory at a time: 9 minutes at 16 kHz, or
# 34 MB.
CLIPS_AT_ONCE = 32
SAMPLES_AT_ONCE = 2**23
# How many windows of a longer recording are encoded at a time: with the model's defaults, four minutes of audio.
WINDOWS_AT_ONCE = 256


class EmbeddedClip(NamedTuple):
    """
    A clip whose windows are embedded.

    Args:
        seconds (`float`):
            The length of the clip.
        num_windows (`int`):
            The number of its windows.
        chunks (`Iterator[np.ndarray]`):
            The vectors of the windows, a few hundred at a time, each of shape `(count, hidden_size)`. Those of a long
            recording are computed when they are asked for.
    """

    seconds: float
    num_windows: int
    chunks: Iterator[np.ndarray]


def embed_files(
    model: COLAModel, extractor: COLAFeatureExtractor, files: Iterable[Any], windows: bool = False
) -> np.ndarray | list[np.ndarray]:
    """
    Embeds audio files, of any format, sampling rate and length.

    Args:
        model ([`COLAModel`]):
            The model, on the device to use. It is put into evaluation mode.
        extractor ([`COLAFeatureExtractor`]):
            Its feature extractor.
        files (`Iterable`):
            Paths, or anything else that [`load_audio`] takes.
        windows (`bool`, *optional*, defaults to `False`):
            Whether to return the vector of each window, 0.96 s by default, rather than one for each file.

    Returns:
        `np.ndarray` of shape `(num_files, hidden_size)` or, with `windows`, a list of arrays of shape
        `(num_windows, hidden_size)`.

    Raises:
        [`BadClipError`]: If a file cannot be used. The message names it.

    Example:

    ```python
    >>> from feature_extraction import COLAFeatureExtractor
    >>> from modeling_cola import COLAModel
    >>> from run_scripts.embedding.encode import embed_files

    >>> checkpoint = "modeling_cola/cola-compact"
    >>> model, extractor = COLAModel.from_pretrained(checkpoint), COLAFeatureExtractor.from_pretrained(checkpoint)
    >>> vectors = embed_files(model, extractor, ["dog.mp3", "cat.wav"])
    ```"""
    vectors = []
    for _, clip in embed_clips(model, extractor, enumerate(files)):
        if isinstance(clip, BadClipError):
            raise clip
        vectors.append(np.concatenate(list(clip.chunks)) if windows else mean_vector(clip))
    return vectors if windows else np.array(vectors).reshape(-1, model.config.hidden_size)


def mean_vector(clip: EmbeddedClip) -> np.ndarray:
    """Returns the vector `(hidden_size,)` of a clip as a whole: the mean over its windows, as `pooler_output` is."""
    total = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in clip.chunks)
    return (total / clip.num_windows).astype(np.float32)


def embed_clips(
    model: COLAModel, extractor: COLAFeatureExtractor, clips: Iterable[tuple[Key, Any]]
) -> Iterator[tuple[Key, EmbeddedClip | BadClipError]]:
    """
    Embeds a stream of clips. The vectors are those that the model gives for whole clips one by one, whatever they are
    batched with; the memory does not depend on how many clips there are or how long they are.

    Args:
        model ([`COLAModel`]):
            The model, on the device to use. It is put into evaluation mode.
        extractor ([`COLAFeatureExtractor`]):
            Its feature extractor.
        clips (`Iterable`):
            Pairs of anything that tells the clip, and its audio, as [`load_audio`] takes it. In place of the audio
            there may be a [`BadClipError`], which is returned.

    Returns:
        `Iterator`: For each clip, in their order, what tells it and the [`EmbeddedClip`], or the [`BadClipError`] that
        says why it cannot be used. Take the `chunks` of a clip before you ask for the next one.
    """
    model.eval()
    opened = (_decode(key, audio, extractor.sampling_rate) for key, audio in clips)
    for batch in batch_by_samples(opened, lambda clip: clip.num_samples, CLIPS_AT_ONCE, SAMPLES_AT_ONCE):
        if batch[0].num_samples > SAMPLES_AT_ONCE:  # it is alone in its batch
            yield batch[0].key, _embed_long(model, extractor, batch[0].content)
            continue
        waveforms = [clip.content for clip in batch if isinstance(clip.content, np.ndarray)]
        vectors = iter(_encode(model, extractor, waveforms) if waveforms else ())
        for key, content, num_samples in batch:
            if isinstance(content, BadClipError):
                yield key, content
            else:
                windows = next(vectors)
                yield key, EmbeddedClip(num_samples / extractor.sampling_rate, len(windows), iter([windows]))


class _Decoded(NamedTuple):
    """A clip and its waveform, the error that says why there is none or, for a long recording, its source."""

    key: Any
    content: Any
    num_samples: int


def _decode(key: Any, source: Any, sampling_rate: int) -> _Decoded:
    if isinstance(source, BadClipError):
        return _Decoded(key, source, 0)
    try:
        with open_audio(source, sampling_rate) as audio:
            if audio.num_samples > SAMPLES_AT_ONCE:
                return _Decoded(key, source, audio.num_samples)
            waveform = audio.read()
            return _Decoded(key, waveform, len(waveform))
    except BadClipError as error:
        return _Decoded(key, error, 0)


@torch.inference_mode()
def _encode(model: COLAModel, extractor: COLAFeatureExtractor, waveforms: list[np.ndarray]) -> list[np.ndarray]:
    features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(model.device)
    outputs = model(**features)
    counts = outputs.window_mask.sum(1).tolist()
    return [h[:count].float().cpu().numpy() for h, count in zip(outputs.last_hidden_state, counts)]


def _embed_long(model: COLAModel, extractor: COLAFeatureExtractor, source: Any) -> EmbeddedClip | BadClipError:
    """Embeds a recording that is decoded twice, block after block: for its level, and for its windows."""
    try:
        num_samples, rms = _measure(source, extractor.sampling_rate)
    except BadClipError as error:
        return error
    frames = 1 + (num_samples - extractor.win_length) // extractor.hop_length
    # As in the model, all windows count of which at least half lies in the recording.
    num_windows = 1 + (frames - (model.config.window_size + 1) // 2) // model.config.window_hop
    gain = extractor.target_rms / max(rms, 1e-12) if extractor.do_normalize else 1.0
    chunks = _embed_chunks(model, extractor, source, num_windows, gain)
    return EmbeddedClip(num_samples / extractor.sampling_rate, num_windows, chunks)


def _measure(source: Any, sampling_rate: int) -> tuple[int, float]:
    """The number of samples of a recording, and their root mean square."""
    num_samples, energy = 0, 0.0
    with open_audio(source, sampling_rate) as audio:
        for block in audio.blocks():
            num_samples += len(block)
            energy += float(np.square(block, dtype=np.float64).sum())
    return num_samples, (energy / num_samples) ** 0.5


def _embed_chunks(
    model: COLAModel, extractor: COLAFeatureExtractor, source: Any, num_windows: int, gain: float
) -> Iterator[np.ndarray]:
    extractor = copy.copy(extractor)
    extractor.do_normalize = False  # the gain is that of the whole recording
    step = WINDOWS_AT_ONCE * model.config.window_hop * extractor.hop_length
    size = step + extractor.num_samples(model.config.window_size - model.config.window_hop)
    waveform, missing = np.empty(0, np.float32), num_windows
    with open_audio(source, extractor.sampling_rate) as audio:
        blocks = audio.blocks()
        while missing > 0:
            parts = [waveform]
            while sum(map(len, parts)) < size and (block := next(blocks, None)) is not None:
                parts.append(block * np.float32(gain))
            waveform = np.concatenate(parts)
            (vectors,) = _encode(model, extractor, [waveform[:size]])
            yield vectors[: min(WINDOWS_AT_ONCE, missing)]
            waveform, missing = waveform[step:], missing - WINDOWS_AT_ONCE
