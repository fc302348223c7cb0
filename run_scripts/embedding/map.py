"""A page to look at embedded clips and to listen to them: one HTML file, which needs nothing else."""

import base64
import io
import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
import torch

from feature_extraction import BadClipError, load_audio
from run_scripts.common.errors import UserError
from run_scripts.common.files import write_text
from run_scripts.common.plots import place_by_tsne
from run_scripts.common.quiet import quiet_libraries
from run_scripts.common.source import hash_files, have_files_changed, load_splits
from run_scripts.embedding.arguments import EmbeddingArguments
from run_scripts.embedding.parts import read_settings
from run_scripts.embedding.search import Index, name_row
from run_scripts.embedding.source import Source


logger = logging.getLogger(__name__)

MAP = "map.html"
TEMPLATE = Path(__file__).with_name("map.html")

# A page with more points than this is slow to open. t-SNE of more than LANDMARKS takes minutes.
MAX_POINTS = 100_000
LANDMARKS = 5000
# The others are placed between this many landmarks. A similarity that is larger by SHARPNESS weighs e times as much.
NEIGHBOURS, SHARPNESS = 5, 0.05
SIMILAR = 20
# Points whose similarities to all others are computed at a time.
BLOCK_POINTS = 512

# Files of these formats are played from where they are. The audio of other clips is in the page: their first seconds,
# which are fewer where there are many clips.
PLAYED_BY_BROWSERS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".webm")
MAX_AUDIO_BYTES = 2**25
BYTES_PER_SECOND = 8000  # about as many as a second takes
MIN_SECONDS, MAX_SECONDS = 0.5, 10.0

# What the script must know to read the clips again.
SOURCE_SETTINGS = ("dataset_name", "dataset_config_name", "dataset_split", "streaming", "allow_remote_audio")


def write_map(args: EmbeddingArguments) -> Path:
    """
    Writes `map.html` to the folder of an embedding, and returns its path.

    Raises:
        `FileNotFoundError`: If the folder has no vectors.
        `ValueError`: If there are fewer than three of them.
    """
    folder = args.output_path
    index = Index(folder)
    write_text(folder / MAP, fill_page(describe_map(index, choose_rows(index, folder), folder, folder)))
    logger.info(f"Open {folder / MAP} in a browser.")
    return folder / MAP


def choose_rows(index: Index, folder: Path) -> np.ndarray:
    """Chooses the rows of the index of a folder that a map shows; fewer than three are a [`UserError`]."""
    chosen = np.arange(len(index.vectors))
    if len(chosen) < 3:
        raise UserError(f"A map needs at least three vectors, and {folder} has only {len(chosen)}.")
    if len(chosen) > MAX_POINTS:
        logger.warning(f"The map shows {MAX_POINTS} of {len(chosen)} clips or windows, chosen at random.")
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAX_POINTS, replace=False))
    return chosen


def describe_map(
    index: Index, chosen: np.ndarray, folder: Path, page_folder: Path, copy_audio: bool = False
) -> dict[str, Any]:
    """
    Collects what the page shows: the title, the names of the groups and what these are, labels or folders, and the
    points.

    Args:
        index ([`Index`]):
            The vectors and their rows.
        chosen (`np.ndarray` of shape `(num_points,)`):
            The numbers of the rows to show, as [`choose_rows`] returns them.
        folder (`Path`):
            The folder of the index.
        page_folder (`Path`):
            The folder of the page, to which the links to the audio are relative.
        copy_audio (`bool`, *optional*, defaults to `False`):
            Whether the page holds the first seconds of all clips, rather than links to those that are files.
    """
    settings = read_settings(folder)
    rows, vectors = index.rows.select(chosen).to_list(), index.vectors[chosen]
    groups = _groups(rows)
    names = sorted(set(groups))
    numbers = {name: number for number, name in enumerate(names)}
    audio = _audio(rows, page_folder, settings, copy_audio)
    fields = zip(_positions(vectors), _names(rows), groups, _similar(vectors), audio)
    return {
        "title": Path(settings["dataset_name"] or folder).name,
        "grouped_by": "label" if _are_labelled(rows) else "folder",
        "groups": names,
        "points": [
            {"x": x, "y": y, "name": name, "group": numbers[group], "similar": similar, "audio": link}
            for (x, y), name, group, similar, link in fields
        ],
    }


