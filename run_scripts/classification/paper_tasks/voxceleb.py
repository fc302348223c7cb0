"""Speaker identification on VoxCeleb1."""

from pathlib import Path

from run_scripts.classification.paper_tasks.base import Clips, Task, TaskClip, find_files, require_files
from run_scripts.common.errors import UserError


PARTS = {"1": "train", "2": "validation", "3": "test"}


def load_voxceleb1(root: Path) -> Clips:
    """The official split for identification, iden_split.txt."""
    table = root / "iden_split.txt"
    splits = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
        part, _, path = line.strip().partition(" ")
        if part not in PARTS:
            raise UserError(f"{table}, line {number}, must be <1|2|3> <path>, but is {line!r}.")
        splits[f"wav/{path.strip()}"] = PARTS[part]
    require_files(root, splits, find_files(root, "wav/*/*/*.wav"))
    clips = [TaskClip(splits[path], str(root / path), path.split("/")[1]) for path in sorted(splits)]
    return sorted({clip.label for clip in clips}), clips


VOXCELEB1 = Task(
    name="voxceleb1",
    num_classes=1251,
    accuracies={"random": 0.0, "supervised": 31.7, "frozen": 29.9, "fine-tuned": 37.7},
    homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
    licence="CC BY 4.0; the copyright of the videos remains with their owners: see the homepage",
    layout="wav/<speaker>/<video>/<number>.wav, of both the development and the test part, and iden_split.txt",
    loader=load_voxceleb1,
)
