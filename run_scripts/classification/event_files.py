"""The files of events: a table of all recordings as CSV and Parquet, and a label track of each for Audacity."""

import csv
import os
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from run_scripts.classification.detector import Event
from run_scripts.common.files import report_full_disk, write_text


CSV, PARQUET = TABLES = ("events.csv", "events.parquet")
SCHEMA = pa.schema(
    {"file": pa.string(), "start": pa.float64(), "end": pa.float64(), "label": pa.string(), "score": pa.float64()}
)

# Events that wait in memory to be written together.
GROUP_ROWS = 2**14


class EventTables:
    """
    Writes the events of all recordings to `events.csv` and `events.parquet`. The files take their names at the end of
    a `with` block, and only if nothing failed in it. Times are rounded to milliseconds.

    Args:
        folder (`Path`):
            The folder, which exists.
    """

    def __init__(self, folder: Path):
        self.paths = [folder / name for name in TABLES]
        self.temporary = [folder / f".{name}.tmp" for name in TABLES]
        self._rows: list[tuple] = []

    def __enter__(self) -> "EventTables":
        csv_path, parquet_path = self.temporary
        self._files = ExitStack()
        self._csv = csv.writer(self._files.enter_context(open(csv_path, "w", encoding="utf-8", newline="")))
        self._csv.writerow(SCHEMA.names)
        self._parquet = self._files.enter_context(pq.ParquetWriter(parquet_path, SCHEMA))
        return self

    def add(self, file: str, events: list[Event]) -> None:
        """Adds the events of a recording."""
        self._rows += [(file, round(e.start, 3), round(e.end, 3), e.label, round(e.score, 4)) for e in events]
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        with report_full_disk(self.paths[0], 256 * len(self._rows)):
            self._csv.writerows(self._rows)
            columns = [list(column) for column in zip(*self._rows)]
            self._parquet.write_table(pa.table(columns, SCHEMA))
        self._rows = []

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._rows:
                self._write_group()
            with report_full_disk(self.paths[0], 2**16):
                self._files.close()
            if kind is None:
                for temporary, path in zip(self.temporary, self.paths):
                    os.replace(temporary, path)
        finally:
            for temporary in self.temporary:
                temporary.unlink(missing_ok=True)


def write_label_track(path: Path, events: list[Event]) -> None:
    """
    Writes a label track that Audacity imports (File, Import, Labels): a line for each event with its start and end in
    seconds and its label, separated by tabs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(f"{event.start:.6f}", f"{event.end:.6f}", re.sub(r"[\t\r\n]+", " ", event.label)) for event in events]
    write_text(path, "".join("\t".join(row) + "\n" for row in rows))
