"""
Decodes any audio once and for all, to shards of 16 kHz mono from which pre-training reads segments fast.

    python run_scripts/prepare_audio.py --dataset_name path/to/audio --output_dir prepared
    python run_scripts/run_pretraining.py --dataset_name prepared --streaming --output_dir cola-mine

`--dataset_name` is a folder of audio files, a folder or glob of Parquet or of WebDataset's tars, or a data set on the
Hub. The shards are Parquet, with the other columns as they were. A run that was stopped goes on with the same command.
What cannot be used is listed in `skipped.tsv` (kind, name, reason); `report.json` has the sums.
"""

import errno
import io
import json
import logging
import math
import multiprocessing
import os
import signal
import tempfile
import threading
from collections import Counter
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from datasets import Audio, Dataset, Features, IterableDataset
from tqdm.auto import tqdm
from transformers import HfArgumentParser

from feature_extraction import (
    SILENCE,
    AudioDecodingError,
    SilentAudioError,
    find_audio_column,
    load_audio,
    load_audio_dataset,
    undecoded,
)


logger = logging.getLogger(__name__)

SAMPLING_RATE = 16000
FORMATS = {"flac": "flac", "pcm": "wav"}  # what soundfile calls them, and the ending of names
KINDS = ("empty", "damaged", "missing", "silent")

# Of a row group, which a reader holds whole.
GROUP_ROWS = 100
GROUP_BYTES = 32 * 2**20

# The splits that `datasets` knows by the names of files. Another one's shards are named as training data.
SPLITS = ("train", "validation", "valid", "val", "dev", "test", "eval")


