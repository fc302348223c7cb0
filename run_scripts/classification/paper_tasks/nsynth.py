"""Instrument family classification on NSynth."""

import json
from pathlib import Path

from run_scripts.classification.paper_tasks.base import Clips, Task, TaskClip, find_files, require_files
from run_scripts.common.errors import UserError


FAMILIES = [
    "bass",
    "brass",
    "flute",
    "guitar",
    "keyboard",
    "mallet",
    "organ",
    "reed",
    "string",
    "synth_lead",
    "vocal",
]
FOLDERS = {"nsynth-train": "train", "nsynth-valid": "validation", "nsynth-test": "test"}


def load_nsynth(root: Path) -> Clips:
    """
    The official split: no instrument of the training split is in the validation or test split, and neither of these
    contains the family synth_lead.
    """
    clips = []
    for folder, split in FOLDERS.items():
        table = root / folder / "examples.json"
        try:
            notes = json.loads(table.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UserError(f"{table} is damaged or incomplete ({error}). Download it again.") from None
        families = {
            f"{folder}/audio/{note}.wav": description.get("instrument_family_str")
            for note, description in sorted(notes.items())
        }
        require_files(root, families, find_files(root, f"{folder}/audio/*.wav"))
        clips += [TaskClip(split, str(root / path), family) for path, family in families.items()]
    return FAMILIES, clips


NSYNTH = Task(
    name="nsynth",
    num_classes=11,
    accuracies={"random": 20.8, "supervised": 70.7, "frozen": 63.4, "fine-tuned": 73.0},
    homepage="https://magenta.tensorflow.org/datasets/nsynth",
    licence="CC BY 4.0",
    layout="nsynth-train, nsynth-valid and nsynth-test, each with examples.json and audio/<note>.wav",
    loader=load_nsynth,
)
