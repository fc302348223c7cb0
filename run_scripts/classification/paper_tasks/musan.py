"""Telling music, speech and noise apart on MUSAN."""

from pathlib import Path

from run_scripts.classification.paper_tasks.base import Clips, Task, TaskClip, find_files, inner_folder, seeded_splits


CLASSES = ["music", "speech", "noise"]


def load_musan(root: Path) -> Clips:
    """
    The files of each class are split at random, 70/10/20.

    There is no official split, so this one is our own. The files are long, and each of them is in one split only, but
    other files of the same album or of the same reader can be in another split.
    """
    root = inner_folder(root, "musan")
    clips = []
    for label in CLASSES:
        splits = seeded_splits(find_files(root, f"{label}/**/*.wav"))
        clips += [TaskClip(split, str(root / path), label) for path, split in sorted(splits.items())]
    return CLASSES, clips


MUSAN = Task(
    name="musan",
    num_classes=3,
    accuracies={"random": 56.8, "supervised": 99.3, "frozen": 99.1, "fine-tuned": 99.4},
    homepage="https://www.openslr.org/17",
    licence="CC BY 4.0; the data set states the licence of each file",
    layout="musan/{music,speech,noise}/<source>/**/*.wav",
    loader=load_musan,
)
