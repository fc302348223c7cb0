"""Speaker identification on VoxCeleb1."""

import shutil

import pytest

from miniatures import counts, labels, paths
from run_scripts.classification.paper_tasks import TASKS


def test_voxceleb(loaded):
    splits = loaded["voxceleb1"]
    assert counts(splits) == (6, 6, 6)
    for rows, video in zip(splits.values(), ("1zcIwhmdeo4", "-7gTaLMp3hk", "_aB3dE6gH9k")):
        assert rows.features["label"].names == ["id10001", "id10002", "id11251"]
        assert {path.split("/")[-2] for path in paths(rows)} == {video}
        assert [path.split("/")[-3] for path in paths(rows)] == labels(rows)


def test_half_downloaded_voxceleb(copy_of):
    folder = copy_of("voxceleb1")
    shutil.rmtree(folder / "wav/id10002")
    example = r"lacks 6 of its files or folders: wav/id10002/-7gTaLMp3hk/00001\.wav, .*, \.\.\.\."
    with pytest.raises(FileNotFoundError, match=example):
        TASKS["voxceleb1"].load(folder)
    (folder / "iden_split.txt").write_text("1 id10001/a/00001.wav\n4 id10001/a/00002.wav\n")
    with pytest.raises(ValueError, match=r"iden_split\.txt, line 2, must be <1\|2\|3> <path>, but is '4 id10001"):
        TASKS["voxceleb1"].load(folder)
    (folder / "iden_split.txt").write_text("1 id10001/1zcIwhmdeo4/00001.wav\n")
    with pytest.raises(FileNotFoundError, match="contains no clips for the split validation \\(clips in all: 1\\)"):
        TASKS["voxceleb1"].load(folder)
