"""Speaker identification on LibriSpeech."""

from pathlib import Path

from run_scripts.classification.paper_tasks.base import (
    Clips,
    Task,
    TaskClip,
    find_files,
    inner_folder,
    require_files,
    seeded_splits,
)


SUBSET = "train-clean-100"


def load_librispeech(root: Path) -> Clips:
    """
    The utterances of each speaker are split at random, 70/10/20, so that every speaker is in all three splits.

    There is no official split of train-clean-100 for speaker identification, so this one is our own. Utterances of the
    same chapter can be in different splits.
    """
    root = inner_folder(root, "LibriSpeech")
    utterances: dict[str, list[str]] = {}
    for path in find_files(root, f"{SUBSET}/*/*/*.flac"):
        utterances.setdefault(path.split("/")[1], []).append(path)
    if (root / "SPEAKERS.TXT").is_file():
        speakers = read_speakers(root / "SPEAKERS.TXT")
        require_files(root / SUBSET, speakers, utterances)
    else:
        speakers = sorted(utterances, key=lambda speaker: (len(speaker), speaker))  # the order of the numbers
    clips = [
        TaskClip(split, str(root / path), speaker)
        for speaker, paths in utterances.items()
        for path, split in sorted(seeded_splits(paths).items())
    ]
    return speakers, clips


def read_speakers(path: Path) -> list[str]:
    """Reads from SPEAKERS.TXT which speakers train-clean-100 consists of."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
    return [row[0] for row in rows if row[2:3] == [SUBSET]]


LIBRISPEECH_SPEAKER = Task(
    name="librispeech_speaker",
    num_classes=251,
    accuracies={"random": 0.4, "supervised": 100.0, "frozen": 100.0, "fine-tuned": 100.0},
    homepage="https://www.openslr.org/12",
    licence="CC BY 4.0",
    layout="LibriSpeech/train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac and, if all speakers "
    "shall be checked for, LibriSpeech/SPEAKERS.TXT",
    loader=load_librispeech,
)
