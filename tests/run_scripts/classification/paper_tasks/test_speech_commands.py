"""Speech Commands, both versions."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from miniatures import RATE, counts, labels, paths, write_audio
from run_scripts.classification.paper_tasks import TASKS
from run_scripts.classification.paper_tasks.speech_commands import COMMANDS, SILENCE, UNKNOWN, WORDS_V1, WORDS_V2


def test_speech_commands_v2(loaded):
    splits = loaded["speech_commands_v2"]
    assert counts(splits) == (35 * 7, 35, 35 * 2)
    assert splits["test"].features["label"].names == sorted(WORDS_V2) and len(WORDS_V2) == 35 and len(WORDS_V1) == 30
    assert all("00000000_nohash" in path for path in paths(splits["validation"]))
    assert all("00000001_nohash" in path or "00000002_nohash" in path for path in paths(splits["test"]))
    assert [path.split("/")[-2] for path in paths(splits["train"])] == labels(splits["train"])


def test_speech_commands_v1(loaded):
    splits = loaded["speech_commands_v1"]
    for rows, each in zip(splits.values(), (7, 1, 2)):
        assert rows.features["label"].names == [*COMMANDS, UNKNOWN, SILENCE]
        # 10 % of the commands, of which there are ten times `each`
        expected = COMMANDS * each + [UNKNOWN] * each + [SILENCE] * each
        assert sorted(labels(rows)) == sorted(expected)
        for audio, label in zip(rows["audio"], labels(rows)):
            if label == SILENCE:
                assert audio["path"] is None and len(audio["bytes"]) == 44 + 2 * RATE
            elif label == UNKNOWN:
                assert audio["path"].split("/")[-2] in set(WORDS_V1) - set(COMMANDS)
            else:
                assert audio["path"].split("/")[-2] == label
    assert all("00000000_nohash" in path for path in paths(splits["validation"]))


def test_silence_is_cut_from_another_part_of_the_noise_for_each_split(loaded, roots):
    folder = roots["speech_commands_v1"] / "_background_noise_"
    noises = [soundfile.read(path, dtype="int16")[0] for path in sorted(folder.iterdir())]
    starts = {}
    for split, rows in loaded["speech_commands_v1"].items():
        crops = [audio["bytes"] for audio in rows["audio"] if audio["bytes"]]
        for crop in crops:
            samples, rate = soundfile.read(io.BytesIO(crop), dtype="int16")
            assert rate == RATE and len(samples) == RATE
            found = [
                start
                for noise in noises
                for start in np.flatnonzero(noise[: len(noise) - RATE + 1] == samples[0])
                if np.array_equal(noise[start : start + RATE], samples)
            ]
            assert len(found) == 1
            starts.setdefault(split, []).append(found[0] / RATE)
        assert len(set(starts[split])) == len(crops)
    assert max(starts["train"]) <= 8.6  # 12 s of noise, of which 80 % end at 9.6 s
    assert all(9.6 <= start <= 9.8 for start in starts["validation"])
    assert all(10.8 <= start <= 11 for start in starts["test"])


@pytest.mark.parametrize("beside", [True, False])
def test_official_test_set_of_speech_commands_v1(copy_of, tmp_path, loaded, beside):
    folder = copy_of("speech_commands_v1")
    test_set = tmp_path / ("speech_commands_test_set_v0.01" if beside else "elsewhere")
    for label in (*COMMANDS, UNKNOWN, SILENCE):
        write_audio(test_set / label / f"{label}.wav")
    splits = TASKS["speech_commands_v1"].load(folder, **({} if beside else {"test_set_dir": str(test_set)}))
    assert sorted(paths(splits["test"])) == sorted(str(path) for path in test_set.glob("*/*.wav"))
    assert labels(splits["test"]) == [Path(path).stem for path in paths(splits["test"])]
    assert splits["train"]["label"] == loaded["speech_commands_v1"]["train"]["label"]
    shutil.rmtree(test_set / SILENCE)
    with pytest.raises(FileNotFoundError, match="lacks 1 of its files or folders: _silence_"):
        TASKS["speech_commands_v1"].load(folder, test_set_dir=test_set)
    with pytest.raises(FileNotFoundError, match="nowhere contains no"):
        TASKS["speech_commands_v1"].load(folder, test_set_dir=tmp_path / "nowhere")


def test_half_downloaded_speech_commands(copy_of):
    folder = copy_of("speech_commands_v1")
    load = TASKS["speech_commands_v1"].load
    write_audio(folder / "_background_noise_" / "short.wav", seconds=5.0)
    for name in ("pink_noise.wav", "running_tap.wav"):
        (folder / "_background_noise_" / name).unlink()
    with pytest.raises(ValueError, match=r"short\.wav lasts 5\.0 s, which is too short to crop"):
        load(folder)
    shutil.rmtree(folder / "_background_noise_")
    with pytest.raises(FileNotFoundError, match=r"contains no _background_noise_/\*\.wav"):
        load(folder)
    (folder / "yes/00000001_nohash_0.wav").unlink()
    (folder / "no/00000002_nohash_0.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 of .*: no/00000002_nohash_0\.wav, yes/00000001_nohash_0"):
        load(folder)
    (folder / "testing_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file .*testing_list\.txt"):
        load(folder)
    for word in ("bed", "cat", "one", "wow"):
        shutil.rmtree(folder / word)
    with pytest.raises(FileNotFoundError, match=r"lacks 4 of its files or folders: bed, cat, one, \.\.\.\."):
        load(folder)


def test_the_other_version_of_speech_commands(roots):
    with pytest.raises(ValueError, match="backward, follow, forward, learn, visual"):
        TASKS["speech_commands_v1"].load(roots["speech_commands_v2"])
    with pytest.raises(FileNotFoundError, match="lacks 5 of its files or folders: backward, follow, forward"):
        TASKS["speech_commands_v2"].load(roots["speech_commands_v1"])
