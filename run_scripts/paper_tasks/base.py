"""The paper's nine downstream tasks -> labelled data sets with their splits, read where they lie."""

import csv
import gzip
import inspect
import io
import json
import logging
import math
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict

from feature_extraction.audio import AUDIO_SUFFIXES


logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.1, 0.2)
SHARES_WITHOUT_TEST = (7 / 8, 1 / 8, 0.0)  # where the test split is given, the rest is 7 to 1 as well
SEED = 0

# What a loader gives: the names of the classes, and for each clip its split, its audio (a path, a URL, or the bytes of
# a file) and the name of its class.
Clips = tuple[list[str], list[tuple[str, str | bytes, str]]]


@dataclass(frozen=True)
class Task:
    """
    A downstream task of the paper (arXiv 2010.10915).

    Args:
        name (`str`):
            Its key in [`TASKS`].
        num_classes (`int`):
            Classes of the full data set.
        random, supervised, frozen, fine_tuned (`float`):
            The paper's test accuracies, in %: linear evaluation of random weights, training from scratch, linear
            evaluation of COLA, and fine-tuning of COLA.
        homepage (`str`):
            Where the data set is to be had.
        licence (`str`):
            Its licence.
        layout (`str`):
            What its folder holds.
        loader (`Callable[..., Clips]`):
            Reads that folder.
    """

    name: str
    num_classes: int
    random: float
    supervised: float
    frozen: float
    fine_tuned: float
    homepage: str
    licence: str
    layout: str
    loader: Callable[..., Clips]

    @property
    def splits(self) -> str:
        """How the data set is split, and how that differs from prior work."""
        return inspect.getdoc(self.loader)

    def load(self, data_dir: str | os.PathLike, **options: Any) -> DatasetDict:
        """
        Finds the clips of each split. Their audio stays where it is, until a row is decoded.

        Args:
            data_dir (`str` or `os.PathLike`):
                The folder that holds what `layout` says.
            **options:
                The loader's own: `test_set_dir` of Speech Commands V1 and `held_out_set` of the bird detection, which
                `splits` explains.

        Returns:
            `DatasetDict`: `train`, `validation` and `test`, each with the columns `audio` (left encoded) and `label`
            (a `ClassLabel`). The same folder gives the same splits on every machine.

        Raises:
            `FileNotFoundError`: if files are missing; the message names the first of them and the layout.
            `ValueError`: if a file of the data set does not say what it should.
        """
        root = Path(data_dir).expanduser().absolute()
        try:
            names, clips = self.loader(root, **options)
            parts = {split: [clip[1:] for clip in clips if clip[0] == split] for split in SPLITS}
            for split, part in parts.items():
                if not part:
                    raise FileNotFoundError(f"{root} holds no clips for the split {split}, only {len(clips)} in all.")
        except FileNotFoundError as error:
            message = f"{self.name}: {error}\nThe folder has to hold {self.layout}.\nThe data: {self.homepage}"
            raise FileNotFoundError(message) from None
        if len(names) != self.num_classes:
            logger.warning(
                f"{self.name}: {root} has {len(names)} classes of {self.num_classes}: accuracies on it do not compare "
                "with the published ones."
            )
        return DatasetDict({split: _to_dataset(part, names) for split, part in parts.items()})


def _to_dataset(clips: list[tuple[str | bytes, str]], names: list[str]) -> Dataset:
    number = {name: i for i, name in enumerate(names)}
    for audio, label in clips:
        if label not in number:
            raise ValueError(f"{audio} has the label {label!r}, which is none of {', '.join(names)}.")
    sources = [
        {"bytes": audio, "path": None} if isinstance(audio, bytes) else {"bytes": None, "path": audio}
        for audio, _ in clips
    ]
    dataset = Dataset.from_dict({"audio": sources, "label": [number[label] for _, label in clips]})
    return dataset.cast_column("audio", Audio(decode=False)).cast_column("label", ClassLabel(names=names))


