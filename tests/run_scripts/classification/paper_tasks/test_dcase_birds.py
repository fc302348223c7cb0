"""Bird detection of DCASE 2018."""

from pathlib import Path

import pytest

from miniatures import BIRD_SETS, assert_disjoint, counts, paths
from run_scripts.classification.paper_tasks import TASKS


def test_birds(loaded):
    splits = loaded["dcase2018_birds"]
    assert counts(splits) == (21, 3, 6)
    for rows in splits.values():
        assert rows.features["label"].names == ["no bird", "bird"]
        assert [int(Path(path).stem[-1]) % 2 for path in paths(rows)] == rows["label"]


@pytest.mark.parametrize("held_out_set", BIRD_SETS)
def test_birds_with_a_set_held_out(roots, held_out_set):
    splits = TASKS["dcase2018_birds"].load(roots["dcase2018_birds"], held_out_set=held_out_set)
    assert counts(splits) == (18, 2, 10)
    assert {path.split("/")[-2] for path in paths(splits["test"])} == {held_out_set}
    assert_disjoint(splits, key=str)


def test_tables_of_birds_may_have_other_names(copy_of, loaded):
    folder = copy_of("dcase2018_birds")
    (folder / "labels/ff1010bird.csv").rename(folder / "labels/ff1010bird_metadata_2018.csv")
    splits = TASKS["dcase2018_birds"].load(folder)
    assert [rows["label"] for rows in splits.values()] == [
        rows["label"] for rows in loaded["dcase2018_birds"].values()
    ]


def test_half_downloaded_birds(copy_of):
    folder = copy_of("dcase2018_birds")
    load = TASKS["dcase2018_birds"].load
    with pytest.raises(ValueError, match="`held_out_set` must be one of BirdVox-DCASE-20k, ff1010bird"):
        load(folder, held_out_set="birds")
    (folder / "audio/warblrb10k/warb3.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of .*: audio/warblrb10k/warb3\.wav"):
        load(folder)
    (folder / "labels/warblrb10k.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of .*: labels/warblrb10k\.csv"):
        load(folder)
    (folder / "labels/warblrb10k.csv").write_text("itemid,hasbird\nwarb0,1\n")
    with pytest.raises(ValueError, match=r"warblrb10k\.csv must have the columns itemid, datasetid and hasbird"):
        load(folder)
