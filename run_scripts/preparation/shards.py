"""Encoding clips, and writing them to Parquet files."""

import io
import math
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from feature_extraction import SILENCE, SilentAudioError, load_audio
from run_scripts.preparation.arguments import SAMPLING_RATE, SUFFIXES, PreparationArguments
from run_scripts.preparation.job import PROGRESS_DIR, Job


# The size of a row group, which readers hold in memory as a whole.
GROUP_ROWS = 100
GROUP_BYTES = 32 * 2**20


def encode(audio: dict[str, Any] | None, args: PreparationArguments) -> list[tuple[bytes, int]]:
    """
    Converts a recording to 16 kHz, mono, 16 bits.

    Args:
        audio (`dict[str, Any]`, *optional*):
            The encoded recording, with its `bytes` or its `path`.
        args (`PreparationArguments`):
            The format, and the duration above which the recording is cut into pieces.

    Returns:
        `list[tuple[bytes, int]]`: The encoded recording, or its pieces, each with its number of samples.

    Raises:
        [`BadClipError`]: if it cannot be used, because its file is missing or damaged, it is silent throughout, and so
            on.
    """
    samples = load_audio(audio, SAMPLING_RATE)
    if np.abs(samples).max() <= SILENCE:
        raise SilentAudioError("It is silent throughout.")
    # This is not left to soundfile, which scales samples differently for WAV than for FLAC.
    samples = np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    num_pieces = math.ceil(len(samples) / (args.max_seconds * SAMPLING_RATE)) if args.max_seconds else 1
    pieces = []
    for piece in np.array_split(samples, num_pieces):
        file = io.BytesIO()
        soundfile.write(file, piece, SAMPLING_RATE, format=SUFFIXES[args.format], subtype="PCM_16")
        pieces.append((file.getvalue(), len(piece)))
    return pieces


class ShardWriter:
    """
    Writes clips, with the other columns of their rows, to a Parquet file. The file takes its name only when it is
    complete. Without clips no file is written.

    Args:
        job (`Job`):
            The run that the shard belongs to.
        name (`str`):
            The file name of the shard.
    """

    def __init__(self, job: Job, name: str):
        self.job = job
        self.path = job.output_dir / name
        self.temporary = job.output_dir / PROGRESS_DIR / f"{name}.{os.getpid()}.tmp"
        self.size = 0
        self._file = None
        self._clips, self._others, self._group_size = [], [], 0

    def add(self, encoded: bytes, path: str | None, others: pa.Table) -> None:
        """
        Adds a clip.

        Args:
            encoded (`bytes`):
                The encoded clip.
            path (`str`, *optional*):
                Its name in the shard.
            others (`pa.Table`):
                One row with the other columns.
        """
        self._clips.append({"bytes": encoded, "path": path})
        self._others.append(others)
        self._group_size += len(encoded)
        self.size += len(encoded)
        if len(self._clips) == GROUP_ROWS or self._group_size >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._file is None:
            self._file = open(self.temporary, "wb")
            # Encoded audio cannot be compressed any further.
            self._parquet = pq.ParquetWriter(self._file, self.job.schema, compression="none", use_dictionary=False)
        others = pa.concat_tables(self._others)
        columns = {name: others[name] for name in others.column_names} | {self.job.column: self._clips}
        self._parquet.write_table(pa.Table.from_pydict(columns, self.job.schema))
        self._clips, self._others, self._group_size = [], [], 0

    def close(self) -> bool:
        """Completes the file, and returns whether there is one."""
        if self._clips:
            self._write_group()
        if self._file is None:
            return False
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.temporary, self.path)
        return True
