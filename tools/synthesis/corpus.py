"""
A small labelled corpus of synthetic audio, made from a seed: none of it was recorded.

Every clip imitates one recording: a sound of its family, with an instrument, a register and a tempo of its own, is
placed in a room of its own, with background noise, a microphone and a level. Rooms and microphones colour all families
alike.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.random import Generator
from scipy.signal import fftconvolve
from tqdm import tqdm

from run_scripts.common.files import written_whole
from tools.synthesis.blocks import SAMPLING_RATE, burst, coloured_noise, log_uniform, slow_curve
from tools.synthesis.families import CLIP_DURATION, FAMILIES


# The stages of a recording. Each takes a sound of shape `(num_samples,)` and returns one of the same shape.


def add_room(rng: Generator, sound: np.ndarray) -> np.ndarray:
    """Adds the reverberation of a room: decaying noise serves as its impulse response."""
    echoes = burst(rng, SAMPLING_RATE, log_uniform(rng, 0.15, 1.2), rng.uniform(0.0, 1.5))
    echoes *= log_uniform(rng, 0.05, 1.0) / np.sqrt(np.sum(echoes**2))
    echoes[0] += 1.0
    return fftconvolve(sound, echoes)[: len(sound)]


def add_background(rng: Generator, sound: np.ndarray) -> np.ndarray:
    """Adds background noise of a random colour, which fluctuates a little and is 0 to 25 dB below the sound."""
    noise = coloured_noise(rng, len(sound), rng.uniform(-0.5, 2.0))
    noise *= np.exp(rng.uniform(0.0, 0.5) * slow_curve(rng, len(sound), 2.0))
    snr = rng.uniform(0.0, 25.0)
    return sound + noise * 10 ** (-snr / 20) * np.sqrt(np.mean(sound**2) / np.mean(noise**2))


def add_microphone(rng: Generator, sound: np.ndarray) -> np.ndarray:
    """Filters the sound as a microphone does: with a tilt, a few broad peaks and dips, and a limited band."""
    frequencies = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLING_RATE), 20.0)
    octaves = np.log2(frequencies / 1000)
    decibels = rng.uniform(-3, 3) * octaves
    for _ in range(4):
        decibels += rng.uniform(-8, 8) * np.exp(-(((octaves - rng.uniform(-4, 3)) / rng.uniform(0.3, 1.0)) ** 2))
    low, high = log_uniform(rng, 40, 300), log_uniform(rng, 3000, 8000)
    decibels -= 10 * np.log10(1 + (low / frequencies) ** 4) + 10 * np.log10(1 + (frequencies / high) ** 8)
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (decibels / 20), len(sound))


def synthesize_clip(family: str, index: int, seed: int = 0, duration: float = CLIP_DURATION) -> np.ndarray:
    """
    Synthesizes one clip. It depends on nothing but the arguments.

    Args:
        family (`str`):
            The name of a family, a key of `FAMILIES`.
        index (`int`):
            The number of the clip within its family.
        seed (`int`, *optional*, defaults to 0):
            The seed of the corpus.
        duration (`float`, *optional*, defaults to 5.0):
            Duration in seconds, at least 1. Shorter clips might miss all of the sound.

    Returns:
        `np.ndarray` of shape `(duration * SAMPLING_RATE,)`: A float32 waveform with a peak between 0.05 and 0.95.

    Raises:
        `ValueError`: if there is no such family, or if the duration is too short.
    """
    if family not in FAMILIES:
        raise ValueError(f"`family` must be one of {', '.join(FAMILIES)}, got {family!r}.")
    if duration < 1:
        raise ValueError(f"`duration` must be at least 1 second, got {duration}.")
    rng = np.random.default_rng([seed, list(FAMILIES).index(family), index])
    sound = FAMILIES[family](rng, round(duration * SAMPLING_RATE))
    for add in (add_room, add_background, add_microphone):
        sound = add(rng, sound)
    return (sound / np.abs(sound).max() * log_uniform(rng, 0.05, 0.95)).astype(np.float32)


class CorpusClip(NamedTuple):
    """A clip of the corpus, and where it is written."""

    family: str
    index: int
    path: Path


def write_clip(clip: CorpusClip, seed: int) -> None:
    """Synthesizes a clip and writes it as 16-bit FLAC."""
    waveform = synthesize_clip(clip.family, clip.index, seed=seed)
    # A stopped run must leave no truncated clip for the next one to keep.
    with written_whole(clip.path) as temporary:
        soundfile.write(temporary, waveform, SAMPLING_RATE, format="FLAC", subtype="PCM_16")


def write_corpus(
    folder: str | Path, clips_per_family: int = 60, seed: int = 0, num_processes: int | None = None
) -> None:
    """
    Writes the corpus as `folder/<family>/<family>_<index>.flac`. Files that already exist are kept, so use a separate
    folder for each seed.

    Args:
        folder (`str` or `Path`):
            Where to write the corpus. It is created if it does not exist.
        clips_per_family (`int`, *optional*, defaults to 60):
            Number of clips of each family.
        seed (`int`, *optional*, defaults to 0):
            The seed of the corpus.
        num_processes (`int`, *optional*):
            Number of worker processes. Defaults to the number of CPU cores. It does not change the clips.

    Raises:
        `ValueError`: if a number is not positive.
    """
    if clips_per_family <= 0:
        raise ValueError(f"`clips_per_family` must be positive, got {clips_per_family}.")
    if num_processes is not None and num_processes <= 0:
        raise ValueError(f"`num_processes` must be positive, got {num_processes}.")
    folder = Path(folder)
    clips = [
        CorpusClip(family, index, folder / family / f"{family}_{index:04d}.flac")
        for family in FAMILIES
        for index in range(clips_per_family)
    ]
    for family in FAMILIES:
        (folder / family).mkdir(parents=True, exist_ok=True)
    missing = [clip for clip in clips if not clip.path.exists()]
    progress = partial(tqdm, total=len(clips), initial=len(clips) - len(missing), desc="Synthesizing", unit="clip")
    write = partial(write_clip, seed=seed)
    if num_processes == 1 or not missing:
        list(progress(map(write, missing)))
        return
    # Threads that the parent may have started, such as PyTorch's, do not survive a fork, so workers are spawned.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(progress(pool.map(write, missing, chunksize=8)))
