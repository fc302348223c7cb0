"""Keyword spotting on Speech Commands, versions 1 and 2."""

import io
import math
import os
from pathlib import Path

import numpy as np
import soundfile

from run_scripts.classification.paper_tasks.base import SEED, SPLITS, Clips, Task, TaskClip, find_files, require_files
from run_scripts.common.errors import UserError


COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
UNKNOWN = "_unknown_"
SILENCE = "_silence_"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
OTHER_WORDS = ["bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"]
WORDS_V1 = sorted(COMMANDS + DIGITS + OTHER_WORDS)
WORDS_V2 = sorted(WORDS_V1 + ["backward", "follow", "forward", "learn", "visual"])

# The number of clips of `_unknown_`, and that of `_silence_`, in % of the commands of the same split.
OTHERS_PERCENTAGE = 10
# The part of each noise recording that a split uses, so that no two splits share any noise.
NOISE_PARTS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


def load_speech_commands_v1(root: Path, test_set_dir: str | os.PathLike | None = None) -> Clips:
    """
    The official lists define the validation and test splits; the remaining recordings are the training split. The
    classes are ten commands, `_unknown_` and `_silence_`; each of the last two has 10 % as many clips as all commands
    together.

    This follows TensorFlow's speech_commands example: the clips of `_unknown_` are drawn at random from the other
    words, and those of `_silence_` are random seconds of the background noise. Unlike there, the draws are our own,
    silence is drawn once and not again in every epoch, its volume is not reduced at random (the features are
    normalized), and each split has its own part of the noise. TensorFlow Datasets differs more: it has version 0.02,
    and all other words are `_unknown_`.

    If `test_set_dir` is given, or if the folder speech_commands_test_set_v0.01 lies next to that of the data set, then
    the test split is this official test set of 12 folders.
    """
    paths = split_recordings(root, WORDS_V1)
    official_test = Path(test_set_dir or root.parent / "speech_commands_test_set_v0.01").expanduser().absolute()
    use_official_test = test_set_dir is not None or official_test.is_dir()
    rng = np.random.default_rng(SEED)
    clips = []
    for split in SPLITS:
        if split == "test" and use_official_test:
            clips += read_official_test(official_test)
        else:
            clips += draw_clips(root, split, paths[split], rng)
    return [*COMMANDS, UNKNOWN, SILENCE], clips


def load_speech_commands_v2(root: Path) -> Clips:
    """
    The official lists define the validation and test splits; the remaining recordings are the training split. Each of
    the 35 words is a class, and the background noise is not used.
    """
    paths = split_recordings(root, WORDS_V2)
    return WORDS_V2, [TaskClip(split, str(root / path), word_of(path)) for split in SPLITS for path in paths[split]]


def word_of(path: str) -> str:
    """Returns the word that a recording is of, which is the name of its folder."""
    return path.split("/")[0]


def split_recordings(root: Path, words: list[str]) -> dict[str, list[str]]:
    """
    Finds the recordings of the words of this version that belong to each split. It is an error if words or listed
    recordings are missing, or if there are words that this version does not have.
    """
    files = [path for path in find_files(root, "*/*.wav") if not path.startswith("_")]
    found = {word_of(path) for path in files}
    require_files(root, words, found)
    if others := sorted(found.difference(words)):
        raise UserError(
            f"{root} contains words that this version of Speech Commands does not have: {', '.join(others)}. "
            "Version 0.01 has 30 words, version 0.02 has 35."
        )
    splits = dict.fromkeys(files, "train")
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        listed = (root / name).read_text(encoding="utf-8").split()
        require_files(root, listed, files)
        splits |= dict.fromkeys(listed, split)
    return {split: [path for path in splits if splits[path] == split] for split in SPLITS}


def read_official_test(root: Path) -> list[TaskClip]:
    """Finds the clips of the official test set of version 1, which has a folder for each of the 12 classes."""
    paths = find_files(root, "*/*.wav")
    require_files(root, [*COMMANDS, UNKNOWN, SILENCE], {word_of(path) for path in paths})
    return [TaskClip("test", str(root / path), word_of(path)) for path in paths]


def draw_clips(root: Path, split: str, paths: list[str], rng: np.random.Generator) -> list[TaskClip]:
    """Takes all commands of a split of version 1, and draws its clips of `_unknown_` and `_silence_`."""
    commands = [path for path in paths if word_of(path) in COMMANDS]
    others = [path for path in paths if word_of(path) not in COMMANDS]
    count = math.ceil(len(commands) * OTHERS_PERCENTAGE / 100)
    clips = [TaskClip(split, str(root / path), word_of(path)) for path in commands]
    clips += [TaskClip(split, str(root / path), UNKNOWN) for path in rng.permutation(others)[:count].tolist()]
    first, last = NOISE_PARTS[split]
    clips += [TaskClip(split, crop, SILENCE) for crop in crop_noise(root, first, last, count, rng)]
    return clips


def crop_noise(root: Path, first: float, last: float, count: int, rng: np.random.Generator) -> list[bytes]:
    """
    Crops random seconds of the background noise, as WAV files, from the part of each recording between `first` and
    `last`, which are fractions of its duration. It is an error if there is no background noise, or if a recording is
    too short.
    """
    # A crop has no path of its own. Columns for its start and duration would be empty in nine rows of ten, and all
    # code that reads the rows would have to handle them, so the rows hold the crops themselves: 76 MB in all.
    noises = find_files(root, "_background_noise_/*.wav")
    crops = []
    for _ in range(count):
        path = root / noises[rng.integers(len(noises))]
        with soundfile.SoundFile(path) as noise:
            start, end, second = int(first * noise.frames), int(last * noise.frames), noise.samplerate
            if end - start < second:
                raise UserError(
                    f"{path} lasts {noise.frames / second:.1f} s, which is too short to crop 1 s from "
                    f"{last - first:.0%} of it. Download it again or delete it."
                )
            noise.seek(start + int(rng.integers(end - start - second + 1)))
            file = io.BytesIO()
            soundfile.write(file, noise.read(second, dtype="int16"), second, format="WAV")
            crops.append(file.getvalue())
    return crops


SPEECH_COMMANDS_V1 = Task(
    name="speech_commands_v1",
    num_classes=12,
    accuracies={"random": 62.9, "supervised": 97.2, "frozen": 71.7, "fine-tuned": 98.1},
    homepage="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
    licence="CC BY 4.0",
    layout="<word>/<speaker>_nohash_<n>.wav for 30 words, _background_noise_/*.wav, validation_list.txt and "
    "testing_list.txt",
    loader=load_speech_commands_v1,
)

SPEECH_COMMANDS_V2 = Task(
    name="speech_commands_v2",
    num_classes=35,
    accuracies={"random": 4.0, "supervised": 94.3, "frozen": 62.4, "fine-tuned": 95.5},
    homepage="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    licence="CC BY 4.0",
    layout="<word>/<speaker>_nohash_<n>.wav for 35 words, validation_list.txt and testing_list.txt",
    loader=load_speech_commands_v2,
)
