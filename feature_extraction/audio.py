"""From encoded audio to a mono waveform, decoded by soundfile and resampled by torchaudio."""

import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any, BinaryIO

import fsspec
import numpy as np
import soundfile
import torch
import torchaudio


# What soundfile decodes, by the ending of a file's name.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")

# A step of 16 bits: what is not louder is silent.
SILENCE = 2**-15

# Encoders that write to a pipe leave the length out of a FLAC header; libsndfile gives an absurd one and cannot seek.
UNKNOWN_LENGTH = 2**62


class AudioDecodingError(ValueError):
    """
    The audio cannot be decoded.

    Args:
        message (`str`):
            What is wrong with which audio.
        kind (`str`, *optional*, defaults to `"damaged"`):
            `"empty"`, or `"damaged"`, which includes any format that soundfile does not read.
    """

    def __init__(self, message: str, kind: str = "damaged"):
        super().__init__(message)
        self.kind = kind


class SilentAudioError(ValueError):
    """The audio has no sample above [`SILENCE`]."""

    kind = "silent"


class AudioFile:
    """
    An opened recording, of which any part can be read: `num_samples` long, mono, float32, at `sampling_rate`.

    Args:
        samples (`soundfile.SoundFile` or `np.ndarray` of shape `(num_samples, channels)`):
            The recording at its own rate.
        own_rate (`int`):
            That rate, in hertz.
        sampling_rate (`int`):
            The rate to read at, in hertz.
        name (`str`):
            What errors call it.
    """

    def __init__(self, samples: soundfile.SoundFile | np.ndarray, own_rate: int, sampling_rate: int, name: str):
        self._samples = samples
        self._own_rate = own_rate
        self._own_length = len(samples) if isinstance(samples, np.ndarray) else samples.frames
        self.sampling_rate = sampling_rate
        self.name = name
        if self._own_length == 0:
            raise AudioDecodingError(f"{name} holds no samples.", kind="empty")
        self.num_samples = math.ceil(self._own_length * sampling_rate / own_rate)

    def read(self, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """
        Args:
            start (`int`, *optional*, defaults to 0):
                First sample, at `sampling_rate`.
            num_samples (`int`, *optional*):
                How many at the most; fewer come back where the recording ends. Defaults to all the rest.

        Returns:
            `np.ndarray` of shape `(num_samples,)`, float32.

        Raises:
            [`AudioDecodingError`]: if the audio is damaged, or shorter than its header says.
        """
        own_start = start * self._own_rate // self.sampling_rate
        own_count = self._own_length - own_start
        if num_samples is not None:
            own_count = min(own_count, math.ceil(num_samples * self._own_rate / self.sampling_rate))
        samples = self._read_own(own_start, own_count)
        samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
        if self._own_rate != self.sampling_rate:
            samples = _resampler(self._own_rate, self.sampling_rate)(torch.from_numpy(samples)).numpy()
        return samples[:num_samples]

    def _read_own(self, start: int, count: int) -> np.ndarray:
        """`[count, channels]` at the recording's own rate."""
        if isinstance(self._samples, np.ndarray):
            samples = self._samples[start : start + count]
            return samples if samples.dtype == np.float32 else samples.astype(np.float32) * np.float32(2**-15)
        # libsndfile's MP3 decoder prints errors when it lands between frames, so MP3 is decoded from its start.
        # The length of an MP3 is an estimate, too.
        is_mp3 = "MP3" in self._samples.format or "MPEG" in self._samples.subtype
        try:
            self._samples.seek(0 if is_mp3 else start)
            samples = self._samples.read(start + count if is_mp3 else count, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioDecodingError(f"{self.name} is damaged: {error}") from error
        if is_mp3:
            samples = samples[start:]
        # Ogg's last page may end some milliseconds before the length that its header gives.
        if len(samples) == 0 or (len(samples) < count - self._own_rate // 10 and not is_mp3):
            raise AudioDecodingError(
                f"{self.name} is truncated: its header says {self._own_length} samples, but of the {count} from "
                f"{start} on only {len(samples)} could be decoded."
            )
        return samples


@lru_cache(maxsize=32)
def _resampler(own_rate: int, sampling_rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(own_rate, sampling_rate)


def _plain_pcm(data: bytes | bytearray | memoryview) -> tuple[np.ndarray, int] | None:
    """
    The samples `[num_samples, channels]` of a WAV file of 16 bits, in place, and its rate. Of anything but the 44
    bytes of the plainest header, and a length that agrees with it, nothing: that is for soundfile.
    """
    if len(data) <= 44:
        return None
    riff, _, kind, size, tag, channels, rate, _, _, bits, mark, length = struct.unpack_from("<4sI8sIHHIIHH4sI", data)
    if (riff, kind, size, tag, bits, mark) != (b"RIFF", b"WAVEfmt ", 16, 1, 16, b"data") or channels == 0 or rate == 0:
        return None
    if length > len(data) - 44 or length % (2 * channels):
        return None
    return np.frombuffer(data, "<i2", length // 2, 44).reshape(-1, channels), rate


@contextmanager
def open_audio(
    source: str | os.PathLike | bytes | BinaryIO | dict[str, Any], sampling_rate: int = 16000
) -> Iterator[AudioFile]:
    """
    Opens audio without decoding it, as an [`AudioFile`].

    Args:
        source:
            A path (or an fsspec URL), the bytes of a file, a file object, `datasets`' `AudioDecoder`, or a
            dictionary from `datasets`: `{"bytes", "path"}`, or `{"array", "sampling_rate"}`.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The rate at which it will be read, in hertz.

    Raises:
        [`AudioDecodingError`]: if it is empty or not audio; the message names it.
        `FileNotFoundError`: if there is no such file.
        `TypeError`: if the source is none of these.
    """
    name = None
    if isinstance(getattr(source, "_hf_encoded", None), dict):  # an AudioDecoder that knows its file
        source = source._hf_encoded
    if isinstance(source, dict) and "array" in source:
        array = np.asarray(source["array"])
        scale = -float(np.iinfo(array.dtype).min) if array.dtype.kind == "i" else 1.0
        samples = np.atleast_2d(array.astype(np.float32) / scale).T
        yield AudioFile(samples, source["sampling_rate"], sampling_rate, "the array")
        return
    if hasattr(source, "get_all_samples"):  # another decoder of torchcodec
        decoded = source.get_all_samples()
        yield AudioFile(decoded.data.numpy().T, decoded.sample_rate, sampling_rate, "the decoded audio")
        return
    if isinstance(source, dict):
        name = source.get("path")
        source = source["bytes"] if source.get("bytes") is not None else name
    if source is None:
        raise AudioDecodingError("There is no audio: it has neither bytes nor a path.", kind="empty")

    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        opened = fsspec.open(name, "rb") if "://" in name else open(name, "rb")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        opened = io.BytesIO(source)
    elif hasattr(source, "read"):
        opened = nullcontext(source)  # the caller's, who closes it
    else:
        raise TypeError(f"Audio is a path, bytes, a file object or a dictionary, not {type(source).__name__}.")
    name = name or getattr(source, "name", None) or "the audio"
    if isinstance(source, (bytes, bytearray, memoryview)) and (pcm := _plain_pcm(source)) is not None:
        yield AudioFile(*pcm, sampling_rate, name)
        return
    with opened as file:
        if file.seek(0, os.SEEK_END) == 0:
            raise AudioDecodingError(f"{name} is empty: it has 0 bytes.", kind="empty")
        file.seek(0)
        try:
            decoder = soundfile.SoundFile(file)
        except (soundfile.SoundFileError, TypeError) as error:
            raise AudioDecodingError(f"{name} is not audio that soundfile can decode: {error}") from error
        with decoder:
            if decoder.frames >= UNKNOWN_LENGTH:
                raise AudioDecodingError(
                    f"The header of {name} does not say how long it is: encode it anew to a file."
                )
            yield AudioFile(decoder, decoder.samplerate, sampling_rate, name)


def load_audio(
    source: str | os.PathLike | bytes | BinaryIO | dict[str, Any],
    sampling_rate: int = 16000,
    start: float = 0.0,
    duration: float | None = None,
) -> np.ndarray:
    """
    Decodes audio, or a part of it, to mono float32 at `sampling_rate`.

    Args:
        source:
            Anything that [`open_audio`] takes.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The rate of the result, in hertz.
        start (`float`, *optional*, defaults to 0.0):
            Where to begin, in seconds.
        duration (`float`, *optional*):
            How much to decode at the most, in seconds. Defaults to all the rest.

    Returns:
        `np.ndarray` of shape `(num_samples,)`.

    Raises:
        [`AudioDecodingError`]: if the source is empty, damaged or not audio.
        `FileNotFoundError`: if there is no such file.
        `ValueError`: if `start` is beyond its end.

    Example:

    ```python
    >>> from feature_extraction import load_audio

    >>> waveform = load_audio("dog.mp3", duration=10.0)
    ```"""
    with open_audio(source, sampling_rate) as audio:
        first = round(start * sampling_rate)
        if not 0 <= first < audio.num_samples:
            seconds = audio.num_samples / sampling_rate
            raise ValueError(f"`start` is {start} s, but {audio.name} is {seconds:.2f} s long.")
        return audio.read(first, None if duration is None else round(duration * sampling_rate))
