"""Encoding clips, and writing them to Parquet files."""

import io
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from feature_extraction import SILENCE, SilentAudioError, load_audio
from run_scripts.common.files import written_whole
from run_scripts.preparation.arguments import SAMPLING_RATE, SUFFIXES, PreparationArguments


# The size of a row group, which readers hold in memory as a whole.
GROUP_ROWS = 100
GROUP_BYTES = 32 * 2**20


def encode(audio: dict[str, Any] | None, args: PreparationArguments) -> list[tuple[bytes, int]]:
    """
    Converts an encoded recording, with its `bytes` or its `path`, to 16 kHz, mono, 16 bits.

    Returns:
        `list[tuple[bytes, int]]`: The encoded recording, or its pieces of at most `args.max_seconds`, each with its
        number of samples.

    Raises:
        [`BadClipError`]: If it cannot be used, because its file is missing or damaged, it is silent throughout, and so
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
    Writes clips, with the other columns of their rows, to a Parquet file of this schema and column of audio, whole or
    not at all. Use it as a context manager. Without clips no file is written.
    """

    def __init__(self, path: Path, schema: pa.Schema, column: str):
        self.path, self.schema, self.column = path, schema, column
        self.size = 0
        self._parquet = None
        self._stack = ExitStack()
        self._clips, self._others, self._group_size = [], [], 0

    def add(self, encoded: bytes, path: str | None, others: pa.Table) -> None:
        """Adds an encoded clip, its name in the shard, and one row with the other columns."""
        self._clips.append({"bytes": encoded, "path": path})
        self._others.append(others)
        self._group_size += len(encoded)
        self.size += len(encoded)
        if len(self._clips) == GROUP_ROWS or self._group_size >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._parquet is None:
            temporary = self._stack.enter_context(written_whole(self.path))
            # Encoded audio cannot be compressed any further.
            self._parquet = self._stack.enter_context(
                pq.ParquetWriter(temporary, self.schema, compression="none", use_dictionary=False)
            )
        others = pa.concat_tables(self._others)
        columns = {name: others[name] for name in others.column_names} | {self.column: self._clips}
        self._parquet.write_table(pa.Table.from_pydict(columns, self.schema))
        self._clips, self._others, self._group_size = [], [], 0

    def close(self) -> bool:
        """Completes the file, and returns whether there is one."""
        if self._clips:
            self._write_group()
        self._stack.close()
        return self._parquet is not None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        # A file that was not completed, since the run is stopped, is removed as after an error.
        self._stack.__exit__(kind or GeneratorExit, error or GeneratorExit(), traceback)
