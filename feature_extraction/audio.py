"""Decoding of audio to a mono waveform: soundfile decodes, or ffmpeg where it cannot, and soxr resamples."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from .audio_source import (
    clip_errors,
    identify,
    length_by_header,
    open_decoder,
    open_file,
    samples_in_memory,
)
from .errors import AudioDecodingError, DataError
from .ffmpeg import FFMPEG_SUFFIXES, has_ffmpeg


# The endings of the files that soundfile decodes.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")

# The smallest step of 16-bit audio. Audio that has no sample above it is silent.
SILENCE = 2**-15

# How many samples per channel are decoded at once, 5.5 s at 48 kHz. Of a long recording there is never more in memory
# than this and its mono waveform.
BLOCK = 2**18

# Encodings that libsndfile decodes only as a whole.
ADPCM = ("G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32")
UNSEEKABLE = ("GSM610", "DPCM_8", "DPCM_16", *ADPCM)

# How many samples after a seek are not those of the recording, at most.
VORBIS_OVERLAP = 4096

# How far the filter of the resampler reaches to both sides, in samples at the lower of the two rates. What lies beyond
# 100 moves the waveform by less than rounding does.
FILTER_REACH = 128

# Audio below this sampling rate, in hertz, has a damaged header, and would become thousands of times as long.
LOWEST_RATE = 100


def decodable_suffixes() -> tuple[str, ...]:
    """The endings of the files that can be decoded, which are more where ffmpeg is installed."""
    return AUDIO_SUFFIXES + FFMPEG_SUFFIXES * has_ffmpeg()


class AudioFile:
    """
    An opened recording, any part of which can be read as mono float32 at `sampling_rate`. Its length at that rate is
    `num_samples`.

    Args:
        samples (`soundfile.SoundFile` or `np.ndarray` of shape `(num_samples, channels)`):
            The recording at its own sampling rate. An array is of type float32, or int16, which is scaled.
        own_rate (`int`):
            Sampling rate of the recording, in hertz.
        sampling_rate (`int`):
            Sampling rate at which it is read, in hertz.
        name (`str`):
            What error messages call the recording.

    Raises:
        [`AudioDecodingError`]: if the recording has no samples, or no plausible sampling rate.
    """

    def __init__(self, samples: soundfile.SoundFile | np.ndarray, own_rate: int, sampling_rate: int, name: str):
        self._samples = samples
        self._own_rate = own_rate
        self._own_length = len(samples) if isinstance(samples, np.ndarray) else length_by_header(samples)
        self.sampling_rate = sampling_rate
        self.name = name
        if self._own_length == 0:
            raise AudioDecodingError(f"{name} holds no samples.", kind="empty")
        if own_rate < LOWEST_RATE:
            raise AudioDecodingError(f"{name} is damaged: its sampling rate is {own_rate} Hz.")
        self.num_samples = math.ceil(self._own_length * sampling_rate / own_rate)

    def read(self, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """
        Reads a part of the recording. Only this part is decoded where the format allows it.

        Args:
            start (`int`, *optional*, defaults to 0):
                First sample to read, counted at `sampling_rate`.
            num_samples (`int`, *optional*):
                How many samples to read at most; fewer are returned where the recording ends. Defaults to all the
                samples from `start` on.

        Returns:
            `np.ndarray` of shape `(num_samples,)`, of type float32.

        Raises:
            [`BadClipError`]: if the audio is damaged, cannot be read, is shorter than its header says, or has samples
                that are not finite.
        """
        count = self.num_samples - start if num_samples is None else min(num_samples, self.num_samples - start)
        first, last = start, start + count
        if self._own_rate != self.sampling_rate:
            # With what the filter reads on both sides, the samples of a part are those of the whole. The part begins
            # where a sample of the recording and one of the waveform coincide. If the rates share no factor, this is
            # once a second.
            margin = math.ceil(FILTER_REACH * max(self.sampling_rate / self._own_rate, 1))
            first, last = max(first - margin, 0), min(last + margin, self.num_samples)
            first -= first % (self.sampling_rate // math.gcd(self._own_rate, self.sampling_rate))
        own_first = first * self._own_rate // self.sampling_rate
        own_last = min(math.ceil(last * self._own_rate / self.sampling_rate), self._own_length)
        with clip_errors(self.name):
            blocks = self._mono_blocks(own_first, own_last - own_first)
            if self._own_rate != self.sampling_rate:
                blocks = _resample(blocks, self._own_rate, self.sampling_rate)
            # Not `np.concatenate`, which would hold a long recording twice.
            samples, filled = np.empty(start - first + count, dtype=np.float32), 0
            for block in blocks:
                block = block[: len(samples) - filled]
                samples[filled : filled + len(block)] = block
                filled += len(block)
            samples = samples[start - first : filled]
            if len(samples) == 0:
                raise AudioDecodingError(f"{self.name} is truncated: nothing could be decoded from {start} on.")
        return samples

    def blocks(self) -> Iterator[np.ndarray]:
        """
        Reads the whole recording as mono float32 at `sampling_rate`, block after block, so that its length does not
        matter for the memory.

        Raises:
            [`BadClipError`]: as [`AudioFile.read`] does.
        """
        with clip_errors(self.name):
            blocks, left = self._mono_blocks(0, self._own_length), self.num_samples
            if self._own_rate != self.sampling_rate:
                blocks = _resample(blocks, self._own_rate, self.sampling_rate)
            for block in blocks:
                yield block[:left]
                left -= min(len(block), left)

    def _mono_blocks(self, start: int, count: int) -> Iterator[np.ndarray]:
        """Reads `count` samples at the recording's own rate, block after block, as mono float32."""
        in_memory = isinstance(self._samples, np.ndarray)
        for block in self._slice_blocks(start, count) if in_memory else self._decode_blocks(start, count):
            if block.dtype == np.int16:
                block = block.astype(np.float32) * np.float32(2**-15)
            if block.shape[1] == 1:
                block = block[:, 0]
            else:
                block = sum(block.T) / np.float32(block.shape[1])  # `block.mean(axis=1)` takes 30 times as long
            if not np.isfinite(block).all():
                raise AudioDecodingError(
                    f"{self.name} has samples that are infinite or not a number.", kind="not finite"
                )
            yield block

    def _slice_blocks(self, start: int, count: int) -> Iterator[np.ndarray]:
        for first in range(start, start + count, BLOCK):
            yield self._samples[first : min(first + BLOCK, start + count)]

    def _decode_blocks(self, start: int, count: int) -> Iterator[np.ndarray]:
        is_mp3 = "MP3" in self._samples.format or "MPEG" in self._samples.subtype
        # libsndfile's MP3 decoder prints errors when it seeks to a place between frames, so MP3 is decoded from its
        # start. Its Vorbis decoder mixes the first samples after a seek with those that it decoded before.
        dropped = start if is_mp3 else min(VORBIS_OVERLAP, start) if self._samples.subtype == "VORBIS" else 0
        self._samples.seek(start - dropped)
        for _ in self._decode_from_here(dropped):
            pass
        num_read = 0
        for block in self._decode_from_here(count):
            num_read += len(block)
            yield block
        # The length of an MP3 is an estimate. The last page of an Ogg file may end some milliseconds before the length
        # that its header gives.
        is_short = num_read < count - self._own_rate // 10 and not is_mp3
        if num_read == 0 or is_short:
            raise AudioDecodingError(
                f"{self.name} is truncated: its header says that it has {self._own_length} samples, but only "
                f"{num_read} of the {count} samples from sample {start} on could be decoded."
            )

    def _decode_from_here(self, count: int) -> Iterator[np.ndarray]:
        """Decodes the next `count` samples, or as many as there are."""
        while count > 0:
            block = self._samples.read(min(count, BLOCK), dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            count -= len(block)
            yield block


def _resample(blocks: Iterable[np.ndarray], own_rate: int, sampling_rate: int) -> Iterator[np.ndarray]:
    """Resamples a waveform block after block. The blocks together have at least as many samples as they should."""
    resampler = soxr.ResampleStream(own_rate, sampling_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    # soxr rounds the length to the nearest sample, so zeros are added for a last one.
    yield resampler.resample_chunk(np.zeros(own_rate // sampling_rate + 1, np.float32), last=True)


@contextmanager
def open_audio(
    source: str | os.PathLike | bytes | BinaryIO | dict[str, Any], sampling_rate: int = 16000
) -> Iterator[AudioFile]:
    """
    Opens audio as an [`AudioFile`], without decoding it.

    Args:
        source (`str`, `os.PathLike`, `bytes`, file object or `dict`):
            A path or fsspec URL; the bytes of a file; a file object, which the caller closes; an `AudioDecoder` of
            `datasets`; or a dictionary as `datasets` gives it, `{"bytes", "path"}` or `{"array", "sampling_rate"}`.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate at which the audio is read, in hertz.

    Raises:
        [`BadClipError`]: if the audio cannot be used. It is an [`AudioDecodingError`] if the source is empty, not
            audio or cannot be read, and a [`MissingAudioError`], which is a `FileNotFoundError` too, if there is no
            file at the path.
        `TypeError`: if the source is of another type.
        `ValueError`: if `sampling_rate` is not positive, or a decoded array is of another shape than `(num_samples,)`
            or `(channels, num_samples)`.
    """
    if sampling_rate < 1:
        raise DataError(f"`sampling_rate` must be a number of hertz, at least 1, got {sampling_rate}.")
    name, content = identify(source)
    with ExitStack() as stack:
        with clip_errors(name):
            in_memory = samples_in_memory(content, name)
            if in_memory is None:
                file = stack.enter_context(open_file(content))
                decoder = stack.enter_context(open_decoder(file, name))
                samples = decoder
                if decoder.subtype in UNSEEKABLE:
                    samples = decoder.read(decoder.frames, dtype="float32", always_2d=True)
                in_memory = samples, decoder.samplerate
            audio = AudioFile(*in_memory, sampling_rate, name)
        yield audio


def load_audio(
    source: str | os.PathLike | bytes | BinaryIO | dict[str, Any],
    sampling_rate: int = 16000,
    start: float = 0.0,
    duration: float | None = None,
) -> np.ndarray:
    """
    Decodes audio, or a part of it, to a mono waveform.

    Args:
        source (`str`, `os.PathLike`, `bytes`, file object or `dict`):
            Anything that [`open_audio`] takes.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the waveform, in hertz.
        start (`float`, *optional*, defaults to 0.0):
            Where to begin, in seconds.
        duration (`float`, *optional*):
            How much to decode at most, in seconds. Defaults to everything from `start` on.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, of type float32.

    Raises:
        [`BadClipError`]: if the audio cannot be used, as [`open_audio`] and [`AudioFile.read`] say.
        `ValueError`: if `start` is negative or not before the end of the audio, if `duration` is less than a sample,
            or if `sampling_rate` is not positive.

    Example:

    ```python
    >>> from feature_extraction import load_audio

    >>> waveform = load_audio("dog.mp3", duration=10.0)
    ```
    """
    if duration is not None and round(duration * sampling_rate) < 1:
        raise DataError(f"`duration` must be at least a sample, got {duration} s at {sampling_rate} Hz.")
    with open_audio(source, sampling_rate) as audio:
        first = round(start * sampling_rate)
        if not 0 <= first < audio.num_samples:
            seconds = audio.num_samples / sampling_rate
            raise DataError(f"`start` is {start} s, but must lie within {audio.name}, which is {seconds:.2f} s long.")
        return audio.read(first, None if duration is None else round(duration * sampling_rate))
