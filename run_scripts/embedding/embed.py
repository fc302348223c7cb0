"""Embedding a data set into Parquet files, part after part."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from tqdm.auto import tqdm

from feature_extraction import BadClipError, Clip, ClipNote, COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.common.checkpoints import load_encoder
from run_scripts.common.errors import UserError
from run_scripts.common.files import write_json, written_whole
from run_scripts.common.processes import find_device, name_share
from run_scripts.common.quiet import quiet_libraries
from run_scripts.common.resume import Part, PartStore, check_settings, is_whole
from run_scripts.common.skipped import SKIPPED, count_kinds, nothing_usable, write_skipped
from run_scripts.common.source import check_files, hash_files, load_splits
from run_scripts.embedding.arguments import CHECKPOINT, EmbeddingArguments
from run_scripts.embedding.cache import hash_encoder
from run_scripts.embedding.encode import EmbeddedClip, embed_clips, mean_vector
from run_scripts.embedding.parts import (
    SETTINGS,
    PartWriter,
    find_parts,
    find_sequences,
    number_clips,
    read_settings,
)
from run_scripts.embedding.source import Piece, Source


logger = logging.getLogger(__name__)

# A part is complete after this time, or with this many vectors. A run that is killed loses one part at most.
PART_SECONDS = 30
PART_VECTORS = 2**16
PIECES_PER_PROCESS = 4


def embed_dataset(args: EmbeddingArguments) -> list[Path]:
    """
    Embeds the clips of a data set. A run that was stopped continues after its last part. The processes of a launcher,
    if there is one, share the work.

    Args:
        args (`EmbeddingArguments`):
            Which clips, by which model, and the folder of the vectors, which no other run may write to.

    Returns:
        `list[Path]`: The parts: Parquet files with the columns `clip` (the number of the clip), `path`, `seconds`,
        `label` if the data set has labels, `time` (the start of a window, in seconds) with `args.windows`, and
        `vector`.

    Raises:
        `ValueError`: If the settings differ from those of the run to go on with, or if no clip can be used.
        `OSError`: If a part cannot be written.
    """
    folder, processes = args.output_path, PartialState()
    if processes.is_main_process and find_parts(folder) and not (folder / SETTINGS).exists():
        raise UserError(f"--output_dir {folder} contains Parquet files that no earlier run wrote: choose another.")
    with quiet_libraries(), processes.main_process_first():
        splits = load_splits(args)
        source = Source(splits, args.audio_column, args.label_column)
    model, extractor = load_model(args.model_name_or_path)
    if processes.is_main_process:
        settings = collect_settings(args, source, model, extractor)
        settings["files"] = hash_files(args.dataset_name, splits, source.audio_column, exclude=folder)
        pieces = count_pieces(source, processes.num_processes)
        window_seconds = model.config.window_size * extractor.hop_length / extractor.sampling_rate
        begin(folder, settings, {"num_pieces": pieces, "window_seconds": window_seconds})
    processes.wait_for_everyone()
    write_share(source, model, extractor, folder, args.windows)
    processes.wait_for_everyone()
    if processes.is_main_process:
        finish(folder)
    return find_parts(folder)


def begin(folder: Path, settings: dict[str, Any], facts: dict[str, Any]) -> None:
    """
    Writes the settings of a new run, with facts that follow from them or need not be the same when it is resumed, or
    checks that the settings are those of the run to go on with.
    """
    if (folder / SETTINGS).exists():
        earlier = read_settings(folder)
        check_files(folder, earlier, settings)
        check_settings(folder, earlier, settings | {"files": earlier.get("files")})
    else:
        write_json(folder / SETTINGS, settings | facts)
    PartStore(folder).remove_temporary_files()
    sequences = []
    for store in find_sequences(folder):
        sequences.append(store.load_sequence())
        store.remove_from(len(sequences[-1]))
    if all(map(is_whole, sequences)):
        logger.info(f"{folder} is complete: there is nothing to embed.")
    elif written := [part for parts in sequences for part in parts]:
        logger.info(f"Continuing after {sum(part.num_read for part in written)} clips in {len(written)} parts.")


def count_pieces(source: Source, num_processes: int) -> int:
    """
    Decides into how many pieces a new run divides the source. Several processes have several pieces each, from all
    over the source, so that they finish at about the same time although its clips differ in length.
    """
    if num_processes == 1:
        return 1
    size, units = (len(source.shards), "shards") if source.num_clips is None else (source.num_clips, "clips")
    if size < num_processes:
        logger.warning(f"There are {size} {units}, so only {size} of {num_processes} processes are used.")
    return max(1, min(PIECES_PER_PROCESS * num_processes, size))


def finish(folder: Path) -> None:
    """
    Says what all processes have embedded, lists the clips that cannot be used, and numbers the clips of a stream. It
    is a [`UserError`] if no clip can be used.
    """
    parts, first_clip = [], 0
    for store in find_sequences(folder):
        sequence = store.load_sequence()
        for name in (name for part in sequence for name in part.files):
            number_clips(folder / name, first_clip)
        first_clip += sum(part.num_read for part in sequence)
        parts += sequence
    notes = [note for part in parts for note in part.skipped]
    write_skipped(folder, notes)
    num_clips, hours = sum(part.num_clips for part in parts), sum(part.seconds for part in parts) / 3600
    if num_clips == 0:
        raise nothing_usable(folder, notes)
    summary = f"{num_clips} clips, {hours:.2f} h, are embedded in {folder}."
    if notes:
        summary += f" Skipped: {count_kinds(notes)}; {folder / SKIPPED} lists them."
    logger.info(summary)


def load_model(checkpoint: str | None) -> tuple[COLAModel, COLAFeatureExtractor]:
    """Loads a checkpoint, by default cola-compact, to the device of this process, which is a GPU if there is one."""
    with quiet_libraries(warnings=True):
        model, extractor = load_encoder(checkpoint or str(CHECKPOINT))
    return model.to(find_device()).eval(), extractor


def _full_name(name: str) -> str:
    """The absolute path of a file or a folder; any other name as it is."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def collect_settings(
    args: EmbeddingArguments, source: Source, model: COLAModel, extractor: COLAFeatureExtractor
) -> dict[str, Any]:
    """Collects all that must be the same when a run continues, and that searching needs to know."""
    names = ("dataset_config_name", "dataset_split", "streaming", "allow_remote_audio", "windows")
    return {
        "dataset_name": _full_name(args.dataset_name),
        **{name: getattr(args, name) for name in names},
        "audio_column": source.audio_column,
        "label_column": source.label_column,
        "clips_of_the_source": source.num_clips,
        "shards_of_the_source": len(source.shards),
        "model_name_or_path": _full_name(args.model_name_or_path or str(CHECKPOINT)),
        "weights": hash_encoder(model, extractor)[:16],
    }