@dataclass
class SourceArguments:
    dataset_name: str = field(
        metadata={"help": "A folder of audio, a folder or glob of Parquet or tars, or a data set on the Hub."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub data set."})
    dataset_split: str = field(default="train", metadata={"help": "The split to prepare."})
    audio_column: str | None = field(default=None, metadata={"help": "Defaults to the only column of type Audio."})
    streaming: bool = field(
        default=False, metadata={"help": "Read as a stream, without a local copy; each of its shards in one process."}
    )


@dataclass
class PreparationArguments:
    output_dir: str = field(metadata={"help": "Where the shards go: a new folder, or that of a run to go on with."})
    format: str = field(default="flac", metadata={"help": "'flac', or 'pcm': larger, and faster to read."})
    shard_size: float = field(default=500, metadata={"help": "Megabytes at which a shard is closed."})
    max_seconds: float | None = field(
        default=None, metadata={"help": "Longer recordings are cut into equal pieces of at most so long."}
    )
    num_workers: int | None = field(default=None, metadata={"help": "Processes. Defaults to the number of cores."})

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"--format must be one of {', '.join(FORMATS)}, got {self.format!r}.")
        for name in ("shard_size", "max_seconds", "num_workers"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"--{name} must be more than 0, got {value}.")


@dataclass
class Part:
    """
    What has been done of a part of the source: a range of its rows, or one shard of a stream.

    It is saved after each shard that it writes, so that what it lists is there whenever the run is stopped.
    """

    rows: int = 0
    """How many of its rows are in the shards, or skipped."""
    is_done: bool = False
    shards: list[str] = field(default_factory=list)
    clips: int = 0
    samples: int = 0
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind, name and reason."""


@dataclass
class Job:
    """What all the processes know."""

    source: SourceArguments
    args: PreparationArguments
    dataset: Dataset | IterableDataset
    column: str
    num_parts: int

    @property
    def output_dir(self) -> Path:
        return Path(self.args.output_dir).expanduser()

    @property
    def schema(self) -> pa.Schema:
        """The source's, with `datasets`' notes on what its columns are."""
        return Features(self.dataset.features | {self.column: Audio(sampling_rate=SAMPLING_RATE)}).arrow_schema

    def shard_name(self, part: int, shard: int) -> str:
        split = self.source.dataset_split if self.source.dataset_split in SPLITS else "train"
        return f"{split}-{part:05}-{shard:05}.parquet"

    def clip_name(self, path: str | None) -> str | None:
        """A clip's name in the shards: of a file, where it lies in the source's folder."""
        if path is None:
            return None
        inside = path.removeprefix(f"{Path(self.source.dataset_name).expanduser()}/")
        return f"{os.path.splitext(inside)[0]}.{FORMATS[self.args.format]}"

    def part_path(self, number: int) -> Path:
        return self.output_dir / ".progress" / f"part-{number:05}.json"

    def load_part(self, number: int) -> Part:
        path = self.part_path(number)
        part = Part(**json.loads(path.read_text())) if path.exists() else Part()
        # If a shard has been deleted since, the part is done anew.
        return part if all((self.output_dir / name).exists() for name in part.shards) else Part()


def write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2))
    os.replace(temporary, path)


class ShardWriter:
    """
    Writes clips and their rows of the other columns to a Parquet file, which gets its name once it is whole. Without
    clips there is no file.
    """

    def __init__(self, job: Job, name: str):
        self.job = job
        self.path = job.output_dir / name
        self.temporary = job.output_dir / ".progress" / f"{name}.{os.getpid()}.tmp"
        self.size = 0
        self._file = None
        self._clips, self._others, self._group_size = [], [], 0

    def add(self, encoded: bytes, path: str | None, others: pa.Table) -> None:
        self._clips.append({"bytes": encoded, "path": path})
        self._others.append(others)
        self._group_size += len(encoded)
        self.size += len(encoded)
        if len(self._clips) == GROUP_ROWS or self._group_size >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._file is None:
            self._file = open(self.temporary, "wb")
            # Encoded audio does not get smaller.
            self._parquet = pq.ParquetWriter(self._file, self.job.schema, compression="none", use_dictionary=False)
        others = pa.concat_tables(self._others)
        columns = {name: others[name] for name in others.column_names} | {self.job.column: self._clips}
        self._parquet.write_table(pa.Table.from_pydict(columns, self.job.schema))
        self._clips, self._others, self._group_size = [], [], 0

    def close(self) -> bool:
        """Whether there is a file."""
        if self._clips:
            self._write_group()
        if self._file is None:
            return False
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.temporary, self.path)
        return True


def encode(audio: dict[str, Any] | None, args: PreparationArguments) -> list[tuple[bytes, int]]:
    """
    A recording, or pieces of it, each with its number of samples.

    Raises:
        [`AudioDecodingError`]: if it cannot be decoded, or not to numbers.
        [`SilentAudioError`]: if it is silent throughout.
        `FileNotFoundError`: if there is no such file.
    """
    samples = load_audio(audio, SAMPLING_RATE)
    if not np.isfinite(samples).all():
        raise AudioDecodingError("It has samples that are infinite or not a number.")
    if np.abs(samples).max() <= SILENCE:
        raise SilentAudioError("It is silent throughout.")
    # Not left to soundfile, whose scale for WAV is not that for FLAC.
    samples = np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    num_pieces = math.ceil(len(samples) / (args.max_seconds * SAMPLING_RATE)) if args.max_seconds else 1
    pieces = []
    for piece in np.array_split(samples, num_pieces):
        file = io.BytesIO()
        soundfile.write(file, piece, SAMPLING_RATE, format=FORMATS[args.format], subtype="PCM_16")
        pieces.append((file.getvalue(), len(piece)))
    return pieces


def start_worker(job: Job, counts: dict[str, Any], stop: Any) -> None:
    global worker
    worker = job, counts, stop
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    # A parent that is killed cannot stop its workers: they would go on beside those of the next run.
    threading.Thread(target=end_with_parent, daemon=True).start()


def convert_part(number: int) -> None:
    """A worker's task: what is left to do of a part."""
    job, counts, stop = worker
    part = job.load_part(number)
    rows = job.dataset.shard(num_shards=job.num_parts, index=number).iter(1)
    rows = islice(rows, part.rows, None)
    while not part.is_done:
        writer = ShardWriter(job, job.shard_name(number, len(part.shards)))
        part.is_done = True
        for row in rows:
            if stop.is_set():
                return
            for name, amount in convert_row(row, number, part, writer, job).items():
                with counts[name].get_lock():
                    counts[name].value += amount
            if writer.size >= job.args.shard_size * 1e6:
                part.is_done = False  # so far as is known: the next shard may find no more rows
                break
        if writer.close():
            part.shards.append(writer.path.name)
        write_json(job.part_path(number), asdict(part))


def convert_row(row: pa.Table, number: int, part: Part, writer: ShardWriter, job: Job) -> dict[str, int]:
    """Adds a row to the shard, or to the part's list of what was skipped. Returns what it adds to the counts."""
    audio = row[job.column][0].as_py()
    path = (audio or {}).get("path")
    name = path or f"row {part.rows} of part {number + 1}/{job.num_parts}"
    part.rows += 1
    try:
        pieces = encode(audio, job.args)
    except (AudioDecodingError, SilentAudioError, FileNotFoundError) as error:
        kind = getattr(error, "kind", "missing")
        part.skipped.append((kind, name, str(error)))
        return {"rows": 1, kind: 1}
    for encoded, _ in pieces:
        writer.add(encoded, job.clip_name(path), row.drop_columns(job.column))
    samples = sum(num_samples for _, num_samples in pieces)
    part.clips += len(pieces)
    part.samples += samples
    return {"rows": 1, "samples": samples}


def convert_all(job: Job, parts: list[Part], num_workers: int) -> None:
    """
    Converts what is left to do of the parts.

    Raises:
        `RuntimeError`: if a worker was killed.
        `OSError`: if the disk is full, among others.
    """
    # Forked, workers start at once and inherit the source, which need not be one that can be pickled.
    context = multiprocessing.get_context("fork")
    counts = {name: context.Value("q", 0) for name in ("rows", "samples", *KINDS)}
    for part in parts:
        counts["rows"].value += part.rows
        counts["samples"].value += part.samples
        for kind, _, _ in part.skipped:
            counts[kind].value += 1
    stop = context.Event()
    unfinished = [number for number, part in enumerate(parts) if not part.is_done]
    total = None if isinstance(job.dataset, IterableDataset) else len(job.dataset)
    pool = ProcessPoolExecutor(min(num_workers, len(unfinished)), context, start_worker, (job, counts, stop))
    try:
        pending = {pool.submit(convert_part, number) for number in unfinished}
        with tqdm(total=total, initial=counts["rows"].value, desc="Preparing", unit=" clips") as bar:
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
                skipped = format_counts({kind: counts[kind].value for kind in KINDS})
                bar.set_postfix_str(
                    f"{counts['samples'].value / SAMPLING_RATE / 3600:.2f} h, skipped: {skipped}", refresh=False
                )
                bar.update(counts["rows"].value - bar.n)
                for future in done:
                    future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A worker was killed, perhaps for want of memory. Run the same command again, with a smaller "
            "--num_workers; finished shards are kept."
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none"


def open_output(source: SourceArguments, args: PreparationArguments) -> None:
    """
    Makes the output folder.

    Raises:
        `ValueError`: if it lies in the source, or holds Parquet of something else.
        `OSError`: if it cannot be written to.
    """
    output_dir = Path(args.output_dir).expanduser()
    folder = Path(source.dataset_name).expanduser()
    if folder.is_dir() and output_dir.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--output_dir {output_dir} lies in --dataset_name {folder}: give a folder outside it.")
    try:
        (output_dir / ".progress").mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_dir).close()
    except OSError as error:
        raise OSError(
            f"--output_dir {output_dir} cannot be written to ({error.strerror}): give another folder."
        ) from error
    if not (output_dir / ".progress" / "settings.json").exists() and any(output_dir.glob("*.parquet")):
        raise ValueError(f"{output_dir} holds Parquet that is no earlier run's: give another --output_dir.")


