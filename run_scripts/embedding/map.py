"""A page to look at embedded clips and to listen to them: one HTML file, which needs nothing else."""

import base64
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile

from feature_extraction import BadClipError, load_audio
from run_scripts.common.errors import UserError
from run_scripts.common.files import write_text
from run_scripts.common.plots import place_by_tsne
from run_scripts.common.quiet import quiet_libraries
from run_scripts.common.source import load_splits
from run_scripts.embedding.arguments import EmbeddingArguments
from run_scripts.embedding.parts import read_settings
from run_scripts.embedding.search import Index
from run_scripts.embedding.source import Source


logger = logging.getLogger(__name__)

MAP = "map.html"
TEMPLATE = Path(__file__).with_name("map.html")

# More points are hard to tell apart, and t-SNE of more takes minutes.
MAX_POINTS = 5000
SIMILAR = 20

# Files of these formats are played from where they are. The audio of other clips is in the page: their first seconds,
# which are fewer where there are many clips.
PLAYED_BY_BROWSERS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".webm")
MAX_AUDIO_BYTES = 2**25
BYTES_PER_SECOND = 8000  # about as many as a second takes
MAX_SECONDS = 10.0
WINDOW_SECONDS = 0.96

# What the script must know to read the clips again.
SOURCE_SETTINGS = ("dataset_name", "dataset_config_name", "dataset_split", "streaming", "allow_remote_audio")


def write_map(args: EmbeddingArguments) -> Path:
    """
    Writes `map.html` to the folder of an embedding, and returns its path.

    Raises:
        `FileNotFoundError`: If the folder has no vectors.
        `ValueError`: If there are fewer than three of them.
    """
    folder, settings = args.output_path, read_settings(args.output_path)
    index = Index(folder)
    if len(index.vectors) < 3:
        raise UserError(f"A map needs at least three vectors, and {folder} has only {len(index.vectors)}.")
    chosen = np.arange(len(index.vectors))
    if len(chosen) > MAX_POINTS:
        logger.warning(f"The map shows {MAX_POINTS} of {len(chosen)} clips or windows, chosen at random.")
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAX_POINTS, replace=False))
    rows, vectors = index.rows.select(chosen).to_list(), index.vectors[chosen]
    groups = _groups(rows)
    names = sorted(set(groups))
    page = {"title": Path(settings["dataset_name"] or folder).name, "groups": names}
    fields = zip(_positions(vectors), _names(rows), groups, _similar(vectors), _audio(rows, folder, settings))
    page["points"] = [
        {"x": x, "y": y, "name": name, "group": names.index(group), "similar": similar, "audio": audio}
        for (x, y), name, group, similar, audio in fields
    ]
    # No name of a clip can end the script.
    data = json.dumps(page, separators=(",", ":")).replace("<", "\\u003c")
    write_text(folder / MAP, TEMPLATE.read_text().replace("{{DATA}}", data))
    logger.info(f"Open {folder / MAP} in a browser.")
    return folder / MAP


def _positions(vectors: np.ndarray) -> list[list[float]]:
    """Places vectors in a square of side 1 by t-SNE."""
    points = place_by_tsne(vectors)
    lowest, extent = points.min(axis=0), np.ptp(points, axis=0)
    return np.round((points - lowest) / np.maximum(extent, 1e-9), 4).tolist()


def _similar(vectors: np.ndarray) -> list[list[list[float]]]:
    """For each vector the others that are most similar: their numbers and similarities."""
    similar, count = [], min(SIMILAR, len(vectors) - 1)
    for number, vector in enumerate(vectors):
        similarities = vectors @ vector
        similarities[number] = -np.inf
        best = np.argsort(-similarities, kind="stable")[:count]
        similar.append([[int(i), round(float(similarities[i]), 3)] for i in best])
    return similar


def _common_folder(rows: list[dict[str, Any]]) -> str:
    paths = {os.path.dirname(row["path"]) for row in rows if row["path"]}
    return os.path.commonpath(paths) if paths and len({os.path.isabs(path) for path in paths}) == 1 else ""


def _groups(rows: list[dict[str, Any]]) -> list[str]:
    """What the colours mean: the labels or, without any, the topmost folders in which the clips differ."""
    if any(row.get("label") for row in rows):
        return [row["label"] or "no label" for row in rows]
    common = _common_folder(rows)
    folders = [os.path.relpath(os.path.dirname(row["path"] or ""), common or ".") for row in rows]
    return ["" if folder == "." else folder.split(os.sep)[0] for folder in folders]


def _names(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The paths without what they have in common, each with the time if it is that of a window."""
    common = _common_folder(rows)
    for row in rows:
        name = os.path.relpath(row["path"], common or ".") if row["path"] else f"clip {row['clip']}"
        yield f"{name}@{row['time']:.1f}" if "time" in row else name


def _audio(rows: list[dict[str, Any]], folder: Path, settings: dict[str, Any]) -> list[str | None]:
    """For each row a link to its audio, relative to the page, or the audio itself."""
    links, inside = [None] * len(rows), {}
    for number, row in enumerate(rows):
        if _is_playable(row["path"]):
            part = f"#t={row['time']:.2f},{row['time'] + WINDOW_SECONDS:.2f}" if "time" in row else ""
            links[number] = quote(os.path.relpath(row["path"], folder.resolve())) + part
        else:
            inside.setdefault(row["clip"], []).append(number)
    if not inside or settings["dataset_name"] is None:  # the data of a copy are not here
        return links
    longest = WINDOW_SECONDS if "time" in rows[0] else MAX_SECONDS
    seconds = np.clip(MAX_AUDIO_BYTES / BYTES_PER_SECOND / sum(map(len, inside.values())), 0.5, longest)
    args = EmbeddingArguments(output_dir=".", **{name: settings[name] for name in SOURCE_SETTINGS})
    with quiet_libraries():
        source = Source(load_splits(args), settings["audio_column"])
    for i, clip in enumerate(source.read()):
        for number in inside.get(i, []):
            links[number] = _encode(clip.audio, rows[number].get("time", 0.0), float(seconds))
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
