"""The parts of an embedding: Parquet files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from run_scripts.common.resume import PROGRESS_DIR, PartStore


PARTS = "part-*.parquet"

# Rows that wait in memory to be written together.
GROUP_ROWS = 1024


def find_parts(folder: Path) -> list[Path]:
    """Finds the parts in the folder of an embedding, in their order."""
    return sorted(folder.glob(PARTS))


def is_complete(folder: Path) -> bool:
    """Whether all clips are embedded and all parts are there. Copies, which say nothing of their run, are complete."""
    if not (folder / PROGRESS_DIR).exists():
        return bool(find_parts(folder))
    parts = PartStore(folder).load_sequence()
    return bool(parts) and parts[-1].is_done


class PartWriter:
    """Writes a part, a row for each clip or, with `windows`, for each window."""

    def __init__(self, path: Path, hidden_size: int, windows: bool, has_labels: bool):
        columns = {"clip": pa.int64(), "path": pa.string(), "seconds": pa.float64()}
        columns |= {"label": pa.string()} if has_labels else {}
        columns |= {"time": pa.float64()} if windows else {}
        self.schema = pa.schema(columns | {"vector": pa.list_(pa.float32(), hidden_size)})
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
