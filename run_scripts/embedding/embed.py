"""Embedding a data set into Parquet files, part after part."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from feature_extraction import BadClipError, Clip, COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.common.checkpoints import load_encoder
from run_scripts.common.errors import MissingFileError, UserError
from run_scripts.common.files import write_json, written_whole
from run_scripts.common.quiet import quiet_libraries
from run_scripts.common.resume import Part, PartStore, check_settings
from run_scripts.common.skipped import SKIPPED, count_kinds, nothing_usable, write_skipped
from run_scripts.common.source import hash_files, load_splits
from run_scripts.embedding.arguments import CHECKPOINT, EmbeddingArguments
from run_scripts.embedding.cache import hash_encoder
from run_scripts.embedding.encode import EmbeddedClip, embed_clips, mean_vector
from run_scripts.embedding.parts import PartWriter, find_parts
from run_scripts.embedding.source import Source


logger = logging.getLogger(__name__)

SETTINGS = "settings.json"

# A part is complete after this time, or with this many vectors. A run that is killed loses one part at most.
PART_SECONDS = 30
PART_VECTORS = 2**16


def embed_dataset(args: EmbeddingArguments) -> list[Path]:
    """
    Embeds the clips of a data set. A run that was stopped continues after its last part.

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
    folder = args.output_path
    if find_parts(folder) and not (folder / SETTINGS).exists():
        raise UserError(f"--output_dir {folder} contains Parquet files that no earlier run wrote: choose another.")
    with quiet_libraries():
        splits = load_splits(args)
        source = Source(splits, args.audio_column, args.label_column)
    model, extractor = load_model(args.model_name_or_path)
    settings = collect_settings(args, source, model, extractor)
    settings["files"] = hash_files(args.dataset_name, splits, source.audio_column, exclude=folder)
    if (folder / SETTINGS).exists():
        earlier = read_settings(folder)
        if earlier["dataset_name"] == settings["dataset_name"] and earlier.get("files") != settings["files"]:
            raise UserError(
                f"The files of --dataset_name {args.dataset_name} are not those that were embedded in {folder}: some "
                "are new or gone, or have another name, size or time. Name another --output_dir, or remove this one, "
                "to embed them all."
            )
        check_settings(folder, earlier, settings | {"files": earlier.get("files")})
    else:
        write_json(folder / SETTINGS, settings)
    PartStore(folder).remove_temporary_files()
    write_parts(source, model, extractor, folder, args.windows)
    return find_parts(folder)


def load_model(checkpoint: str | None) -> tuple[COLAModel, COLAFeatureExtractor]:
    """Loads a checkpoint, by default the one of this repository, to the GPU if there is one."""
    with quiet_libraries(warnings=True):
        model, extractor = load_encoder(checkpoint or str(CHECKPOINT))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), extractor


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


def read_settings(folder: Path) -> dict[str, Any]:
    """
    Reads the settings with which the vectors in a folder were made. Without any, there are no vectors, which is a
    [`MissingFileError`].
    """
    path = folder / SETTINGS
    if not path.exists():
        raise MissingFileError(f"{folder} holds no vectors: pass --dataset_name to embed clips first.")
    settings = json.loads(path.read_text())
    return settings | {"model_name_or_path": settings["model_name_or_path"] or str(CHECKPOINT)}


def write_parts(
    source: Source, model: COLAModel, extractor: COLAFeatureExtractor, folder: Path, windows: bool
) -> None:
    """Writes the parts that are missing, and the list of the clips that cannot be used: a [`UserError`] if all are."""
    store = PartStore(folder)
    parts = store.load_sequence()
    store.remove_from(len(parts))
    num_read = sum(part.num_read for part in parts)
    if parts and parts[-1].is_done:
        logger.info(f"{folder} is complete: there is nothing to embed.")
    else:
        if parts:
            logger.info(f"Continuing after {num_read} clips in {len(parts)} parts.")
        clips = ((clip, clip.audio) for clip in source.read(parts[-1].position if parts else None))
        embedded = embed_clips(model, extractor, clips)
        seconds_per_hop = model.config.window_hop * extractor.hop_length / extractor.sampling_rate if windows else None
        with Meter(source.num_clips, num_read) as meter:
            while not (parts and parts[-1].is_done):
                path = folder / f"part-{len(parts):05}.parquet"
                with written_whole(path) as temporary:
                    writer = PartWriter(temporary, model.config.hidden_size, windows, source.label_column is not None)
                    part = write_part(writer, source, embedded, num_read, meter, seconds_per_hop)
                part.files.append(path.name)
                store.save(len(parts), part)
                parts.append(part)
                num_read += part.num_read
                write_skipped(folder, [note for part in parts for note in part.skipped])
    notes = [note for part in parts for note in part.skipped]
    write_skipped(folder, notes)
    num_clips, hours = sum(part.num_clips for part in parts), sum(part.seconds for part in parts) / 3600
    if num_clips == 0:
        raise nothing_usable(folder, notes)
    summary = f"{num_clips} clips, {hours:.2f} h, are embedded in {folder}."
    if notes:
        summary += f" Skipped: {count_kinds(notes)}; {folder / SKIPPED} lists them."
    logger.info(summary)


def write_part(
    writer: PartWriter,
    source: Source,
    clips: Iterator[tuple[Clip, EmbeddedClip | BadClipError]],
    num_before: int,
    meter: "Meter",
    seconds_per_hop: float | None,
) -> Part:
    """
    Writes one part of the clips that are left, as [`embed_clips`] returns them, after `num_before` clips in the parts
    before. With `seconds_per_hop`, the seconds from one window to the next, it has a row for each window rather than
    for each clip.
    """
    part = Part(is_done=True)
    started = time.monotonic()
    for clip, embedded in clips:
        number = num_before + part.num_read
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
    The total is the number of clips, if it is known, of which `initial` are embedded already.
    """

    def __init__(self, total: int | None, initial: int):
        # A long recording advances the bar by fractions of a clip.
        left = (
            "{percentage:3.0f}%|{bar}| {n:.0f}/{total} clips [{elapsed}<{remaining}"
            if total
            else ("{n:.0f} clips [{elapsed}")
        )
        super().__init__(
            total=total, initial=initial, desc="Embedding", bar_format="{desc}: " + left + "{postfix}]", smoothing=0.05
        )
        self.seconds = 0.0

    def advance(self, clips: float, seconds: float = 0.0) -> None:
        """Adds clips, or a fraction of one, and their seconds of audio."""
        self.seconds += seconds
        elapsed = max(time.time() - self.start_t, 1e-3)
        self.set_postfix_str(f"{self.seconds / 3600:.2f} h, {self.seconds / elapsed:.0f}x real time", refresh=False)
        self.update(clips)

    def watch(self, clip: EmbeddedClip) -> Iterator[np.ndarray]:
        """Passes the chunks of a clip on, and adds each of them."""
        for chunk in clip.chunks:
            share = len(chunk) / clip.num_windows
            self.advance(share, share * clip.seconds)
            yield chunk
