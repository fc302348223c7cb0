"""Acoustic scene classification on TUT Urban Acoustic Scenes 2018."""

from pathlib import Path

from run_scripts.classification.paper_tasks.base import (
    SHARES,
    SHARES_WITHOUT_TEST,
    Clips,
    Task,
    TaskClip,
    find_files,
    inner_folder,
    require_files,
    seeded_splits,
)
from run_scripts.common.errors import UserError


SCENES = [
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
]


def load_tut_urban_2018(root: Path) -> Clips:
    """
    Fold 1 of the development set. It has no validation split, so one in eight of the training locations of each scene
    is used for validation.

    Without the folder evaluation_setup, the locations of each scene are split at random, 70/10/20. No location is in
    two splits.
    """
    root = inner_folder(root, "TUT-urban-acoustic-scenes-2018-development")
    files = find_files(root, "audio/*.wav")
    scenes, locations = {}, {}
    for path in files:
        parts = path.removeprefix("audio/").split("-")
        if len(parts) != 5:
            raise UserError(f"{root / path} is not named <scene>-<city>-<location>-<segment>-<device>.wav.")
        scenes[path], locations[path] = parts[0], "-".join(parts[1:3])

    if (root / "meta.csv").is_file():
        read_list(root, "meta.csv", files)  # only to check that all its files are there
    if (root / "evaluation_setup").is_dir():
        train = read_list(root, "evaluation_setup/fold1_train.txt", files)
        # Either list will do: both name the same recordings, and the labels are taken from the names.
        has_labels = (root / "evaluation_setup/fold1_evaluate.txt").is_file()
        test = read_list(root, f"evaluation_setup/fold1_{'evaluate' if has_labels else 'test'}.txt", files)
        splits = split_by_location(train, scenes, locations, SHARES_WITHOUT_TEST)
        splits |= dict.fromkeys(test, "test")
    else:
        splits = split_by_location(files, scenes, locations, SHARES)
    return SCENES, [TaskClip(splits[path], str(root / path), scenes[path]) for path in sorted(splits)]


def read_list(root: Path, name: str, files: list[str]) -> list[str]:
    """Reads the paths in the first column of a tab-separated list, with or without a header. Its files must exist."""
    lines = (root / name).read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t")[0].strip() for line in lines]
    listed = [cell for cell in cells if cell.endswith(".wav")]
    require_files(root, listed, files)
    return listed


def split_by_location(
    paths: list[str], scenes: dict[str, str], locations: dict[str, str], shares: tuple[float, float, float]
) -> dict[str, str]:
    """
    Splits recordings at random in these shares, so that all recordings of one location are in the same split and every
    scene is in all of them. Returns the split of each recording.
    """
    scene_of = {locations[path]: scenes[path] for path in paths}
    split_of = {}
    for scene in set(scene_of.values()):
        split_of |= seeded_splits([place for place in scene_of if scene_of[place] == scene], shares)
    return {path: split_of[locations[path]] for path in paths}


TUT_URBAN_2018 = Task(
    name="tut_urban_2018",
    num_classes=10,
    accuracies={"random": 8.6, "supervised": 98.2, "frozen": 94.1, "fine-tuned": 99.2},
    homepage="https://zenodo.org/records/1228142",
    licence="Tampere University of Technology's own, for non-commercial use: see the homepage",
    layout="TUT-urban-acoustic-scenes-2018-development/ with meta.csv, "
    "audio/<scene>-<city>-<location>-<segment>-<device>.wav, and evaluation_setup/ with fold1_train.txt and "
    "fold1_evaluate.txt or fold1_test.txt",
    loader=load_tut_urban_2018,
)
