"""Music, speech and noise of MUSAN."""

import shutil
from pathlib import Path

import pytest

from miniatures import counts, labels, paths, write_audio
from run_scripts.classification.paper_tasks import TASKS


def test_musan(loaded):
    splits = loaded["musan"]
    assert counts(splits) == (21, 3, 6)
    for rows, each in zip(splits.values(), (7, 1, 2)):
        assert rows.features["label"].names == ["music", "speech", "noise"]
        assert labels(rows) == ["music"] * each + ["speech"] * each + ["noise"] * each
        assert [Path(path).name.split("-")[0] for path in paths(rows)] == labels(rows)


def test_half_downloaded_musan(copy_of):
    folder = copy_of("musan")
    write_audio(folder / "musan/music/._hidden.wav")
    assert counts(TASKS["musan"].load(folder)) == (21, 3, 6)
    shutil.rmtree(folder / "musan/noise")
    with pytest.raises(FileNotFoundError, match=r"musan contains no noise/\*\*/\*\.wav"):
        TASKS["musan"].load(folder)