def _inside(root: Path, name: str) -> Path:
    """The data set's own folder, of which `root` may be the parent."""
    return root / name if (root / name).is_dir() else root


def _find(root: Path, pattern: str) -> list[str]:
    """The files below `root` that match, as paths relative to it with `/`, in an order that no machine changes."""
    # macOS leaves files like "._a.wav" beside "a.wav".
    found = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if not path.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"{root} holds no {pattern}.")
    return found


def _require(root: Path, wanted: Iterable[str], found: Iterable[str]) -> None:
    missing = sorted(set(wanted).difference(found))
    if missing:
        examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise FileNotFoundError(f"{root} lacks {len(missing)} of its files or folders: {examples}.")


def _seeded_splits(names: Iterable[str], shares: tuple[float, float, float] = SHARES) -> dict[str, str]:
    """The split of each name, at random: these shares of train, validation and test."""
    names = sorted(set(names))
    np.random.default_rng(SEED).shuffle(names)
    num_validation, num_test = (round(share * len(names)) for share in shares[1:])
    splits = ["validation"] * num_validation + ["test"] * num_test
    return dict(zip(names, splits + ["train"] * (len(names) - len(splits))))


def _load_librispeech(root: Path) -> Clips:
    """
    The utterances of each speaker are split at random, 70/10/20: every speaker is in all three.

    No split of train-clean-100 for speaker identification is official, and this one is our own. Utterances of one
    chapter are on both sides.
    """
    root = _inside(root, "LibriSpeech")
    utterances: dict[str, list[str]] = {}
    for path in _find(root, "train-clean-100/*/*/*.flac"):
        utterances.setdefault(path.split("/")[1], []).append(path)
    speakers = sorted(utterances, key=lambda speaker: (len(speaker), speaker))
    if (root / "SPEAKERS.TXT").is_file():
        lines = (root / "SPEAKERS.TXT").read_text(encoding="utf-8").splitlines()
        rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
        speakers = [row[0] for row in rows if row[2:3] == ["train-clean-100"]]
        _require(root / "train-clean-100", speakers, utterances)
    clips = [
        (split, str(root / path), speaker)
        for speaker, paths in utterances.items()
        for path, split in sorted(_seeded_splits(paths).items())
    ]
    return speakers, clips


COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
UNKNOWN, SILENCE = "_unknown_", "_silence_"
WORDS_V1 = sorted(
    COMMANDS
    + ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    + ["bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"]
)
WORDS_V2 = sorted(WORDS_V1 + ["backward", "follow", "forward", "learn", "visual"])
# `_unknown_` and `_silence_` each have this many clips, in % of a split's commands.
OTHERS_PERCENTAGE = 10
# Each split's own part of every recording of noise, so that no noise is heard in two of them.
NOISE_PARTS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


def _speech_commands_splits(root: Path, words: list[str]) -> dict[str, str]:
    """The split of each recording of a word."""
    files = [path for path in _find(root, "*/*.wav") if not path.startswith("_")]
    found = {path.split("/")[0] for path in files}
    _require(root, words, found)
    if others := sorted(found.difference(words)):
        raise ValueError(
            f"{root} holds words that this version of Speech Commands has not: {', '.join(others)}. "
            "Version 0.01 has 30 words, version 0.02 has 35."
        )
    splits = dict.fromkeys(files, "train")
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        listed = (root / name).read_text(encoding="utf-8").split()
        _require(root, listed, files)
        splits |= dict.fromkeys(listed, split)
    return splits


