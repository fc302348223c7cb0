"""The preparation from start to end."""

import json
import logging
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset

from run_scripts.common.errors import UserError
from run_scripts.common.files import make_output_dir, write_json
from run_scripts.common.lock import locked
from run_scripts.common.processes import count_local_processes
from run_scripts.common.resume import PROGRESS_DIR, check_settings
from run_scripts.common.skipped import count_by_kind, format_counts, nothing_usable, write_skipped
from run_scripts.common.source import check_files, hash_files, load_source
from run_scripts.common.source_arguments import SourceArguments
from run_scripts.preparation.arguments import PreparationArguments
from run_scripts.preparation.workers import Run, convert_all


logger = logging.getLogger(__name__)

SETTINGS = "settings.json"


def prepare(source: SourceArguments, args: PreparationArguments) -> dict[str, Any]:
    """
    Converts audio to Parquet shards of 16 kHz mono clips. A run that was stopped is resumed. The processes of a
    launcher, if there is one, share the work.

    Args:
        source (`SourceArguments`):
            Which audio to read.
        args (`PreparationArguments`):
            How to write it.

    Returns:
        `dict[str, Any]`: The report on this run and on those that it resumed, which is also written to `report.json`;
        nothing in other processes than the main one.

    Raises:
        `ValueError`: if the source or the output folder cannot be used, or if no clip could be.
        [`KilledWorkerError`]: if a worker was killed.
        `OSError`: if the output folder cannot be written to, or if the disk is full.
    """
    processes = PartialState()
    if processes.is_main_process:
        check_output_dir(source, args)
    with locked(args.output_path, processes.is_main_process):
        num_workers = args.num_workers or max(os.cpu_count() // count_local_processes(), 1)
        with processes.main_process_first():  # it decides how the source is divided
            run = load_run(source, args, num_workers * processes.num_processes)
        if processes.is_main_process:
            begin(run)
        processes.wait_for_everyone()
        try:
            convert_all(run, range(processes.process_index, run.num_parts, processes.num_processes), num_workers)
        finally:
            if processes.num_processes == 1:  # else the others may still be writing
                run.parts.remove_temporary_files()
        processes.wait_for_everyone()
        if not processes.is_main_process:
            return {}
        report = write_report(run)
    logger.info(
        f"Wrote {report['clips']} clips ({report['hours']:.2f} h) to {report['shards']} shards "
        f"({report['gigabytes']:.2f} GB) in {run.output_dir}. Skipped: {format_counts(report['skipped'])}."
    )
    return report


def begin(run: Run) -> None:
    """Says what earlier runs have done, and removes what they had begun to write when they were killed."""
    parts = run.load_parts()
    run.parts.remove_temporary_files()
    if all(part.is_done for part in parts):
        logger.info(f"The run in {run.output_dir} is finished: there is nothing to do.")
    elif num_shards := sum(len(part.files) for part in parts):
        logger.info(f"Resuming after {num_shards} shards with {sum(part.num_clips for part in parts)} clips.")


def check_output_dir(source: SourceArguments, args: PreparationArguments) -> None:
    """
    Makes the output folder, or checks that the existing one is that of an earlier run. It may neither lie in the
    source nor contain Parquet files that no earlier run wrote.
    """
    output_dir = args.output_path
    folder = Path(source.dataset_name).expanduser()
    if folder.is_dir() and output_dir.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--output_dir {output_dir} lies in --dataset_name {folder}: choose a folder outside of it.")
    make_output_dir(output_dir)
    if not (output_dir / PROGRESS_DIR / SETTINGS).exists() and any(output_dir.glob("*.parquet")):
        raise UserError(
            f"--output_dir {output_dir} contains Parquet files that no earlier run wrote: choose another folder."
        )


def load_run(source: SourceArguments, args: PreparationArguments, num_workers: int) -> Run:
    """
    Loads the source, and divides it into parts, as many as an earlier run did if there is one to resume, whatever the
    number of workers is now.

    Raises:
        `ValueError`: If the split or the column does not exist, if the source is empty, or if the settings differ from
            those of the run to resume. The message names the differences.
    """
    dataset, column = load_source(source)
    if dataset.features is None:
        raise UserError(f"The columns of {source.dataset_name} are unknown as a stream: run without --streaming.")
    settings = collect_settings(source, args, dataset, column)
    num_parts = count_parts(source, dataset, num_workers)
    path = args.output_path / PROGRESS_DIR / SETTINGS
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"settings": settings, "num_parts": num_parts})
    earlier = json.loads(path.read_text())
    check_files(args.output_path, earlier["settings"], settings)
    check_settings(args.output_path, earlier["settings"] | {"files": settings["files"]}, settings)
    # In Arrow's format no column is decoded, and all columns but the audio are written as they were read.
    return Run(source, args, dataset.with_format("arrow"), column, earlier["num_parts"], settings)


def collect_settings(
    source: SourceArguments, args: PreparationArguments, dataset: Dataset | IterableDataset, column: str
) -> dict[str, Any]:
    """Collects all that must be the same when a run is resumed."""
    settings = asdict(source)
    del settings["allow_remote_audio"]  # which decides whether rows are read, not what they become
    settings |= {"format": args.format, "shard_size": args.shard_size, "max_seconds": args.max_seconds}
    settings["audio_column"] = column
    folder = os.path.expanduser(source.dataset_name)
    if os.path.exists(folder):
        settings["dataset_name"] = os.path.realpath(folder)
    if isinstance(dataset, IterableDataset):
        settings["shards_of_the_source"] = dataset.num_shards
    else:
        settings["rows_of_the_source"] = len(dataset)
    settings["files"] = hash_files(source.dataset_name, {"": dataset}, column, exclude=args.output_path)
    return settings


def count_parts(source: SourceArguments, dataset: Dataset | IterableDataset, num_workers: int) -> int:
    """
    Decides into how many parts a new run divides the source: a stream into its shards, and rows into several parts for
    each worker, so that all workers finish at about the same time. A source without rows is a [`UserError`].
    """
    if isinstance(dataset, IterableDataset):
        if dataset.num_shards < num_workers:
            logger.warning(
                f"The stream has {dataset.num_shards} shards, so only {dataset.num_shards} of {num_workers} workers "
                "are used."
            )
        return dataset.num_shards
    if len(dataset) == 0:
        raise UserError(f"{source.dataset_name} has no rows in its split {source.dataset_split!r}.")
    return min(4 * num_workers, math.ceil(len(dataset) / 10))


def write_report(run: Run) -> dict[str, Any]:
    """
    Writes `skipped.tsv`, with kind, name and reason of each skipped clip, and `report.json`, which is returned. It is
    a [`UserError`] if no clip could be used.
    """
    parts = run.load_parts()
    skipped = [note for part in parts for note in part.skipped]
    write_skipped(run.output_dir, skipped)
    shards = [run.output_dir / name for part in parts for name in part.files]
    report = {
        "clips": sum(part.num_clips for part in parts),
        "hours": sum(part.seconds for part in parts) / 3600,
        "shards": len(shards),
        "gigabytes": sum(path.stat().st_size for path in shards) / 1e9,
        "skipped": dict(count_by_kind(skipped)),
        "settings": run.settings,
    }
    write_json(run.output_dir / "report.json", report)
    if report["clips"] == 0:
        raise nothing_usable(run.output_dir, skipped)
    return report