def fill_page(page: dict[str, Any], scripts: str = "") -> str:
    """Fills the template of the page with what it shows and, optionally, with the elements of scripts to load."""
    # No name of a clip can end the script.
    data = json.dumps(page, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATE.read_text().replace("{{SCRIPTS}}", scripts).replace("{{DATA}}", data)


def _positions(vectors: np.ndarray) -> list[list[float]]:
    """
    Places vectors in a square of side 1 by t-SNE. If there are many, some of them are placed by t-SNE, and each of the
    others is placed among the most similar of these.
    """
    if len(vectors) <= LANDMARKS:
        points = place_by_tsne(vectors)
    else:
        landmarks = np.random.default_rng(0).choice(len(vectors), LANDMARKS, replace=False)
        points = _place_among(vectors, vectors[landmarks], place_by_tsne(vectors[landmarks]))
    lowest, extent = points.min(axis=0), np.ptp(points, axis=0)
    return np.round((points - lowest) / np.maximum(extent, 1e-9), 4).tolist()


def _place_among(vectors: np.ndarray, landmarks: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places each of the vectors `[N, hidden_size]` at the mean place `[N, 2]` of the landmarks most similar to it."""
    points, landmarks, places = [], torch.from_numpy(landmarks), torch.from_numpy(places)
    for block in torch.from_numpy(vectors).split(BLOCK_POINTS):
        best = (block @ landmarks.T).topk(NEIGHBOURS)
        weights = (best.values / SHARPNESS).softmax(dim=1)
        points.append((weights[..., None] * places[best.indices]).sum(dim=1))
    return torch.cat(points).numpy()


def _similar(vectors: np.ndarray) -> list[list[list[float]]]:
    """For each vector the others that are most similar: their numbers and similarities."""
    similar, count = [], min(SIMILAR, len(vectors) - 1)
    vectors = torch.from_numpy(vectors)
    for block in vectors.split(BLOCK_POINTS):
        similarities = block @ vectors.T
        similarities[torch.arange(len(block)), torch.arange(len(similar), len(similar) + len(block))] = -torch.inf
        best = similarities.topk(count)
        values = best.values.double().numpy().round(3).tolist()
        similar += [list(map(list, zip(*pair))) for pair in zip(best.indices.tolist(), values)]
    return similar


def _common_folder(rows: list[dict[str, Any]]) -> str:
    paths = {os.path.dirname(row["path"]) for row in rows if row["path"]}
    return os.path.commonpath(paths) if paths and len({os.path.isabs(path) for path in paths}) == 1 else ""


def _are_labelled(rows: list[dict[str, Any]]) -> bool:
    return any(row.get("label") for row in rows)


def _groups(rows: list[dict[str, Any]]) -> list[str]:
    """What the colours mean: the labels or, without any, the topmost folders in which the clips differ."""
    if _are_labelled(rows):
        return [row["label"] or "no label" for row in rows]
    common = _common_folder(rows)
    folders = [os.path.relpath(os.path.dirname(row["path"] or "") or ".", common or ".") for row in rows]
    return ["" if folder == "." else folder.split(os.sep)[0] for folder in folders]


def _names(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The paths without what they have in common, each with the time if it is that of a window."""
    common = _common_folder(rows)
    for row in rows:
        yield name_row(row, os.path.relpath(row["path"], common or ".") if row["path"] else None)


def _audio(
    rows: list[dict[str, Any]], folder: Path, settings: dict[str, Any], copy_audio: bool = False
) -> list[str | None]:
    """For each row a link to its audio, relative to the page, or the audio itself."""
    links, inside = [None] * len(rows), {}
    for number, row in enumerate(rows):
        if not copy_audio and _is_playable(row["path"]):
            part = f"#t={row['time']:.2f},{row['time'] + settings['window_seconds']:.2f}" if "time" in row else ""
            links[number] = quote(os.path.relpath(row["path"], folder.resolve())) + part
        else:
            inside.setdefault(row["clip"], []).append(number)
    if not inside or settings["dataset_name"] is None:  # the data of a copy are not here
        return links
    longest = settings["window_seconds"] if "time" in rows[0] else MAX_SECONDS
    seconds = MAX_AUDIO_BYTES / BYTES_PER_SECOND / sum(map(len, inside.values()))
    if seconds < MIN_SECONDS:
        step = math.ceil(MIN_SECONDS / seconds)
        logger.warning(f"Of {step} clips one can be heard in the page: the audio of all would be too large for it.")
        inside, seconds = dict(list(inside.items())[::step]), MIN_SECONDS
    seconds = min(seconds, longest)
    args = EmbeddingArguments(output_dir=".", **{name: settings[name] for name in SOURCE_SETTINGS})
    with quiet_libraries():
        splits = load_splits(args)
        source = Source(splits, settings["audio_column"])
    if have_files_changed(settings, hash_files(args.dataset_name, splits, source.audio_column, exclude=folder)):
        logger.warning(
            f"The files of {args.dataset_name} have changed since they were embedded: their audio is left out."
        )
        return links
    for i, clip in enumerate(source.read()):
        for number in inside.get(i, []):
            links[number] = _encode(clip.audio, rows[number].get("time", 0.0), seconds)
    return links


def _is_playable(path: str | None) -> bool:
    is_file = path is not None and os.path.isabs(path) and os.path.exists(path)
    return is_file and path.lower().endswith(PLAYED_BY_BROWSERS)


def _encode(audio: Any, start: float, seconds: float) -> str | None:
    """Encodes a part of a clip as a URL that holds the audio. `None` if it cannot be decoded any more."""
    try:
        waveform = load_audio(audio, 16000, start, seconds)
    except BadClipError:
        return None
    file = io.BytesIO()
    soundfile.write(file, waveform, 16000, format="OGG", subtype="VORBIS")
    return "data:audio/ogg;base64," + base64.b64encode(file.getvalue()).decode()