def _load_speech_commands_v1(root: Path, test_set_dir: str | os.PathLike | None = None) -> Clips:
    """
    The official lists; train is the rest. To ten commands come `_unknown_` and `_silence_`, 10 % of their number each.

    This follows TensorFlow's speech_commands example: other words are drawn at random for `_unknown_`, and 1 s of
    background noise at random for `_silence_`. It differs in that the draws are our own, silence is drawn once and not
    anew in each epoch, its volume is not lowered at random (the features are normalised), and each split has its own
    part of the noise. TensorFlow Datasets differs more: all other words are `_unknown_`, and it is version 0.02.

    If `test_set_dir` is given, or the folder speech_commands_test_set_v0.01 lies beside this one, the test split is
    that official one of 12 folders.
    """
    splits = _speech_commands_splits(root, WORDS_V1)
    official_test = Path(test_set_dir or root.parent / "speech_commands_test_set_v0.01").expanduser().absolute()
    use_official_test = test_set_dir is not None or official_test.is_dir()
    rng = np.random.default_rng(SEED)
    labels = [*COMMANDS, UNKNOWN, SILENCE]
    clips = []
    for split in SPLITS:
        if split == "test" and use_official_test:
            paths = _find(official_test, "*/*.wav")
            _require(official_test, labels, {path.split("/")[0] for path in paths})
            clips += [(split, str(official_test / path), path.split("/")[0]) for path in paths]
            continue
        paths = [path for path, its_split in splits.items() if its_split == split]
        commands = [path for path in paths if path.split("/")[0] in COMMANDS]
        others = [path for path in paths if path.split("/")[0] not in COMMANDS]
        count = math.ceil(len(commands) * OTHERS_PERCENTAGE / 100)
        clips += [(split, str(root / path), path.split("/")[0]) for path in commands]
        clips += [(split, str(root / path), UNKNOWN) for path in rng.permutation(others)[:count].tolist()]
        clips += [(split, noise, SILENCE) for noise in _cut_noise(root, *NOISE_PARTS[split], count, rng)]
    return labels, clips


def _cut_noise(root: Path, first: float, last: float, count: int, rng: np.random.Generator) -> list[bytes]:
    """Cuts `count` times 1 s at random out of that part of the background noise, each as a WAV file."""
    # A crop of a file has no path. Columns for its start and duration would be empty in nine rows of ten, and all that
    # reads the rows would have to know them; so the rows hold the crops, 32 kB each and 76 MB for the whole data set.
    noises = _find(root, "_background_noise_/*.wav")
    crops = []
    for _ in range(count):
        path = root / noises[rng.integers(len(noises))]
        with soundfile.SoundFile(path) as noise:
            start, end, second = int(first * noise.frames), int(last * noise.frames), noise.samplerate
            if end - start < second:
                raise ValueError(
                    f"{path} lasts {noise.frames / second:.1f} s, which is too short: 1 s is cut out of "
                    f"{last - first:.0%} of it. Fetch it again or delete it."
                )
            noise.seek(start + int(rng.integers(end - start - second + 1)))
            file = io.BytesIO()
            soundfile.write(file, noise.read(second, dtype="int16"), second, format="WAV")
            crops.append(file.getvalue())
    return crops


def _load_speech_commands_v2(root: Path) -> Clips:
    """The official lists; train is the rest. Each of the 35 words is a class; the background noise is left out."""
    splits = _speech_commands_splits(root, WORDS_V2)
    return WORDS_V2, [(split, str(root / path), path.split("/")[0]) for path, split in splits.items()]


BIRD_SETS = ["BirdVox-DCASE-20k", "ff1010bird", "warblrb10k"]
BIRD_LABELS = {"0": "no bird", "1": "bird"}


