"""The parts of an embedding, each a Parquet file that says how far the run had come when it was complete."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_extraction import ClipNote, Position


PARTS = "part-*.parquet"
METADATA = b"cola"

# Rows that wait in memory to be written together.
GROUP_ROWS = 1024


@dataclass
class Progress:
    """
    How far a run has come at the end of a part.

    Args:
        position (`Position`, *optional*, defaults to the start):
            Where to go on.
        num_clips (`int`, *optional*, defaults to 0):
            How many clips there are before, those that were skipped included.
        seconds (`float`, *optional*, defaults to 0.0):
            Seconds of audio in all parts up to this one.
        skipped (`list[ClipNote]`, *optional*):
            Clips of this part that could not be used.
        is_done (`bool`, *optional*, defaults to `False`):
            Whether this is the last part.
    """

    position: Position = Position()
    num_clips: int = 0
    seconds: float = 0.0
    skipped: list[ClipNote] = field(default_factory=list)
    is_done: bool = False


def find_parts(folder: Path) -> list[Path]:
    """Finds the parts in the folder of an embedding, in their order."""
    return sorted(folder.glob(PARTS))


def read_progress(part: Path) -> Progress:
    """Reads how far the run had come at the end of a part."""
    stored = json.loads(pq.read_metadata(part).metadata[METADATA])
    position, skipped = Position(*stored.pop("position")), [ClipNote(*note) for note in stored.pop("skipped")]
    return Progress(position=position, skipped=skipped, **stored)


def write_progress(file: pq.ParquetWriter, progress: Progress) -> None:
    """Writes how far the run had come to a part that is not closed yet."""
    file.add_key_value_metadata({METADATA.decode(): json.dumps(asdict(progress))})


class PartWriter:
    """
    Writes a part.

    Args:
        path (`Path`):
            The file.
        hidden_size (`int`):
            The length of a vector.
        windows (`bool`):
            Whether a row is a window, rather than a clip.
        has_labels (`bool`):
            Whether clips have labels.
    """

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
        Adds rows of a clip.

        Args:
            number (`int`):
                The number of the clip.
            path (`str`, *optional*), label (`str`, *optional*):
                Its path and its label.
            seconds (`float`):
                Its length.
            vectors (`np.ndarray` of shape `(N, hidden_size)`), times (`list[float | None]`):
                The vector of each row and, if it is a window, its start in seconds.
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

    def close(self, progress: Progress) -> None:
        """Completes the part."""
        if self._rows:
            self._write_group()
        write_progress(self._file, progress)
        self._file.close()