def settle(output_dir: Path, settings: dict[str, Any], num_parts: int) -> int:
    """
    Keeps the settings of a new run, or checks that they are those of the one to go on with.

    Returns:
        How many parts the source has: `num_parts`, or what the earlier run made it.

    Raises:
        `ValueError`: if the settings differ; the message tells in what.
    """
    path = output_dir / ".progress" / "settings.json"
    if not path.exists():
        write_json(path, {"settings": settings, "num_parts": num_parts})
    earlier = json.loads(path.read_text())
    differences = [
        f"{name} was {earlier['settings'].get(name)}, and is {value}"
        for name, value in settings.items()
        if earlier["settings"].get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{output_dir} holds a run with other settings: {'; '.join(differences)}. Give the same ones to go on "
            "with it, or another --output_dir."
        )
    return earlier["num_parts"]


def load_job(source: SourceArguments, args: PreparationArguments, num_workers: int) -> tuple[Job, dict[str, Any]]:
    """
    Returns:
        The job and its settings, which a run that goes on must share.

    Raises:
        `ValueError`: if there is no such split or column, if the source is empty, or from [`settle`].
    """
    splits = load_audio_dataset(source.dataset_name, source.dataset_config_name, source.streaming)
    if source.dataset_split not in splits:
        raise ValueError(f"There is no split {source.dataset_split!r}; there are {', '.join(splits)}.")
    dataset = splits[source.dataset_split]
    column = find_audio_column(dataset, source.audio_column)
    if dataset.features is None:
        raise ValueError(f"{source.dataset_name} does not tell its columns as a stream: leave --streaming out.")
    settings = asdict(source) | {name: getattr(args, name) for name in ("format", "shard_size", "max_seconds")}
    settings["audio_column"] = column
    if os.path.exists(os.path.expanduser(source.dataset_name)):
        settings["dataset_name"] = os.path.realpath(os.path.expanduser(source.dataset_name))
    if isinstance(dataset, IterableDataset):
        num_parts = settings["shards_of_the_source"] = dataset.num_shards
        if num_parts < num_workers:
            logger.warning(f"The stream has {num_parts} shards, so {num_parts} of {num_workers} processes have work.")
    else:
        settings["rows_of_the_source"] = len(dataset)
        if len(dataset) == 0:
            raise ValueError(f"{source.dataset_name} has no rows in its split {source.dataset_split!r}.")
        # Several for each worker, so that all are done at about the same time.
        num_parts = min(4 * num_workers, math.ceil(len(dataset) / 10))
    num_parts = settle(Path(args.output_dir).expanduser(), settings, num_parts)
    # In Arrow's format no column is decoded, and those other than the audio are written as they were read.
    dataset = undecoded(dataset, column).with_format("arrow")
    return Job(source, args, dataset, column, num_parts), settings