def _load_dcase2018_birds(root: Path, held_out_set: str | None = None) -> Clips:
    """
    The recordings of all three sets are split at random, 70/10/20.

    No random split is official, and this one is our own: the challenge tests on other sets, and asks how well a
    detector does under new conditions. With `held_out_set`, which is BirdVox-DCASE-20k, ff1010bird or warblrb10k, that
    set is the test split, and the two others are split 7 to 1 into train and validation.
    """
    if held_out_set not in (None, *BIRD_SETS):
        raise ValueError(f"`held_out_set` is {held_out_set!r}, but the sets are {', '.join(BIRD_SETS)}.")
    labels, sets = {}, {}
    # The sets are known by the tables' `datasetid`, since the tables' names differ between downloads.
    for table in _find(root, "labels/*.csv"):
        with open(root / table, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"itemid", "datasetid", "hasbird"} <= set(reader.fieldnames or []):
                raise ValueError(f"{root / table} has to have the columns itemid, datasetid and hasbird.")
            for row in reader:
                path = f"audio/{row['datasetid']}/{row['itemid']}.wav"
                labels[path], sets[path] = BIRD_LABELS.get(row["hasbird"], row["hasbird"]), row["datasetid"]
    _require(root, [f"labels/{name}.csv" for name in BIRD_SETS], {f"labels/{name}.csv" for name in sets.values()})
    _require(root, labels, _find(root, "audio/*/*.wav"))
    if held_out_set is None:
        splits = _seeded_splits(labels)
    else:
        splits = _seeded_splits([path for path in labels if sets[path] != held_out_set], SHARES_WITHOUT_TEST)
        splits |= {path: "test" for path in labels if sets[path] == held_out_set}
    return list(BIRD_LABELS.values()), [(splits[path], str(root / path), labels[path]) for path in sorted(labels)]


SCENES = [
    *("airport", "bus", "metro", "metro_station", "park"),
    *("public_square", "shopping_mall", "street_pedestrian", "street_traffic", "tram"),
]


def _load_tut_urban_2018(root: Path) -> Clips:
    """
    Fold 1 of the development set. It has no validation split: one in eight of the training locations of each scene
    make ours.

    Without the folder evaluation_setup, the locations of each scene are split at random, 70/10/20. No location is in
    two splits.
    """
    root = _inside(root, "TUT-urban-acoustic-scenes-2018-development")
    files = _find(root, "audio/*.wav")
    scenes, locations = {}, {}
    for path in files:
        parts = path.removeprefix("audio/").split("-")  # scene, city, location, segment, device
        if len(parts) != 5:
            raise ValueError(f"{root / path} is not called <scene>-<city>-<location>-<segment>-<device>.wav.")
        scenes[path], locations[path] = parts[0], "-".join(parts[1:3])

    def read_list(name: str) -> list[str]:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
        listed = [line.split("\t")[0].strip() for line in lines]
        listed = [path for path in listed if path.endswith(".wav")]  # some have a header
        _require(root, listed, files)
        return listed

    def split_locations(paths: list[str], **options: Any) -> dict[str, str]:
        scene_of = {locations[path]: scenes[path] for path in paths}
        splits = {}
        for scene in set(scene_of.values()):  # or a scene might be without validation
            splits |= _seeded_splits([place for place in scene_of if scene_of[place] == scene], **options)
        return splits

    if (root / "meta.csv").is_file():
        read_list("meta.csv")
    if (root / "evaluation_setup").is_dir():
        train = read_list("evaluation_setup/fold1_train.txt")
        has_labels = (root / "evaluation_setup/fold1_evaluate.txt").is_file()
        test = read_list(f"evaluation_setup/fold1_{'evaluate' if has_labels else 'test'}.txt")
        split_of = split_locations(train, shares=SHARES_WITHOUT_TEST)
        splits = {path: split_of[locations[path]] for path in train} | dict.fromkeys(test, "test")
    else:
        split_of = split_locations(files)
        splits = {path: split_of[locations[path]] for path in files}
    return SCENES, [(splits[path], str(root / path), scenes[path]) for path in sorted(splits)]


MUSAN_CLASSES = ["music", "speech", "noise"]


def _load_musan(root: Path) -> Clips:
    """
    The files of each class are split at random, 70/10/20.

    No split is official, and this one is our own. Files are long, and all of one is in one split; other files of the
    same album or the same reader may be in another.
    """
    root = _inside(root, "musan")
    clips = []
    for label in MUSAN_CLASSES:
        splits = _seeded_splits(_find(root, f"{label}/**/*.wav"))
        clips += [(split, str(root / path), label) for path, split in sorted(splits.items())]
    return MUSAN_CLASSES, clips


