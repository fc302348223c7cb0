"""From audio to vectors: many clips in batches, and recordings of any length in bounded memory."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm

from feature_extraction import (
    BadClipError,
    COLAFeatureExtractor,
    find_audio_column,
    load_audio,
    open_audio,
    undecoded,
)
from modeling_cola import COLAModel
from run_scripts.embedding.embedders import Embedder, encoder_embedder


Item = TypeVar("Item")
Key = TypeVar("Key")

# How many decoded clips, and how many of their samples, are in memory at a time: 17 minutes at 16 kHz, or 67 MB. They
# are embedded in batches of similar length, which have as many samples after padding at most.
CLIPS_AT_ONCE = 128
SAMPLES_AT_ONCE = 2**24
CLIPS_IN_BATCH = 32
# How many windows of a longer recording are encoded at a time: with the model's defaults, four minutes of audio.
WINDOWS_AT_ONCE = 256


def batch_by_samples(
    items: Iterable[Item],
    num_samples: Callable[[Item], int],
    max_items: int,
    padded: bool = True,
) -> Iterator[list[Item]]:
    """
    Groups items into batches, in their order, of at most `max_items` items and `SAMPLES_AT_ONCE` samples, so that one
    long recording does not exhaust the memory. An item that is longer than a batch may be is a batch of its own. Items
    are consumed one by one.

    With `padded`, all items of a batch count as much as its longest one, to which they are padded.
    """
    batch, total, longest = [], 0, 0
    for item in items:
        length = num_samples(item)
        total, longest = total + length, max(longest, length)
        size = longest * (len(batch) + 1) if padded else total
        if batch and (size > SAMPLES_AT_ONCE or len(batch) == max_items):
            yield batch
            batch, total, longest = [], length, length
        batch.append(item)
    if batch:
        yield batch


def embed_in_batches(embed: Embedder, clips: Iterable[tuple[Key, Any]]) -> Iterator[tuple[Key, Any]]:
    """
    Embeds a stream of waveforms, in batches of similar length. This is the loop by which all scripts embed clips; the
    memory does not depend on how many there are.

    Args:
        embed (`Embedder`):
            The embedder.
        clips (`Iterable`):
            Pairs of a key, which may be anything, and the clip's mono waveform at the rate of the embedder. What is
            not an array, such as the error of a clip that cannot be decoded, is passed on.

    Returns:
        `Iterator`: For each clip, in their order, its key and what the embedder returns for it.
    """
    for group in batch_by_samples(clips, _count_samples, CLIPS_AT_ONCE, padded=False):
        waveforms = [(number, content) for number, (_, content) in enumerate(group) if isinstance(content, np.ndarray)]
        vectors = {}
        for batch in batch_by_samples(sorted(waveforms, key=_count_samples), _count_samples, CLIPS_IN_BATCH):
            vectors |= zip((number for number, _ in batch), embed([waveform for _, waveform in batch]))
        for number, (key, content) in enumerate(group):
            yield key, vectors.get(number, content)


def _count_samples(clip: tuple[Any, Any]) -> int:
    return len(clip[1]) if isinstance(clip[1], np.ndarray) else 0


def embed_split(
    embedders: dict[str, Embedder], dataset: Dataset, name: str, sampling_rate: int = 16000
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """
    Embeds all clips of a data set, which has one column of audio, by several embedders, each of which returns a vector
    for a clip. Each clip is decoded only once. The progress bar has the name of the task.

    Returns:
        `tuple[dict[str, np.ndarray], dict[str, float]]`: For each embedder its vectors `[N, D]`, and the seconds that
        it took, decoding not included.
    """
    seconds = dict.fromkeys(embedders, 0.0)

    def embed_by_each(waveforms: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        vectors = []
        for method, embed in embedders.items():
            started = time.perf_counter()
            vectors.append(embed(waveforms))
            seconds[method] += time.perf_counter() - started
        return list(zip(*vectors))

    column = find_audio_column(dataset)
    rows = undecoded(dataset.select_columns([column]), column)
    rows = tqdm(rows, desc=f"{name}: embedding", unit="clip", leave=False)
    clips = enumerate(load_audio(row[column], sampling_rate) for row in rows)
    vectors = zip(*(vectors for _, vectors in embed_in_batches(embed_by_each, clips)))
    return {method: np.stack(clip_vectors) for method, clip_vectors in zip(embedders, vectors)}, seconds


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
            Pairs of a key, which may be anything, and the clip's audio, as [`load_audio`] takes it. In place of the
            audio there may be a [`BadClipError`], which is returned.

    Returns:
        `Iterator`: For each clip, in their order, its key and the [`EmbeddedClip`], or the [`BadClipError`] that says
        why it cannot be used. Take the `chunks` of a clip before you ask for the next one.
    """
    embed = encoder_embedder(model, extractor, windows=True)
    decoded = (_decode(key, audio, extractor.sampling_rate) for key, audio in clips)
    for (key, num_samples), content in embed_in_batches(embed, decoded):
        if isinstance(content, _LongRecording):
            content = _embed_long(model, extractor, content.source)
        elif not isinstance(content, BadClipError):
            content = EmbeddedClip(num_samples / extractor.sampling_rate, len(content), iter([content]))
        yield key, content


class _LongRecording(NamedTuple):
    """A recording that is too long to be decoded at once."""

    source: Any


def _decode(
    key: Key, source: Any, sampling_rate: int
) -> tuple[tuple[Key, int], np.ndarray | _LongRecording | BadClipError]:
    """Returns the key of a clip with its number of samples, and its waveform or what takes the place of it."""
    if isinstance(source, BadClipError):
        return (key, 0), source
    try:
        with open_audio(source, sampling_rate) as audio:
            if audio.num_samples > SAMPLES_AT_ONCE:
                return (key, audio.num_samples), _LongRecording(source)
            waveform = audio.read()
            return (key, len(waveform)), waveform
    except BadClipError as error:
        return (key, 0), error


def _embed_long(model: COLAModel, extractor: COLAFeatureExtractor, source: Any) -> EmbeddedClip | BadClipError:
    """Embeds a recording that is decoded twice, block after block: for its level, and for its windows."""
    try:
        num_samples, rms = _measure(source, extractor.sampling_rate)
    except BadClipError as error:
        return error
    # As in the model, all windows count of which at least half lies in the recording.
    config, frames = model.config, extractor.num_frames(num_samples)
    num_windows = 1 + (frames - (config.window_size + 1) // 2) // config.window_hop
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
    embed = encoder_embedder(model, extractor, windows=True)
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
            (vectors,) = embed([waveform[:size]])
            yield vectors[: min(WINDOWS_AT_ONCE, missing)]
            waveform, missing = waveform[step:], missing - WINDOWS_AT_ONCE
