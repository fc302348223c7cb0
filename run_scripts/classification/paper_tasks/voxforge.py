"""Spoken language identification on VoxForge."""

import gzip
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from run_scripts.classification.paper_tasks.base import Clips, Task, TaskClip, find_files, seeded_splits
from run_scripts.common.errors import MissingFileError


LANGUAGES = ["de", "en", "es", "fr", "it", "ru"]


def load_voxforge(root: Path) -> Clips:
    """
    The speakers of all languages are split at random, 70/10/20. All recordings of one speaker are in the same split.

    There is no official split, so this one is our own. The speaker is the part of an archive's name before the first
    `-`, in any language, so all who are called "anonymous" count as one speaker. The shares are those of the speakers;
    the shares of the clips differ from them.
    """
    archives = {
        path: language
        for language in LANGUAGES
        for path in find_files(root, f"{language}/Trunk/Audio/Main/16kHz_16bit/*.tgz")
    }
    speakers = {path: path.split("/")[-1].split("-")[0] for path in archives}
    splits = seeded_splits(speakers.values())
    members = list_archives(root, list(archives))
    clips = [
        # fsspec reads the member from within the archive; the protocol `gzip` comes with `datasets`.
        TaskClip(splits[speakers[path]], f"tar://{name}::gzip://::{root / path}", language)
        for path, language in archives.items()
        for name in members[path]
    ]
    return LANGUAGES, clips


def list_archives(root: Path, paths: list[str]) -> dict[str, list[str]]:
    """
    Lists the audio files in each archive. Damaged archives are a [`MissingFileError`].

    The names are spread over the whole archive, so that it must be decompressed to list them. Reading a row later
    decompresses it once more, which takes about 20 ms: to train for many epochs, convert the data set to shards first.
    """
    with ThreadPoolExecutor() as threads:
        members = dict(zip(paths, threads.map(lambda path: list_audio(root / path), paths)))
    damaged = [path for path, names in members.items() if names is None]
    if damaged:
        examples = ", ".join(damaged[:3]) + (", ..." if len(damaged) > 3 else "")
        raise MissingFileError(
            f"{root} contains {len(damaged)} archives that are damaged or incomplete: {examples}. Download them again "
            "or delete them."
        )
    return members


def list_audio(path: Path) -> list[str] | None:
    """Returns the names of the audio files in a `.tgz` archive, or `None` if the archive is damaged."""
    from feature_extraction.audio import AUDIO_SUFFIXES  # only here, since its package loads PyTorch

    try:
        with tarfile.open(path, "r:gz") as archive:
            names = [member.name for member in archive if member.isfile()]
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError):
        return None
    return sorted(
        name
        for name in names
        if name.lower().endswith(AUDIO_SUFFIXES) and not name.split("/")[-1].startswith(".")  # macOS's "._a.wav"
    )


VOXFORGE = Task(
    name="voxforge",
    num_classes=6,
    accuracies={"random": 59.1, "supervised": 85.0, "frozen": 71.3, "fine-tuned": 82.9},
    homepage="https://www.voxforge.org",
    licence="GPL",
    layout="<language>/Trunk/Audio/Main/16kHz_16bit/<speaker>-<date>-<x>.tgz for de, en, es, fr, it and ru, as "
    "downloaded (not extracted)",
    loader=load_voxforge,
)
