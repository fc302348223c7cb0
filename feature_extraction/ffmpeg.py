"""Formats that soundfile does not decode, such as m4a: the program ffmpeg converts them where it is installed."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import AudioDecodingError


# The endings of audio, and of videos with sound, that soundfile cannot decode.
FFMPEG_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".3gp", ".amr", ".ape", ".wv", ".tta", ".mpc"),
    *(".ac3", ".dts", ".ra", ".spx", ".dsf"),
)

# Formats that could make ffmpeg open other files, such as playlists, are not among these.
FORMATS = "aac,ac3,amr,ape,asf,dsf,dts,eac3,matroska,mov,mpc,mpc8,ogg,rm,tta,wv"


def has_ffmpeg() -> bool:
    """Whether the program ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


@contextmanager
def convert(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """
    Converts a file to 16-bit PCM, which lies in the folder for temporary files as long as the block lasts.

    Args:
        file (`BinaryIO`):
            The file, which is read from its start.
        name (`str`):
            What error messages call it.

    Raises:
        [`AudioDecodingError`]: if ffmpeg is not installed, or cannot decode the file.
    """
    if not has_ffmpeg():
        raise AudioDecodingError(
            f"{name} is of a format that soundfile does not decode. Install the program ffmpeg, for example by "
            "`apt-get install ffmpeg`, or convert the file, for example to .flac."
        )
    with tempfile.TemporaryDirectory() as folder:
        source, converted = Path(folder, "source"), Path(folder, "converted.w64")
        with open(source, "wb") as copy:  # some formats can only be read from a file
            file.seek(0)
            shutil.copyfileobj(file, copy)
        command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", FORMATS]
        command += ["-i", str(source), "-vn", "-c:a", "pcm_s16le", str(converted)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            raise AudioDecodingError(f"{name} cannot be decoded by ffmpeg: {' '.join(done.stderr.split())}")
        with open(converted, "rb") as decoded:
            yield decoded
