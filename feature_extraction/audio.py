"""Decoding of audio to a mono waveform: soundfile decodes, and torchaudio resamples."""

import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, BinaryIO

import fsspec
import numpy as np
import soundfile
import torch
import torchaudio


# The endings of the files that soundfile decodes.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")

# The smallest step of 16-bit audio. Audio that has no sample above it is silent.
SILENCE = 2**-15

# Encoders that write to a pipe leave the length out of the FLAC header. libsndfile then reports a length above this
# one and cannot seek in the file.
UNKNOWN_LENGTH = 2**62


class AudioDecodingError(ValueError):
    """
    Raised when audio cannot be decoded.

    Args:
        message (`str`):
            Which audio it is and what is wrong with it.
        kind (`str`, *optional*, defaults to `"damaged"`):
            `"empty"` for audio without samples, `"damaged"` for anything else that soundfile cannot decode, including
            files of other formats.
    """

    def __init__(self, message: str, kind: str = "damaged"):
        super().__init__(message)
        self.kind = kind


class SilentAudioError(ValueError):
    """Raised when audio has no sample above [`SILENCE`]."""

    kind = "silent"


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
        [`AudioDecodingError`]: if the recording has no samples.
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
        """Reads `count` samples of shape `(count, channels)` at the recording's own rate."""
        if isinstance(self._samples, np.ndarray):
            samples = self._samples[start : start + count]
            return samples if samples.dtype == np.float32 else samples.astype(np.float32) * np.float32(2**-15)
        is_mp3 = "MP3" in self._samples.format or "MPEG" in self._samples.subtype
        # libsndfile's MP3 decoder prints errors when it seeks to a place between frames: decode MP3 from its start.
        samples = self._decode(0, start + count)[start:] if is_mp3 else self._decode(start, count)
        # The length of an MP3 is an estimate. The last page of an Ogg file may end some milliseconds before the length
        # that its header gives.
        is_short = len(samples) < count - self._own_rate // 10 and not is_mp3
        if len(samples) == 0 or is_short:
            raise AudioDecodingError(
                f"{self.name} is truncated: its header says that it has {self._own_length} samples, but only "
                f"{len(samples)} of the {count} samples from sample {start} on could be decoded."
            )
        return samples

    def _decode(self, start: int, count: int) -> np.ndarray:
        try:
            self._samples.seek(start)
            return self._samples.read(count, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioDecodingError(f"{self.name} is damaged: {error}") from error


@lru_cache(maxsize=32)
def _resampler(own_rate: int, sampling_rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(own_rate, sampling_rate)


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
        [`AudioDecodingError`]: if the source is empty or not audio.
        `FileNotFoundError`: if there is no file at the path.
        `TypeError`: if the source is of another type.
    """
    name, content = _identify(source)
    in_memory = _samples_in_memory(content)
    if in_memory is not None:
        samples, own_rate = in_memory
        yield AudioFile(samples, own_rate, sampling_rate, name)
    else:
        with _open_file(content) as file, _open_decoder(file, name) as decoder:
            yield AudioFile(decoder, decoder.samplerate, sampling_rate, name)


def _identify(source: Any) -> tuple[str, Any]:
    """
    Finds out what a source is.

    Returns:
        What error messages call the source, and what is to be opened: a dictionary with an `array`, a decoder of
        torchcodec, a path, bytes, or a file object.
    """
    # An `AudioDecoder` of `datasets` keeps the file of which it was made, so that not all of it need be decoded.
    if isinstance(getattr(source, "_hf_encoded", None), dict):
        source = source._hf_encoded
    if isinstance(source, dict) and "array" in source:
        return "the array", source
    if hasattr(source, "get_all_samples"):
        return "the decoded audio", source

    name = None
    if isinstance(source, dict):
        name = source.get("path")
        source = name if source.get("bytes") is None else source["bytes"]
    if source is None:
        raise AudioDecodingError("There is no audio: the source has neither bytes nor a path.", kind="empty")
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return path, path
    if isinstance(source, (bytes, bytearray, memoryview)):
        return name or "the audio", source
    if hasattr(source, "read"):
        return name or getattr(source, "name", None) or "the audio", source
    raise TypeError(f"Audio must be a path, bytes, a file object or a dictionary, not {type(source).__name__}.")


def _samples_in_memory(content: Any) -> tuple[np.ndarray, int] | None:
    """
    Returns the samples of shape `(num_samples, channels)` and their sampling rate, if soundfile is not needed for
    them, or `None`.
    """
    if isinstance(content, dict):
        array = np.asarray(content["array"])
        scale = -float(np.iinfo(array.dtype).min) if array.dtype.kind == "i" else 1.0
        return np.atleast_2d(array.astype(np.float32) / scale).T, content["sampling_rate"]
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _plain_pcm(content)
    if hasattr(content, "get_all_samples"):
        decoded = content.get_all_samples()
        return decoded.data.numpy().T, decoded.sample_rate
    return None


def _plain_pcm(data: bytes | bytearray | memoryview) -> tuple[np.ndarray, int] | None:
    """
    Returns the samples of a 16-bit WAV file, which are not copied, and their sampling rate.

    This is only for files that have the plainest header, of 44 bytes, and the length which that gives. For anything
    else it returns `None`, and soundfile must decode it.
    """
    if len(data) <= 44:
        return None
    riff, _, kind, size, tag, channels, rate, _, _, bits, mark, length = struct.unpack_from("<4sI8sIHHIIHH4sI", data)
    if (riff, kind, size, tag, bits, mark) != (b"RIFF", b"WAVEfmt ", 16, 1, 16, b"data") or channels == 0 or rate == 0:
        return None
    if length > len(data) - 44 or length % (2 * channels):
        return None
    return np.frombuffer(data, "<i2", length // 2, 44).reshape(-1, channels), rate


def _open_file(content: str | bytes | BinaryIO) -> AbstractContextManager[BinaryIO]:
    if isinstance(content, str):
        return fsspec.open(content, "rb") if "://" in content else open(content, "rb")
    if isinstance(content, (bytes, bytearray, memoryview)):
        return io.BytesIO(content)
    return nullcontext(content)  # the caller's file object, which stays open


@contextmanager
def _open_decoder(file: BinaryIO, name: str) -> Iterator[soundfile.SoundFile]:
    if file.seek(0, os.SEEK_END) == 0:
        raise AudioDecodingError(f"{name} is empty: it has 0 bytes.", kind="empty")
    file.seek(0)
    try:
        decoder = soundfile.SoundFile(file)
    except (soundfile.SoundFileError, TypeError) as error:
        raise AudioDecodingError(f"{name} is not audio that soundfile can decode: {error}") from error
    with decoder:
        if decoder.frames >= UNKNOWN_LENGTH:
            raise AudioDecodingError(f"The header of {name} does not say how long it is: encode it again, to a file.")
        yield decoder


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
        [`AudioDecodingError`]: if the source is empty, damaged or not audio.
        `FileNotFoundError`: if there is no file at the path.
        `ValueError`: if `start` is negative or not before the end of the audio.

    Example:

    ```python
    >>> from feature_extraction import load_audio

    >>> waveform = load_audio("dog.mp3", duration=10.0)
    ```
    """
    with open_audio(source, sampling_rate) as audio:
        first = round(start * sampling_rate)
        if not 0 <= first < audio.num_samples:
            seconds = audio.num_samples / sampling_rate
            raise ValueError(f"`start` is {start} s, but must lie within {audio.name}, which is {seconds:.2f} s long.")
        return audio.read(first, None if duration is None else round(duration * sampling_rate))
