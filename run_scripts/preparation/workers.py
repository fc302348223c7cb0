"""The worker processes that convert the parts of the source, and the process that watches them."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkContext
from multiprocessing.synchronize import Event
from typing import NamedTuple

import torch
from datasets import IterableDataset
from tqdm.auto import tqdm

from feature_extraction import BAD_CLIP_KINDS, BadClipError, Clip, ClipReader, Position
from run_scripts.common.skipped import count_by_kind, format_counts
from run_scripts.preparation.arguments import SAMPLING_RATE
from run_scripts.preparation.job import Job, Part
from run_scripts.preparation.shards import ShardWriter, encode


class Counters:
    """
    The totals that the progress bar shows, shared by all processes: `rows`, `samples`, and the number of skipped clips
    of each kind.

    Args:
        context (`ForkContext`):
            How processes are started.
        parts (`list[Part]`):
            The progress of earlier runs, from which the counters start.
    """

    def __init__(self, context: ForkContext, parts: list[Part]):
        self._values = {name: context.Value("q", 0) for name in ("rows", "samples", *BAD_CLIP_KINDS)}
        for part in parts:
            self.add("rows", part.rows)
            self.add("samples", part.samples)
            for kind, count in count_by_kind(part.skipped).items():
                self.add(kind, count)

    def add(self, name: str, amount: int) -> None:
        with self._values[name].get_lock():
            self._values[name].value += amount

    def __getitem__(self, name: str) -> int:
        return self._values[name].value


class WorkerState(NamedTuple):
    """What a worker process is given when it starts."""

    job: Job
    counters: Counters
    stop: Event


worker: WorkerState


def start_worker(job: Job, counters: Counters, stop: Event) -> None:
    """Initializes a worker process."""
    global worker
    worker = WorkerState(job, counters, stop)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    # A parent that is killed cannot stop its workers, which would keep running next to those of the resumed run.
    threading.Thread(target=end_with_parent, daemon=True).start()


def convert_part(number: int) -> None:
    """Converts the rows of a part that are left to do, in a worker process."""
    part = worker.job.load_part(number)
    rows = worker.job.dataset.shard(num_shards=worker.job.num_parts, index=number)
    clips = ClipReader(rows, worker.job.column).clips(Position(row=part.rows))
    while not part.is_done:
        path = worker.job.output_dir / worker.job.shard_name(number, len(part.shards))
        part.is_done = True
        with ShardWriter(path, worker.job.schema, worker.job.column) as writer:
            for clip in clips:
                if worker.stop.is_set():
                    return
                convert_clip(clip, writer, part, number)
                if writer.size >= worker.job.args.shard_size * 1e6:
                    part.is_done = False  # as far as is known: there may be no more clips for the next shard
                    break
            if writer.close():
                part.shards.append(path.name)
        worker.job.save_part(number, part)


def convert_clip(clip: Clip, writer: ShardWriter, part: Part, number: int) -> None:
    """Adds a clip to the shard, or to the list of those that were skipped."""
    job, counters = worker.job, worker.counters
    path = (clip.audio or {}).get("path")
    part.rows += 1
    counters.add("rows", 1)
    try:
        pieces = encode(clip.audio, job.args)
    except BadClipError as error:
        note = clip.note(error)
        if path is None:
            note = note._replace(name=f"row {clip.position.row} of part {number + 1}/{job.num_parts}")
        part.skipped.append(note)
        counters.add(note.kind, note.num_clips)
        return
    for encoded, num_samples in pieces:
        writer.add(encoded, job.clip_name(path), clip.row.drop_columns(job.column))
        part.clips += 1
        part.samples += num_samples
        counters.add("samples", num_samples)


def convert_all(job: Job, parts: list[Part], num_workers: int) -> None:
    """
    Converts what is left to do of all parts, in worker processes.

    Args:
        job (`Job`):
            The run.
        parts (`list[Part]`):
            The progress of earlier runs on each part.
        num_workers (`int`):
            The largest number of processes.

    Raises:
        `RuntimeError`: if a worker was killed.
        `OSError`: if the disk is full, among others.
    """
    # Forked workers start at once and inherit the source, which need not be picklable.
    context = multiprocessing.get_context("fork")
    counters = Counters(context, parts)
    stop = context.Event()
    unfinished = [number for number, part in enumerate(parts) if not part.is_done]
    pool = ProcessPoolExecutor(min(num_workers, len(unfinished)), context, start_worker, (job, counters, stop))
    try:
        watch(job, {pool.submit(convert_part, number) for number in unfinished}, counters)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A worker was killed, perhaps because the memory was used up. Run the same command again with a smaller "
            "--num_workers: finished shards are kept."
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def watch(job: Job, pending: set[Future], counters: Counters) -> None:
    """Shows the progress until all parts are converted, and raises the first error of a worker."""
    total = None if isinstance(job.dataset, IterableDataset) else len(job.dataset)
    with tqdm(total=total, initial=counters["rows"], desc="Preparing", unit=" clips") as bar:
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
            hours = counters["samples"] / SAMPLING_RATE / 3600
            skipped = format_counts({kind: counters[kind] for kind in BAD_CLIP_KINDS})
            bar.set_postfix_str(f"{hours:.2f} h, skipped: {skipped}", refresh=False)
            bar.update(counters["rows"] - bar.n)
            for future in done:
                future.result()