def write_share(
    source: Source, model: COLAModel, extractor: COLAFeatureExtractor, folder: Path, windows: bool
) -> None:
    """Writes the parts that are missing of the pieces that fall to this process."""
    processes, sequences = PartialState(), find_sequences(folder)
    own = slice(processes.process_index, None, processes.num_processes)
    share = list(zip(sequences, source.divide(len(sequences))))[own]
    written = [store.load_sequence() for store, _ in share]
    if all(map(is_whole, written)):
        return
    num_clips = None if source.num_clips is None else sum(piece.num_clips for _, piece in share)
    with Meter(num_clips, sum(part.num_read for parts in written for part in parts)) as meter:
        for (store, piece), parts in zip(share, written):
            write_parts(store, parts, source, piece, model, extractor, meter, windows)


def write_parts(
    store: PartStore,
    parts: list[Part],
    source: Source,
    piece: Piece,
    model: COLAModel,
    extractor: COLAFeatureExtractor,
    meter: "Meter",
    windows: bool,
) -> None:
    """Writes the parts of a piece that are missing after those that are there."""
    if is_whole(parts):
        return
    folder, first_clip = store.output_dir, piece.first_clip or 0
    number = first_clip + sum(part.num_read for part in parts)
    position = parts[-1].position if parts else piece.start
    embedded = embed_clips(model, extractor, ((clip, clip.audio) for clip in source.read(position, piece.end)))
    seconds_per_hop = model.config.window_hop * extractor.hop_length / extractor.sampling_rate if windows else None
    has_labels = source.label_column is not None
    while not is_whole(parts):
        path = folder / f"{store.name(len(parts))}.parquet"
        with written_whole(path) as temporary:
            writer = PartWriter(temporary, model.config.hidden_size, windows, has_labels, first_clip)
            part = write_part(writer, source, embedded, number, meter, seconds_per_hop)
        part.files.append(path.name)
        store.save(len(parts), part)
        parts.append(part)
        number += part.num_read
        if part.skipped and PartialState().is_main_process:
            write_skipped(folder, [note for store in find_sequences(folder) for note in _skipped(store)])