def remove_unfinished(job: Job) -> None:
    for path in (job.output_dir / ".progress").glob("*.tmp"):
        path.unlink(missing_ok=True)


def write_report(job: Job, parts: list[Part], settings: dict[str, Any]) -> dict[str, Any]:
    """`report.json` and `skipped.tsv`, of this run and those that it went on with."""
    skipped = [entry for part in parts for entry in part.skipped]
    lines = ["\t".join(" ".join(text.split()) for text in entry) for entry in skipped]
    (job.output_dir / "skipped.tsv").write_text("".join(f"{line}\n" for line in lines))
    shards = [job.output_dir / name for part in parts for name in part.shards]
    report = {
        "clips": sum(part.clips for part in parts),
        "hours": sum(part.samples for part in parts) / SAMPLING_RATE / 3600,
        "shards": len(shards),
        "gigabytes": sum(path.stat().st_size for path in shards) / 1e9,
        "skipped": dict(Counter(kind for kind, _, _ in skipped)),
        "settings": settings,
    }
    (job.output_dir / "report.json").write_text(json.dumps(report, indent=2))
    return report


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the job and returns its report."""
    source, args = HfArgumentParser((SourceArguments, PreparationArguments)).parse_args_into_dataclasses(argv)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    num_workers = args.num_workers or os.cpu_count()
    open_output(source, args)
    job, settings = load_job(source, args, num_workers)
    remove_unfinished(job)
    parts = [job.load_part(number) for number in range(job.num_parts)]
    try:
        if all(part.is_done for part in parts):
            logger.info(f"{job.output_dir} is finished: there is nothing to do.")
        else:
            if num_shards := sum(len(part.shards) for part in parts):
                logger.info(f"Going on after {num_shards} shards of {sum(part.clips for part in parts)} clips.")
            convert_all(job, parts, num_workers)
            parts = [job.load_part(number) for number in range(job.num_parts)]
        report = write_report(job, parts, settings)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"There is no space left for {job.output_dir}. Its finished shards are whole: make space and run the same "
            "command again to go on.",
        ) from error
    finally:
        remove_unfinished(job)
    if report["clips"] == 0:
        raise ValueError(f"No clip could be used: {job.output_dir / 'skipped.tsv'} tells why.")
    logger.info(
        f"{report['clips']} clips ({report['hours']:.2f} h) are in {report['shards']} shards "
        f"({report['gigabytes']:.2f} GB) in {job.output_dir}. Skipped: {format_counts(report['skipped'])}."
    )
    return report


if __name__ == "__main__":
    main()
