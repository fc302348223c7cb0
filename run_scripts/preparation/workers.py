"""The worker processes that convert the parts of the source, and the process that watches them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import ForkContext
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from accelerate import PartialState
from datasets import Audio, Dataset, Features, IterableDataset
from tqdm.auto import tqdm

from feature_extraction import BAD_CLIP_KINDS, BadClipError, Clip, ClipReader
from feature_extraction.tables import SPLITS_BY_NAME
from run_scripts.common.errors import KilledWorkerError
from run_scripts.common.processes import name_share
from run_scripts.common.resume import Part, PartStore
from run_scripts.common.skipped import count_by_kind, format_counts
from run_scripts.common.source_arguments import SourceArguments
from run_scripts.preparation.arguments import SAMPLING_RATE, SUFFIXES, PreparationArguments
from run_scripts.preparation.shards import ShardWriter, encode


@dataclass
class Run:
    """
    A run, as all its processes know it: the source in Arrow's format, its audio column, the number of parts that it is
    divided into, each of which one worker converts, and all settings that must be the same when the run is resumed.
    """

    source: SourceArguments
    args: PreparationArguments
    dataset: Dataset | IterableDataset
    column: str
    num_parts: int
    settings: dict[str, Any]

    @property
    def output_dir(self) -> Path:
        return self.args.output_path

    @property
    def schema(self) -> pa.Schema:
        """The schema of the shards: that of the source, with the types of its columns as `datasets` notes them."""
        return Features(self.dataset.features | {self.column: Audio(sampling_rate=SAMPLING_RATE)}).arrow_schema

    def shard_name(self, part: int, shard: int) -> str:
        # `datasets` recognizes these splits by the names of files. Shards of any other are named as training data.
        split = self.source.dataset_split if self.source.dataset_split in SPLITS_BY_NAME else "train"
        return f"{split}-{part:05}-{shard:05}.parquet"

    def clip_name(self, path: str | None) -> str | None:
        """
        Returns the name of a clip in the shards. For a file, this is its path relative to the source's folder. No name
        leads out of the folder into which somebody may unpack the shards.
        """
        if path is None:
            return None
        relative = path.removeprefix(f"{Path(self.source.dataset_name).expanduser()}/")
        parts = [part for part in os.path.normpath(relative).split("/") if part not in ("", "..")]
        return f"{os.path.splitext('/'.join(parts))[0]}.{SUFFIXES[self.args.format]}"

    @property
    def parts(self) -> PartStore:
        return PartStore(self.output_dir)

    def load_parts(self) -> list[Part]:
        return [self.parts.load(number) for number in range(self.num_parts)]


class Counters:
    """
    The totals that the progress bar shows, shared by all processes: the number of `clips` that were read, the
    `seconds` that were written, and the number of skipped clips of each kind. They start from those of earlier runs.
    """

    def __init__(self, context: ForkContext, parts: Iterable[Part]):
        self._values = {name: context.Value("q", 0) for name in ("clips", *BAD_CLIP_KINDS)}
        self._values["seconds"] = context.Value("d", 0.0)
        for part in parts:
            self.add("clips", part.num_read)
            self.add("seconds", part.seconds)
            for kind, count in count_by_kind(part.skipped).items():
                self.add(kind, count)

    def add(self, name: str, amount: float) -> None:
        with self._values[name].get_lock():
            self._values[name].value += amount

    def __getitem__(self, name: str) -> float:
        return self._values[name].value


class WorkerState(NamedTuple):
    """What a worker process is given when it starts."""

    run: Run
    counters: Counters
    stop: Event


worker: WorkerState


def start_worker(run: Run, counters: Counters, stop: Event) -> None:
    """Initializes a worker process."""
    global worker
    worker = WorkerState(run, counters, stop)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    # A parent that is killed cannot stop its workers, which would keep running next to those of the resumed run.
    threading.Thread(target=end_with_parent, daemon=True).start()


def convert_part(number: int) -> None:
    """Converts the rows of a part that are left to do, in a worker process."""
    part = worker.run.parts.load(number)
    rows = worker.run.dataset.shard(num_shards=worker.run.num_parts, index=number)
    clips = ClipReader(rows, worker.run.column).clips(part.position)
    while not part.is_done:
        path = worker.run.output_dir / worker.run.shard_name(number, len(part.files))
        part.is_done = True
        with ShardWriter(path, worker.run.schema, worker.run.column) as writer:
            for clip in clips:
                if worker.stop.is_set():
                    return
                convert_clip(clip, writer, part, number)
                if writer.size >= worker.run.args.shard_size * 1e6:
                    part.is_done = False  # as far as is known: there may be no more clips for the next shard
                    break
            if writer.close():
                part.files.append(path.name)
        worker.run.parts.save(number, part)


def convert_clip(clip: Clip, writer: ShardWriter, part: Part, number: int) -> None:
    """Adds a clip to the shard, or to the list of those that were skipped."""
    run, counters = worker.run, worker.counters
    path = (clip.audio or {}).get("path")
    part.position = clip.end
    part.num_read += 1
    counters.add("clips", 1)
    try:
        pieces = encode(clip.audio, run.args)
    except BadClipError as error:
        note = clip.note(error)
        if path is None:
            note = note._replace(name=f"row {clip.position.row} of part {number + 1}/{run.num_parts}")
        part.skipped.append(note)
        counters.add(note.kind, note.num_clips)
        return
    for encoded, num_samples in pieces:
        writer.add(encoded, run.clip_name(path), clip.row.drop_columns(run.column))
        part.num_clips += 1
        part.seconds += num_samples / SAMPLING_RATE
        counters.add("seconds", num_samples / SAMPLING_RATE)


def convert_all(run: Run, numbers: Iterable[int], num_workers: int) -> None:
    """
    Converts what is left to do of the parts with these numbers, in at most `num_workers` processes.

    Raises:
        [`KilledWorkerError`]: If a worker was killed.
        `OSError`: If the disk is full, among others.
    """
    parts = {number: run.parts.load(number) for number in numbers}
    unfinished = [number for number, part in parts.items() if not part.is_done]
    if not unfinished:
        return
    # Forked workers start at once and inherit the source, which need not be picklable.
    context = multiprocessing.get_context("fork")
    counters = Counters(context, parts.values())
    stop = context.Event()
    pool = ProcessPoolExecutor(min(num_workers, len(unfinished)), context, start_worker, (run, counters, stop))
    try:
        watch(run, {pool.submit(convert_part, number) for number in unfinished}, counters, _count_clips(run, parts))
    except BrokenProcessPool as error:
        raise KilledWorkerError(
            "A worker was killed, perhaps because the memory was used up. Run the same command again with a smaller "
            "--num_workers: finished shards are kept."
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _count_clips(run: Run, numbers: Iterable[int]) -> int | None:
    """The number of clips in parts, which is not known of a stream."""
    if isinstance(run.dataset, IterableDataset):
        return None
    return sum(len(range(number, len(run.dataset), run.num_parts)) for number in numbers)


def watch(run: Run, pending: set[Future], counters: Counters, total: int | None) -> None:
    """
    Shows the progress until all parts are converted, and raises the first error of a worker. Where several processes
    share the work, the main one shows its own share.
    """
    with tqdm(
        total=total,
        initial=counters["clips"],
        desc=name_share("Preparing"),
        unit=" clips",
        disable=not PartialState().is_main_process,
    ) as bar:
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
            hours = counters["seconds"] / 3600
            skipped = format_counts({kind: counters[kind] for kind in BAD_CLIP_KINDS})
            bar.set_postfix_str(f"{hours:.2f} h, skipped: {skipped}", refresh=False)
            bar.update(counters["clips"] - bar.n)
            for future in done:
                future.result()
