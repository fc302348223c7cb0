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
from run_scripts.common.errors import UserError
from run_scripts.common.files import remove_temporary_files, write_json, written_whole
from run_scripts.common.quiet import quiet_libraries
from run_scripts.common.resume import check_settings
from run_scripts.common.skipped import SKIPPED, count_kinds, write_skipped
from run_scripts.common.source import load_splits
from run_scripts.embedding.arguments import CHECKPOINT, EmbeddingArguments
from run_scripts.embedding.cache import hash_encoder
from run_scripts.embedding.encode import EmbeddedClip, embed_clips, mean_vector
from run_scripts.embedding.parts import PartWriter, Progress, find_parts, read_progress
from run_scripts.embedding.source import Source


logger = logging.getLogger(__name__)

SETTINGS = "settings.json"

# A part is complete after this time, or with this many vectors. A run that is killed loses one part at most.
PART_SECONDS = 30
PART_VECTORS = 2**16


def embed_dataset(args: EmbeddingArguments) -> list[Path]:
    """
    Embeds the clips of a data set. A run that was stopped goes on where its last part ends.

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
        source = Source(load_splits(args), args.audio_column, args.label_column)
    model, extractor = load_model(args.model_name_or_path)
    settings = collect_settings(args, source, model, extractor)
    if (folder / SETTINGS).exists():
        check_settings(folder, read_settings(folder), settings)
    else:
        write_json(folder / SETTINGS, settings)
    remove_temporary_files(folder)
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
    """Collects all that must be the same when a run goes on, and that searching needs to know."""
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
    Reads the settings with which the vectors in a folder were made.

    Raises:
        `FileNotFoundError`: If there are none.
    """
    path = folder / SETTINGS
    if not path.exists():
        raise FileNotFoundError(f"--output_dir {folder} holds no vectors: pass --dataset_name to embed clips first.")
    settings = json.loads(path.read_text())
    return settings | {"model_name_or_path": settings["model_name_or_path"] or str(CHECKPOINT)}


def write_parts(
    source: Source, model: COLAModel, extractor: COLAFeatureExtractor, folder: Path, windows: bool
) -> None:
    """
    Writes the parts that are missing, and the list of the clips that cannot be used.

    Raises:
        `ValueError`: If no clip can be used.
    """
    earlier = [read_progress(part) for part in find_parts(folder)]
    progress = earlier[-1] if earlier else Progress()
    notes = [note for part in earlier for note in part.skipped]
    if progress.is_done:
        logger.info(f"{folder} is complete: there is nothing to embed.")
        return
    if earlier:
        logger.info(f"Going on after {progress.num_clips} clips in {len(earlier)} parts.")
    clips = ((clip, clip.audio) for clip in source.read(progress.position))
    embedded = embed_clips(model, extractor, clips)
    seconds_per_hop = model.config.window_hop * extractor.hop_length / extractor.sampling_rate
    number = len(earlier)
    with Meter(source.num_clips, progress.num_clips) as meter:
        while not progress.is_done:
            with written_whole(folder / f"part-{number:05}.parquet") as path:
                writer = PartWriter(path, model.config.hidden_size, windows, source.label_column is not None)
                progress = write_part(writer, source, embedded, progress, meter, seconds_per_hop if windows else None)
            notes += progress.skipped
            write_skipped(folder, notes)
            number += 1
    summary = f"{progress.num_clips - len(notes)} clips, {progress.seconds / 3600:.2f} h, are embedded in {folder}."
    if notes:
        summary += f" Skipped: {count_kinds(notes)}; {folder / SKIPPED} lists them."
    if progress.seconds == 0:
        raise UserError(f"No clip could be used: {folder / SKIPPED} lists the reasons.")
    logger.info(summary)


def write_part(
    writer: PartWriter,
    source: Source,
    clips: Iterator[tuple[Clip, EmbeddedClip | BadClipError]],
    earlier: Progress,
    meter: "Meter",
    seconds_per_hop: float | None,
) -> Progress:
    """
    Writes one part.

    Args:
        writer (`PartWriter`):
            The part.
        source (`Source`):
            Tells the labels.
        clips (`Iterator`):
            The clips that are left, as [`embed_clips`] returns them.
        earlier (`Progress`):
            The progress at the end of the part before.
        meter (`Meter`):
            Shows the progress.
        seconds_per_hop (`float`, *optional*):
            Seconds from one window to the next, if the part has a row for each window rather than for each clip.
    """
    progress = Progress(earlier.position, earlier.num_clips, earlier.seconds, is_done=True)
    started = time.monotonic()
    for clip, embedded in clips:
        progress.position = clip.end
        progress.num_clips += 1
        if isinstance(embedded, BadClipError):
            progress.skipped.append(clip.note(embedded))
            meter.advance(1)
        else:
            row = progress.num_clips - 1, clip.path, source.label_of(clip), embedded.seconds
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
            progress.seconds += embedded.seconds
        if time.monotonic() - started >= PART_SECONDS or writer.num_rows >= PART_VECTORS:
            progress.is_done = False  # as far as is known: there may be no more clips for the next part
            break
    writer.close(progress)
    return progress


class Meter(tqdm):
    """
    The progress bar: clips, the time that is left, hours of audio, and how many times faster than real time this is.

    Args:
        total (`int`, *optional*):
            The number of clips, if it is known.
        initial (`int`):
            How many of them are embedded already.
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
