"""Instrument families of NSynth."""

import json

import pytest

from miniatures import FAMILIES, counts, labels, paths, write_audio
from run_scripts.classification.paper_tasks import TASKS


def test_nsynth(loaded):
    splits = loaded["nsynth"]
    assert counts(splits) == (11, 2, 2)
    assert labels(splits["train"]) == FAMILIES == splits["train"].features["label"].names
    assert labels(splits["validation"]) == ["bass", "vocal"] and labels(splits["test"]) == ["brass", "vocal"]
    for rows, folder in zip(splits.values(), ("nsynth-train", "nsynth-valid", "nsynth-test")):
        assert {path.split("/")[-3] for path in paths(rows)} == {folder}


def test_half_downloaded_nsynth(copy_of):
    folder = copy_of("nsynth")
    load = TASKS["nsynth"].load
    table = folder / "nsynth-test/examples.json"
    notes = json.loads(table.read_text())
    (folder / "nsynth-valid/audio/vocal_acoustic_001-060-100.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of .*: nsynth-valid/audio/vocal_acoustic_001-060-100\.wav"):
        load(folder)
    write_audio(folder / "nsynth-valid/audio/vocal_acoustic_001-060-100.wav")
    notes["brass_acoustic_000-060-100"]["instrument_family_str"] = "kazoo"
    table.write_text(json.dumps(notes))
    with pytest.raises(
        ValueError, match=r"brass_acoustic_000-060-100\.wav has the label 'kazoo', which is none of bass"
    ):
        load(folder)
    table.write_text(json.dumps(notes)[:50])
    with pytest.raises(ValueError, match=r"nsynth-test/examples\.json is damaged or incomplete"):
        load(folder)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file .*nsynth-test/examples\.json"):
        load(folder)
