"""The files of events: a table of all recordings as CSV and Parquet, and a label track of each for Audacity."""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from run_scripts.common.files import write_text, written_whole
from run_scripts.detection.detector import Event


CSV, PARQUET = "events.csv", "events.parquet"
SCHEMA = pa.schema(
    {"file": pa.string(), "start": pa.float64(), "end": pa.float64(), "label": pa.string(), "score": pa.float64()}
)

# Events that wait in memory to be written together.
GROUP_ROWS = 2**14


class EventTables:
    """
    Writes the events of recordings, a row for each. Times are rounded to milliseconds.

    Args:
        csv_file (`TextIO`):
            The table as CSV.
        parquet (`pq.ParquetWriter`):
            The same as Parquet.
    """

    def __init__(self, csv_file: TextIO, parquet: pq.ParquetWriter):
        self._csv, self._parquet = csv.writer(csv_file), parquet
        self._csv.writerow(SCHEMA.names)
        self._rows: list[tuple[str, float, float, str, float]] = []

    def add(self, file: str, events: list[Event]) -> None:
        """Adds the events of a recording."""
        self._rows += [(file, round(e.start, 3), round(e.end, 3), e.label, round(e.score, 4)) for e in events]
        if len(self._rows) >= GROUP_ROWS:
            self.write_group()

    def write_group(self) -> None:
        """Writes the events that wait in memory."""
        if self._rows:
            self._csv.writerows(self._rows)
            self._parquet.write_table(pa.table([list(column) for column in zip(*self._rows)], SCHEMA))
        self._rows = []


@contextmanager
def event_tables(folder: Path) -> Iterator[EventTables]:
    """
    Writes `events.csv` and `events.parquet`, which take their names at the end of the block, and only if nothing
    failed in it.

    Raises:
        `OSError`: If they cannot be written.
    """
    with (
        written_whole(folder / CSV) as csv_path,
        written_whole(folder / PARQUET) as parquet_path,
        open(csv_path, "w", encoding="utf-8", newline="") as csv_file,
        pq.ParquetWriter(parquet_path, SCHEMA) as parquet,
    ):
        tables = EventTables(csv_file, parquet)
        yield tables
        tables.write_group()


def write_label_track(path: Path, events: list[Event]) -> None:
    """
    Writes a label track that Audacity imports (File, Import, Labels): a line for each event with its start and end in
    seconds and its label, separated by tabs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(f"{event.start:.6f}", f"{event.end:.6f}", re.sub(r"[\t\r\n]+", " ", event.label)) for event in events]
    write_text(path, "".join("\t".join(row) + "\n" for row in rows))