def _skipped(store: PartStore) -> list[ClipNote]:
    return [note for part in store.load_sequence() for note in part.skipped]


def write_part(
    writer: PartWriter,
    source: Source,
    clips: Iterator[tuple[Clip, EmbeddedClip | BadClipError]],
    first_number: int,
    meter: "Meter",
    seconds_per_hop: float | None,
) -> Part:
    """
    Writes one part of the clips that are left, as [`embed_clips`] returns them, whose numbers begin with
    `first_number`. With `seconds_per_hop`, the seconds from one window to the next, it has a row for each window
    rather than for each clip.
    """
    part = Part(is_done=True)
    started = time.monotonic()
    for clip, embedded in clips:
        number = first_number + part.num_read
        part.position = clip.end
        part.num_read += 1
        if isinstance(embedded, BadClipError):
            part.skipped.append(clip.note(embedded))
            meter.advance(1)
        else:
            row = number, clip.path, source.label_of(clip), embedded.seconds
            chunks = meter.watch(embedded)
            if seconds_per_hop is None:
                vector = mean_vector(embedded._replace(chunks=chunks))
                writer.add(*row, vector[None], [None])
            else:
                first = 0
                for chunk in chunks:
                    times = seconds_per_hop * np.arange(first, first + len(chunk))
                    writer.add(*row, chunk, times.tolist())
                    first += len(chunk)
            part.num_clips += 1
            part.seconds += embedded.seconds
        if time.monotonic() - started >= PART_SECONDS or writer.num_rows >= PART_VECTORS:
            part.is_done = False  # as far as is known: there may be no more clips for the next part
            break
    writer.close()
    return part


class Meter(tqdm):
    """
    The progress bar: clips, the time that is left, hours of audio, and how many times faster than real time this is.
    The total is the number of clips, if it is known, of which `initial` are embedded already. Where several processes
    share the work, the main one shows its own share.
    """

    def __init__(self, total: int | None, initial: int, title: str = "Embedding"):
        # A long recording advances the bar by fractions of a clip.
        left = (
            "{percentage:3.0f}%|{bar}| {n:.0f}/{total} clips [{elapsed}<{remaining}"
            if total
            else ("{n:.0f} clips [{elapsed}")
        )
        super().__init__(
            total=total,
            initial=initial,
            desc=name_share(title),
            bar_format="{desc}: " + left + "{postfix}]",
            smoothing=0.05,
            disable=not PartialState().is_main_process,
        )
        self.started, self.seconds = time.monotonic(), 0.0

    def advance(self, clips: float, seconds: float = 0.0) -> None:
        """Adds clips, or a fraction of one, and their seconds of audio."""
        self.seconds += seconds
        elapsed = max(time.monotonic() - self.started, 1e-3)
        self.set_postfix_str(f"{self.seconds / 3600:.2f} h, {self.seconds / elapsed:.0f}x real time", refresh=False)
        self.update(clips)

    def watch(self, clip: EmbeddedClip) -> Iterator[np.ndarray]:
        """Passes the chunks of a clip on, and adds each of them."""
        for chunk in clip.chunks:
            share = len(chunk) / clip.num_windows
            self.advance(share, share * clip.seconds)
            yield chunk