def _load_voxceleb1(root: Path) -> Clips:
    """The official split for identification, iden_split.txt."""
    splits = {}
    for number, line in enumerate((root / "iden_split.txt").read_text(encoding="utf-8").splitlines(), start=1):
        part, _, path = line.strip().partition(" ")
        if part not in ("1", "2", "3"):
            raise ValueError(f"{root / 'iden_split.txt'}, line {number}, is not <1|2|3> <path>: {line!r}.")
        splits[f"wav/{path.strip()}"] = SPLITS[int(part) - 1]
    _require(root, splits, _find(root, "wav/*/*/*.wav"))
    clips = [(splits[path], str(root / path), path.split("/")[1]) for path in sorted(splits)]
    return sorted({speaker for _, _, speaker in clips}), clips


LANGUAGES = ["de", "en", "es", "fr", "it", "ru"]


def _load_voxforge(root: Path) -> Clips:
    """
    The speakers of all languages are split at random, 70/10/20, and all that one says goes with them.

    No split is official, and this one is our own. A speaker is the name before the first `-` of an archive, in any
    language, so all who are called "anonymous" count as one. Shares of clips differ from those of speakers.
    """
    archives = {
        path: language
        for language in LANGUAGES
        for path in _find(root, f"{language}/Trunk/Audio/Main/16kHz_16bit/*.tgz")
    }
    speakers = {path: path.split("/")[-1].split("-")[0] for path in archives}
    splits = _seeded_splits(speakers.values())
    # The names of a tgz's files are all over it, so each is decompressed once here, in threads. Later each row costs
    # that again, about 20 ms: to train for many epochs, decode the data set to shards first.
    with ThreadPoolExecutor() as threads:
        members = dict(zip(archives, threads.map(lambda path: _audio_in_archive(root / path), archives)))
    damaged = [path for path, names in members.items() if names is None]
    if damaged:
        raise FileNotFoundError(
            f"{root} holds {len(damaged)} archives that are damaged or half downloaded: {', '.join(damaged[:3])}"
            f"{', ...' if len(damaged) > 3 else ''}. Fetch them again, or delete them."
        )
    clips = [
        # fsspec reads the member of the archive of the path; `datasets` brings the `gzip://`.
        (splits[speakers[path]], f"tar://{name}::gzip://::{root / path}", language)
        for path, language in archives.items()
        for name in members[path]
    ]
    return LANGUAGES, clips


