"""The preparation from start to end."""

import logging
import os
from pathlib import Path
from typing import Any

from run_scripts.common.errors import UserError
from run_scripts.common.files import write_json
from run_scripts.common.lock import locked
from run_scripts.common.skipped import SKIPPED, count_by_kind, format_counts, write_notes
from run_scripts.common.source_arguments import SourceArguments
from run_scripts.preparation.arguments import SAMPLING_RATE, PreparationArguments
from run_scripts.preparation.job import Job, create_output_dir, load_job
from run_scripts.preparation.workers import convert_all


logger = logging.getLogger(__name__)


def prepare(source: SourceArguments, args: PreparationArguments) -> dict[str, Any]:
    """
    Converts audio to Parquet shards of 16 kHz mono clips. A run that was stopped is resumed.

    Args:
        source (`SourceArguments`):
            Which audio to read.
        args (`PreparationArguments`):
            How to write it.

    Returns:
        `dict[str, Any]`: The report on this run and on those that it resumed, which is also written to `report.json`.

    Raises:
        `ValueError`: if the source or the output folder cannot be used, or if no clip could be.
        `RuntimeError`: if a worker was killed.
        `OSError`: if the output folder cannot be written to, or if the disk is full.
    """
    create_output_dir(source, args)
    with locked(Path(args.output_dir).expanduser()):
        return prepare_shards(source, args)


def prepare_shards(source: SourceArguments, args: PreparationArguments) -> dict[str, Any]:
    """Does what [`prepare`] does, in an output folder that is there and that no other run writes to."""
    num_workers = args.num_workers or os.cpu_count()
    job = load_job(source, args, num_workers)
    job.remove_temporary_files()
    try:
        convert_rest(job, num_workers)
        report = write_report(job)
    finally:
        job.remove_temporary_files()
    if report["clips"] == 0:
        raise UserError(f"No clip could be used: {job.output_dir / SKIPPED} lists the reasons.")
    logger.info(
        f"Wrote {report['clips']} clips ({report['hours']:.2f} h) to {report['shards']} shards "
        f"({report['gigabytes']:.2f} GB) in {job.output_dir}. Skipped: {format_counts(report['skipped'])}."
    )
    return report


def convert_rest(job: Job, num_workers: int) -> None:
    """Converts what earlier runs have left to do."""
    parts = job.load_parts()
    if all(part.is_done for part in parts):
        logger.info(f"The run in {job.output_dir} is finished: there is nothing to do.")
        return
    if num_shards := sum(len(part.shards) for part in parts):
        logger.info(f"Resuming after {num_shards} shards with {sum(part.clips for part in parts)} clips.")
    convert_all(job, parts, num_workers)


def write_report(job: Job) -> dict[str, Any]:
    """Writes `skipped.tsv`, with kind, name and reason of each skipped clip, and `report.json`, which is returned."""
    parts = job.load_parts()
    skipped = [note for part in parts for note in part.skipped]
    write_notes(job.output_dir / SKIPPED, skipped)
    shards = [job.output_dir / name for part in parts for name in part.shards]
    report = {
        "clips": sum(part.clips for part in parts),
        "hours": sum(part.samples for part in parts) / SAMPLING_RATE / 3600,
        "shards": len(shards),
        "gigabytes": sum(path.stat().st_size for path in shards) / 1e9,
        "skipped": dict(count_by_kind(skipped)),
        "settings": job.settings,
    }
    write_json(job.output_dir / "report.json", report)
    return report
