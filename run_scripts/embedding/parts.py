"""What is in the folder of an embedding: its settings, and its parts, which are Parquet files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from run_scripts.common.errors import MissingFileError
from run_scripts.common.files import written_whole
from run_scripts.common.resume import PROGRESS_DIR, PartStore, is_whole
from run_scripts.embedding.arguments import CHECKPOINT


SETTINGS = "settings.json"
PARTS = "part-*.parquet"
# The key, in a part's metadata, of the number of the first clip of its sequence.
FIRST_CLIP = b"first_clip"

# Rows that wait in memory to be written together.
GROUP_ROWS = 1024


def find_parts(folder: Path) -> list[Path]:
    """Finds the parts in the folder of an embedding, in their order."""
    return sorted(folder.glob(PARTS))


def read_settings(folder: Path) -> dict[str, Any]:
    """
    Reads the settings with which the vectors in a folder were made. Without any, there are no vectors, which is a
    [`MissingFileError`].
    """
    path = folder / SETTINGS
    if not path.exists():
        raise MissingFileError(f"{folder} holds no vectors: pass --dataset_name to embed clips first.")
    settings = {"num_pieces": 1, "window_seconds": 0.96} | json.loads(path.read_text())
    return settings | {"model_name_or_path": settings["model_name_or_path"] or str(CHECKPOINT)}


def find_sequences(folder: Path) -> list[PartStore]:
    """The sequences of parts in a folder, one for each piece of the source, in its order."""
    num_pieces = read_settings(folder)["num_pieces"]
    return [PartStore(folder, piece if num_pieces > 1 else None) for piece in range(num_pieces)]


def is_complete(folder: Path) -> bool:
    """Whether all clips are embedded and all parts are there. Copies, which say nothing of their run, are complete."""
    if not (folder / PROGRESS_DIR).exists():
        return bool(find_parts(folder))
    return all(is_whole(store.load_sequence()) for store in find_sequences(folder))


def number_clips(path: Path, first_clip: int) -> None:
    """Numbers the clips in a part anew if they are not counted from `first_clip` on."""
    file = pq.ParquetFile(path)
    shift = first_clip - int((file.schema_arrow.metadata or {}).get(FIRST_CLIP, 0))
    if shift == 0:
        return
    schema = file.schema_arrow.with_metadata({FIRST_CLIP: str(first_clip)})
    with written_whole(path, path.stat().st_size) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for batch in file.iter_batches(GROUP_ROWS):
            numbers = pc.add(batch.column("clip"), shift)
            writer.write_batch(batch.set_column(schema.names.index("clip"), schema.field("clip"), numbers))


class PartWriter:
    """
    Writes a part, a row for each clip or, with `windows`, for each window. Its clips, and those of the parts before it
    in its sequence, are counted from `first_clip` on.
    """

    def __init__(self, path: Path, hidden_size: int, windows: bool, has_labels: bool, first_clip: int = 0):
        columns = {"clip": pa.int64(), "path": pa.string(), "seconds": pa.float64()}
        columns |= {"label": pa.string()} if has_labels else {}
        columns |= {"time": pa.float64()} if windows else {}
        columns |= {"vector": pa.list_(pa.float32(), hidden_size)}
        self.schema = pa.schema(columns, {FIRST_CLIP: str(first_clip)})
        self.num_rows = 0
        self._file = pq.ParquetWriter(path, self.schema)
        self._rows, self._vectors = [], []

    def add(
        self,
        number: int,
        path: str | None,
        label: str | None,
        seconds: float,
        vectors: np.ndarray,
        times: list[float | None],
    ) -> None:
        """
        Adds rows of the clip of this number: for each of the vectors `[N, hidden_size]` one, with the start of its
        window in seconds, if it is a window.
        """
        row = {"clip": number, "path": path, "seconds": seconds, "label": label}
        self._rows += [row | {"time": time} for time in times]
        self._vectors.append(vectors)
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        names = [name for name in self.schema.names if name != "vector"]
        columns = {name: [row[name] for row in self._rows] for name in names}
        values = pa.array(np.concatenate(self._vectors).ravel())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(values, type=self.schema.field("vector").type)
        self._file.write_table(pa.table(columns, self.schema))
        self.num_rows += len(self._rows)
        self._rows, self._vectors = [], []

    def close(self) -> None:
        """Completes the part."""
        if self._rows:
            self._write_group()
        self._file.close()
