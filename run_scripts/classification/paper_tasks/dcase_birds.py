"""Bird detection on the three labelled sets of DCASE 2018, task 3."""

import csv
from pathlib import Path

from run_scripts.classification.paper_tasks.base import (
    SHARES_WITHOUT_TEST,
    Clips,
    Task,
    TaskClip,
    find_files,
    require_files,
    seeded_splits,
)
from run_scripts.common.errors import UserError


BIRD_SETS = ["BirdVox-DCASE-20k", "ff1010bird", "warblrb10k"]
BIRD_LABELS = {"0": "no bird", "1": "bird"}


def load_dcase2018_birds(root: Path, held_out_set: str | None = None) -> Clips:
    """
    The recordings of all three sets are split at random, 70/10/20.

    There is no official random split, so this one is our own: the challenge tests on other sets, to see how well a
    detector generalizes to new conditions. With `held_out_set`, which is BirdVox-DCASE-20k, ff1010bird or warblrb10k,
    that set is the test split, and the other two are split 7 to 1 into the training and validation splits.
    """
    if held_out_set not in (None, *BIRD_SETS):
        raise UserError(f"`held_out_set` must be one of {', '.join(BIRD_SETS)}, got {held_out_set!r}.")
    labels, sets = read_tables(root)
    require_files(root, labels, find_files(root, "audio/*/*.wav"))
    if held_out_set is None:
        splits = seeded_splits(labels)
    else:
        splits = seeded_splits([path for path in labels if sets[path] != held_out_set], SHARES_WITHOUT_TEST)
        splits |= {path: "test" for path in labels if sets[path] == held_out_set}
    clips = [TaskClip(splits[path], str(root / path), labels[path]) for path in sorted(labels)]
    return list(BIRD_LABELS.values()), clips


def read_tables(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """
    Reads the tables in the folder labels: the label of each recording, and the set that it belongs to. The sets are
    identified by the column `datasetid`, since the names of the tables differ between downloads.
    """
    labels, sets = {}, {}
    for table in find_files(root, "labels/*.csv"):
        with open(root / table, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"itemid", "datasetid", "hasbird"} <= set(reader.fieldnames or []):
                raise UserError(f"{root / table} must have the columns itemid, datasetid and hasbird.")
            for row in reader:
                path = f"audio/{row['datasetid']}/{row['itemid']}.wav"
                labels[path] = BIRD_LABELS.get(row["hasbird"], row["hasbird"])
                sets[path] = row["datasetid"]
    found = set(sets.values())
    require_files(root, [f"labels/{name}.csv" for name in BIRD_SETS], [f"labels/{name}.csv" for name in found])
    return labels, sets


DCASE2018_BIRDS = Task(
    name="dcase2018_birds",
    num_classes=2,
    accuracies={"random": 49.6, "supervised": 79.4, "frozen": 77.0, "fine-tuned": 80.2},
    homepage="https://dcase.community/challenge2018/task-bird-audio-detection",
    licence="each of the three sets has its own: see the homepage",
    layout="audio/<set>/<itemid>.wav and labels/<set>.csv (itemid,datasetid,hasbird) for the sets "
    "BirdVox-DCASE-20k, ff1010bird and warblrb10k",
    loader=load_dcase2018_birds,
)
