"""Labelled clips that cannot be used."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import DatasetDict

from feature_extraction import AudioDecodingError, BadClipError, CorruptShardError, load_audio_dataset
from feature_extraction.lost_clips import stand_in
from helpers import audio_dataset, write_tones
from run_scripts.classification import bad_clips
from run_scripts.classification.bad_clips import drop_bad_clips, suggest_skipping
from run_scripts.common.skipped import SKIPPED, count_kinds, read_notes, write_skipped


@pytest.fixture
def splits(tmp_path: Path) -> DatasetDict:
    """Four clips of each class, of which one is damaged, one is missing, one is empty and one has a NaN."""
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 4, seconds=0.2)
    (data / "a" / "1.wav").write_text("not audio")
    (data / "a" / "2.wav").write_bytes(b"")
    soundfile.write(data / "b" / "0.wav", np.array([0.1, np.nan, 0.2]), 16000, subtype="FLOAT")
    splits = load_audio_dataset(str(data))
    (data / "b" / "3.wav").unlink()
    return splits


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_clips_of_every_kind_are_left_out(splits: DatasetDict, num_workers: int):
    bad_clips._checked.clear()
    state = torch.get_rng_state()
    kept, notes = drop_bad_clips(splits, num_workers=num_workers)
    assert torch.equal(torch.get_rng_state(), state)
    names = [Path(row["audio"]["path"]) for row in kept["train"]]
    assert [f"{name.parent.name}/{name.stem}" for name in names] == ["a/0", "a/3", "b/1", "b/2"]
    assert count_kinds(notes) == "1 damaged, 1 empty, 1 missing, 1 not finite"
    assert all(note.name in note.reason for note in notes)


def test_clips_that_are_lost_together_count_by_their_number(splits: DatasetDict, tmp_path: Path):
    clips = [
        {"bytes": Path(row["audio"]["path"]).read_bytes(), "path": None} for row in splits["train"].select([0, 3])
    ]
    lost = stand_in("shard.tar", "shard.tar is damaged.", num_clips=40)
    _, notes = drop_bad_clips(DatasetDict(train=audio_dataset([*clips, lost])))
    assert count_kinds(notes) == "40 corrupt shard"


def test_the_list_is_written_and_read(splits: DatasetDict, tmp_path: Path):
    _, notes = drop_bad_clips(splits)
    write_skipped(tmp_path, notes + notes)
    assert read_notes(tmp_path / SKIPPED) == notes
    kind, name, reason = (tmp_path / "skipped.tsv").read_text().splitlines()[0].split("\t")
    assert kind == "damaged" and name.endswith(os.path.join("a", "1.wav")) and "is not audio" in reason
    write_skipped(tmp_path, [])
    assert not (tmp_path / SKIPPED).exists()


def test_a_split_without_any_usable_clip_is_named(splits: DatasetDict):
    with pytest.raises(ValueError, match="None of the 2 clips of the split 'test' can be used. The first: .*1.wav"):
        drop_bad_clips(DatasetDict(test=splits["train"].select([1, 2])))


@pytest.mark.parametrize("prefix", ["", "Caught X in DataLoader worker process 0.\nTraceback\na.AudioDecodingError: "])
def test_errors_name_the_option_and_keep_their_kind(prefix: str):
    with pytest.raises(BadClipError, match="^x.wav is empty. Pass --skip_bad") as caught, suggest_skipping():
        raise AudioDecodingError(f"{prefix}x.wav is empty.", kind="empty")
    assert "Traceback" not in str(caught.value) and caught.value.kind == "empty"
    with pytest.raises(BadClipError, match="shard.tar ends early. Pass") as caught, suggest_skipping():
        raise CorruptShardError("shard.tar ends early.", "shard.tar", num_clips=3)
    assert caught.value.kind == "corrupt shard"
