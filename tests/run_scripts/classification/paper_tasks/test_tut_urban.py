"""TUT Urban Acoustic Scenes 2018."""

import shutil
from pathlib import Path

import pytest
import soundfile

from miniatures import SCENES, assert_disjoint, counts, labels, paths, write_audio
from run_scripts.classification.paper_tasks import TASKS


def location(path: str) -> str:
    return "-".join(Path(path).name.split("-")[1:3])


def test_tut(loaded, roots):
    splits = loaded["tut_urban_2018"]
    assert counts(splits) == (10 * 7 * 2, 10 * 2, 10 * 2 * 2)  # one training location in eight is for validation
    assert_disjoint(splits, key=location)
    listed = roots["tut_urban_2018"] / "TUT-urban-acoustic-scenes-2018-development/evaluation_setup/fold1_test.txt"
    assert sorted(path.split("development/")[1] for path in paths(splits["test"])) == sorted(
        listed.read_text().split()
    )
    for rows in splits.values():
        assert rows.features["label"].names == SCENES and set(labels(rows)) == set(SCENES)
        assert [Path(path).name.split("-")[0] for path in paths(rows)] == labels(rows)
    info = soundfile.info(paths(splits["train"])[0])
    assert (info.samplerate, info.channels, info.subtype) == (48000, 2, "PCM_24")


def test_tut_with_the_test_list_only(copy_of, loaded):
    folder = copy_of("tut_urban_2018")
    lists = folder / "TUT-urban-acoustic-scenes-2018-development/evaluation_setup"
    (lists / "fold1_evaluate.txt").unlink()
    splits = TASKS["tut_urban_2018"].load(folder)
    assert [rows["label"] for rows in splits.values()] == [rows["label"] for rows in loaded["tut_urban_2018"].values()]
    (lists / "fold1_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file .*fold1_test\.txt"):
        TASKS["tut_urban_2018"].load(folder)


def test_tut_without_lists_is_split_by_location(copy_of):
    folder = copy_of("tut_urban_2018")
    shutil.rmtree(folder / "TUT-urban-acoustic-scenes-2018-development/evaluation_setup")
    splits = TASKS["tut_urban_2018"].load(folder)
    assert counts(splits) == (140, 20, 40)
    assert_disjoint(splits, key=location)
    assert all(set(labels(rows)) == set(SCENES) for rows in splits.values())


def test_half_downloaded_tut(copy_of, tmp_path):
    folder = copy_of("tut_urban_2018")
    root = folder / "TUT-urban-acoustic-scenes-2018-development"
    (root / "audio/bus-lyon-10-0-a.wav").unlink()
    missing = r"lacks 1 of its files or folders: audio/bus-lyon-10-0-a\.wav\."
    with pytest.raises(FileNotFoundError, match=missing):
        TASKS["tut_urban_2018"].load(folder)
    lists = (root / "evaluation_setup").rename(tmp_path / "lists")
    with pytest.raises(FileNotFoundError, match=missing):
        TASKS["tut_urban_2018"].load(folder)
    lists.rename(root / "evaluation_setup")
    (root / "meta.csv").unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        TASKS["tut_urban_2018"].load(folder)
    write_audio(root / "audio/bus.wav")
    with pytest.raises(ValueError, match=r"bus\.wav is not named <scene>-<city>"):
        TASKS["tut_urban_2018"].load(folder)
    (root / "audio/bus.wav").rename(root / "audio/boat-lyon-200-0-a.wav")
    shutil.rmtree(root / "evaluation_setup")
    with pytest.raises(ValueError, match=r"boat-lyon-200-0-a\.wav has the label 'boat', which is none of airport"):
        TASKS["tut_urban_2018"].load(folder)
