"""Opening of everything that holds audio: paths, URLs, bytes, file objects, arrays and rows of `datasets`."""

import errno
import io
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from numbers import Real
from typing import Any, BinaryIO

import fsspec
import numpy as np
import soundfile

from .errors import AudioDecodingError, BadClipError, DataError, MissingAudioError
from .feature_extraction_cola import MOST_CHANNELS
from .ffmpeg import FFMPEG_SUFFIXES, convert
from .lost_clips import raise_if_lost


# Encoders that write to a pipe leave the length out of the FLAC header. libsndfile then reports a length above this
# one and cannot seek in the file.
UNKNOWN_LENGTH = 2**62

# Where libsndfile's log says that a file is shorter than its header does: by the samples or, for W64 and RF64, as a
# whole. Programs that write to a pipe put a size above the last of these into the header.
CUT_OFF = r"^ *(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)"
UNKNOWN_SIZE = 2**31 - 2**16

# The operating system's errors that are not the fault of the file that is opened.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@contextmanager
def clip_errors(name: str) -> Iterator[None]:
    """
    Turns whatever is raised because of the audio that is opened or decoded into a [`BadClipError`].

    Args:
        name (`str`):
            What the message calls the audio.
    """
    try:
        yield
    except BadClipError:
        raise
    except soundfile.SoundFileError as error:
        raise AudioDecodingError(f"{name} is damaged: {error}") from error
    except FileNotFoundError as error:
        raise MissingAudioError(f"No such file: {name}.") from error
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise AudioDecodingError(f"{name} cannot be read: {error.strerror or error}.", kind="unreadable") from error
    except Exception as error:
        if "://" not in name:
            raise
        # Each file system raises errors of its own, fsspec a `ValueError` or an `ImportError` if it lacks one.
        raise AudioDecodingError(f"{name} cannot be read: {error}", kind="unreadable") from error


def identify(source: Any) -> tuple[str, Any]:
    """
    Finds out what a source is.

    Returns:
        What error messages call the source, and what is to be opened: a dictionary with an `array` or, as in
        pipelines, `raw`, a decoder of torchcodec, a path, bytes, or a file object.

    Raises:
        [`BadClipError`]: if there is no audio, or the source stands for lost clips.
        `TypeError`: if it is of another type.
    """
    # An `AudioDecoder` of `datasets` keeps the file of which it was made, so that not all of it need be decoded.
    if isinstance(getattr(source, "_hf_encoded", None), dict):
        source = source._hf_encoded
    if isinstance(source, dict) and ("array" in source or "raw" in source):
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
        raise_if_lost(source)
        return name or "the audio", source
    if hasattr(source, "read"):
        return name or getattr(source, "name", None) or "the audio", source
    raise TypeError(f"Audio must be a path, bytes, a file object or a dictionary, not {type(source).__name__}.")


def samples_in_memory(content: Any, name: str) -> tuple[np.ndarray, int] | None:
    """
    Returns the samples of shape `(num_samples, channels)` and their sampling rate, if soundfile is not needed for
    them, or `None`.
    """
    if isinstance(content, dict):
        array, rate = content.get("array", content.get("raw")), content.get("sampling_rate")
        if not (isinstance(rate, Real) and rate > 0):
            raise DataError(f"Decoded audio needs its `sampling_rate` in hertz beside the samples, got {rate!r}.")
        return _scaled(np.asarray(array)), rate
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _plain_pcm(content)
    if hasattr(content, "get_all_samples"):
        try:
            decoded = content.get_all_samples()
        except RuntimeError as error:  # which is all that torchcodec raises
            raise AudioDecodingError(f"{name} is damaged: {error}") from error
        return decoded.data.numpy().T, decoded.sample_rate
    return None