def _audio_in_archive(path: Path) -> list[str] | None:
    """The names of the audio files in a tgz, or None if it is damaged."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            names = [member.name for member in archive if member.isfile()]
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError):
        return None
    return sorted(
        name
        for name in names
        if name.lower().endswith(AUDIO_SUFFIXES) and not name.split("/")[-1].startswith(".")  # macOS's "._a.wav"
    )


FAMILIES = [
    *("bass", "brass", "flute", "guitar", "keyboard", "mallet"),
    *("organ", "reed", "string", "synth_lead", "vocal"),
]


def _load_nsynth(root: Path) -> Clips:
    """The official split: no instrument of train is in validation or test, nor is the family synth_lead."""
    clips = []
    for folder, split in (("nsynth-train", "train"), ("nsynth-valid", "validation"), ("nsynth-test", "test")):
        table = root / folder / "examples.json"
        try:
            notes = json.loads(table.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{table} is damaged or half downloaded ({error}): fetch it again.") from None
        families = {
            f"{folder}/audio/{note}.wav": description.get("instrument_family_str")
            for note, description in sorted(notes.items())
        }
        _require(root, families, _find(root, f"{folder}/audio/*.wav"))
        clips += [(split, str(root / path), family) for path, family in families.items()]
    return FAMILIES, clips


# The figures are those of the paper's table of downstream tasks.
_TASKS = [
    Task(
        name="librispeech_speaker",
        num_classes=251,
        random=0.4,
        supervised=100.0,
        frozen=100.0,
        fine_tuned=100.0,
        homepage="https://www.openslr.org/12",
        licence="CC BY 4.0",
        layout="LibriSpeech/train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac and, for a check "
        "that all speakers are there, LibriSpeech/SPEAKERS.TXT",
        loader=_load_librispeech,
    ),
    Task(
        name="speech_commands_v1",
        num_classes=12,
        random=62.9,
        supervised=97.2,
        frozen=71.7,
        fine_tuned=98.1,
        homepage="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        licence="CC BY 4.0",
        layout="<word>/<speaker>_nohash_<n>.wav for 30 words, _background_noise_/*.wav, validation_list.txt and "
        "testing_list.txt",
        loader=_load_speech_commands_v1,
    ),
    Task(
        name="speech_commands_v2",
        num_classes=35,
        random=4.0,
        supervised=94.3,
        frozen=62.4,
        fine_tuned=95.5,
        homepage="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        licence="CC BY 4.0",
        layout="<word>/<speaker>_nohash_<n>.wav for 35 words, validation_list.txt and testing_list.txt",
        loader=_load_speech_commands_v2,
    ),
    Task(
        name="tut_urban_2018",
        num_classes=10,
        random=8.6,
        supervised=98.2,
        frozen=94.1,
        fine_tuned=99.2,
        homepage="https://zenodo.org/records/1228142",
        licence="Tampere University of Technology's own, for non-commercial use: see the page",
        layout="TUT-urban-acoustic-scenes-2018-development/ with meta.csv, "
        "audio/<scene>-<city>-<location>-<segment>-<device>.wav, and evaluation_setup/ with fold1_train.txt and "
        "fold1_evaluate.txt or fold1_test.txt",
        loader=_load_tut_urban_2018,
    ),
    Task(
        name="voxceleb1",
        num_classes=1251,
        random=0.0,
        supervised=31.7,
        frozen=29.9,
        fine_tuned=37.7,
        homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
        licence="CC BY 4.0; the videos are their owners': see the page",
        layout="wav/<speaker>/<video>/<number>.wav, of the development and the test part, and iden_split.txt",
        loader=_load_voxceleb1,
    ),
    Task(
        name="dcase2018_birds",
        num_classes=2,
        random=49.6,
        supervised=79.4,
        frozen=77.0,
        fine_tuned=80.2,
        homepage="https://dcase.community/challenge2018/task-bird-audio-detection",
        licence="one for each of the three sets: see the page",
        layout="audio/<set>/<itemid>.wav and labels/<set>.csv (itemid,datasetid,hasbird) for the sets "
        "BirdVox-DCASE-20k, ff1010bird and warblrb10k",
        loader=_load_dcase2018_birds,
    ),
    Task(
        name="musan",
        num_classes=3,
        random=56.8,
        supervised=99.3,
        frozen=99.1,
        fine_tuned=99.4,
        homepage="https://www.openslr.org/17",
        licence="CC BY 4.0; each file's own is in the data set",
        layout="musan/{music,speech,noise}/<source>/**/*.wav",
        loader=_load_musan,
    ),
    Task(
        name="voxforge",
        num_classes=6,
        random=59.1,
        supervised=85.0,
        frozen=71.3,
        fine_tuned=82.9,
        homepage="https://www.voxforge.org",
        licence="GPL",
        layout="<language>/Trunk/Audio/Main/16kHz_16bit/<speaker>-<date>-<x>.tgz for de, en, es, fr, it and ru, not "
        "unpacked",
        loader=_load_voxforge,
    ),
    Task(
        name="nsynth",
        num_classes=11,
        random=20.8,
        supervised=70.7,
        frozen=63.4,
        fine_tuned=73.0,
        homepage="https://magenta.tensorflow.org/datasets/nsynth",
        licence="CC BY 4.0",
        layout="nsynth-train, nsynth-valid and nsynth-test, each with examples.json and audio/<note>.wav",
        loader=_load_nsynth,
    ),
]

TASKS: dict[str, Task] = {task.name: task for task in _TASKS}
