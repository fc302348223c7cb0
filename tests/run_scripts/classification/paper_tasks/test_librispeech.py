"""Speaker identification on LibriSpeech."""

import shutil

import pytest

from miniatures import counts, labels, paths
from run_scripts.classification.paper_tasks import TASKS


def test_librispeech(loaded):
    splits = loaded["librispeech_speaker"]
    assert counts(splits) == (21, 3, 6)
    for rows, each in zip(splits.values(), (7, 1, 2)):
        assert rows.features["label"].names == ["19", "26", "1034"]
        assert sorted(labels(rows)) == sorted(["19", "26", "1034"] * each)
        assert [path.split("/")[-3] for path in paths(rows)] == labels(rows)


def test_librispeech_without_a_speaker(copy_of):
    folder = copy_of("librispeech_speaker")
    shutil.rmtree(folder / "LibriSpeech/train-clean-100/26")
    with pytest.raises(FileNotFoundError, match=r"train-clean-100 lacks 1 of its files or folders: 26\."):
        TASKS["librispeech_speaker"].load(folder)
    (folder / "LibriSpeech/SPEAKERS.TXT").unlink()  # then nobody can know
    assert TASKS["librispeech_speaker"].load(folder)["train"].features["label"].names == ["19", "1034"]