def _scaled(array: np.ndarray) -> np.ndarray:
    """
    Returns samples of shape `(num_samples,)` or `(channels, num_samples)`, as numbers between -1 and 1 or as integers
    of any size, as float32 of shape `(num_samples, channels)`.

    Raises:
        `ValueError`: if they are of another shape or type.
    """
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise DataError(
            "Decoded audio must be an array of numbers of shape (num_samples,) or (channels, num_samples), got one of "
            f"shape {array.shape} and type {array.dtype}."
        )
    if array.ndim == 2 and array.shape[0] > max(array.shape[1], MOST_CHANNELS):
        raise DataError(
            f"Decoded audio must be of shape (channels, num_samples), got {array.shape}: transpose it if its first "
            "dimension is time."
        )
    samples = np.atleast_2d(array).T.astype(np.float32)
    if array.dtype.kind == "f":
        return samples
    half = 2.0 ** (8 * array.dtype.itemsize - 1)  # unsigned samples lie around it, as those of 8-bit WAV do
    return (samples - (half if array.dtype.kind == "u" else 0)) / np.float32(half)


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


def open_file(content: str | bytes | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """Opens a path, a URL, bytes or a file object, which stays open, for reading."""
    if isinstance(content, str):
        return fsspec.open(content, "rb") if "://" in content else _open_path(content)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return io.BytesIO(content)
    return nullcontext(content)


def _open_path(path: str) -> BinaryIO:
    if "\0" in path:
        raise FileNotFoundError(path)  # no file system has such a name, for which `open` would raise a ValueError
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return open(file_system_name(path), "rb")


def storable_name(path: str | os.PathLike) -> str:
    r"""
    Returns the name of a file as Unicode text, which Arrow can store. Bytes of the name that are not UTF-8 are written
    as `\xe9`; [`open_audio`] opens such names.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_system_name(path: str) -> str | bytes:
    """Returns the name by which the file system knows a file, of which [`storable_name`] may have made the path."""
    original = re.sub(rb"\\x([89a-f][0-9a-f])", lambda match: bytes.fromhex(match[1].decode()), os.fsencode(path))
    return original if not os.path.exists(path) and os.path.exists(original) else path


def length_by_header(decoder: soundfile.SoundFile) -> int:
    """
    Returns the length that the header of a file says, in samples. For formats that do not compress, libsndfile takes
    the length that the file has instead, so that a file which was cut off would pass as whole.
    """
    for claimed, actual in re.findall(CUT_OFF, decoder.extra_info, re.MULTILINE):
        if int(actual) < int(claimed) < UNKNOWN_SIZE and decoder.frames > 0:
            bytes_per_sample = int(actual) / decoder.frames
            # What a sample takes of PCM is a whole number, but for the bytes of the header.
            bytes_per_sample = round(bytes_per_sample) or bytes_per_sample
            return decoder.frames + math.ceil((int(claimed) - int(actual)) / bytes_per_sample)
    return decoder.frames


class BlockReader(soundfile.SoundFile):
    """
    A file of which soundfile reads one block after another.

    After each read of a file that is seekable, soundfile seeks to the place where it is already. libsndfile's MP3
    decoder does not find this place again, and the other decoders start anew.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def open_decoder(file: BinaryIO, name: str) -> Iterator[soundfile.SoundFile]:
    """
    Opens a file of audio for decoding.

    Raises:
        [`AudioDecodingError`]: if the file is empty or not audio, or does not say how long it is.
    """
    if file.seek(0, os.SEEK_END) == 0:
        raise AudioDecodingError(f"{name} is empty: it has 0 bytes.", kind="empty")
    file.seek(0)
    with ExitStack() as stack:
        try:
            decoder = BlockReader(file)
        except (soundfile.SoundFileError, TypeError) as error:
            if not name.lower().endswith(FFMPEG_SUFFIXES):
                raise AudioDecodingError(f"{name} is not audio that soundfile can decode: {error}") from error
            decoder = BlockReader(stack.enter_context(convert(file, name)))
        stack.enter_context(decoder)
        if decoder.frames >= UNKNOWN_LENGTH:
            raise AudioDecodingError(f"The header of {name} does not say how long it is: encode it again, to a file.")
        yield decoder
