"""The data sets of the paper's tasks in miniature, laid out as the real ones are, and what their tests share."""

import csv
import io
import json
import tarfile
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile
from datasets import DatasetDict

from run_scripts.classification.paper_tasks.speech_commands import WORDS_V1, WORDS_V2


RATE = 16000

SCENES = (
    "airport bus metro metro_station park public_square shopping_mall street_pedestrian street_traffic tram".split()
)
FAMILIES = "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()
BIRD_SETS = ["BirdVox-DCASE-20k", "ff1010bird", "warblrb10k"]


def write_audio(path: Path, seconds: float = 0.1, rate: int = RATE, channels: int = 1, subtype: str | None = None):
    """Noise that is another one in each file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    soundfile.write(path, rng.uniform(-0.5, 0.5, (int(seconds * rate), channels)), rate, subtype=subtype)


def make_librispeech(root: Path) -> None:
    for speaker in ("1034", "19", "26"):
        for chapter in ("100", "200"):
            for utterance in range(5):
                name = f"{speaker}-{chapter}-{utterance:04}.flac"
                write_audio(root / "LibriSpeech/train-clean-100" / speaker / chapter / name)
    (root / "LibriSpeech/SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "14   | F | train-clean-360  | 25.03 | Kristin LeMoine\n"
        "19   | F | train-clean-100  | 25.19 | Kara Shallenberg\n"
        "26   | M | train-clean-100  | 25.08 | Denys | the Reader\n"
        "1034 | M | train-clean-100  | 24.10 | Kevin O'Coin\n"
    )


def make_speech_commands(root: Path, words: list[str]) -> None:
    """Ten recordings of each word, of which 1 is for validation and 2 for testing, and noise."""
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for word in words:
        for n in range(10):
            path = f"{word}/{n:08x}_nohash_0.wav"
            write_audio(root / path, seconds=0.05)
            if n < 3:
                lists["validation_list.txt" if n == 0 else "testing_list.txt"].append(path)
    for name, paths in lists.items():
        (root / name).write_text("\n".join(paths) + "\n")
    for name in ("pink_noise.wav", "running_tap.wav"):
        write_audio(root / "_background_noise_" / name, seconds=12.0)


def make_tut(root: Path) -> None:
    """Ten locations of each scene, of which fold 1 tests on two."""
    folder = root / "TUT-urban-acoustic-scenes-2018-development"
    rows = {"train": [], "test": []}
    for i, scene in enumerate(SCENES):
        for n in range(10):
            location = 10 * i + n
            for segment in range(2):
                path = f"audio/{scene}-{('lyon', 'paris')[n % 2]}-{location}-{segment}-a.wav"
                write_audio(folder / path, seconds=0.02, rate=48000, channels=2, subtype="PCM_24")
                rows["train" if n < 8 else "test"].append((path, scene))
    header = "filename\tscene_label\tidentifier\tsource_label\n"
    meta = [f"{path}\t{scene}\t{'-'.join(path.split('-')[1:3])}\ta\n" for path, scene in rows["train"] + rows["test"]]
    (folder / "meta.csv").write_text(header + "".join(meta))
    lists = folder / "evaluation_setup"
    lists.mkdir()
    (lists / "fold1_train.txt").write_text("".join(f"{path}\t{scene}\n" for path, scene in rows["train"]))
    (lists / "fold1_evaluate.txt").write_text("".join(f"{path}\t{scene}\n" for path, scene in rows["test"]))
    (lists / "fold1_test.txt").write_text("".join(f"{path}\n" for path, _ in rows["test"]))


def make_voxceleb(root: Path) -> None:
    lines = []
    for speaker in ("id10002", "id10001", "id11251"):
        for part, video in enumerate(("1zcIwhmdeo4", "-7gTaLMp3hk", "_aB3dE6gH9k"), start=1):
            for n in (1, 2):
                path = f"{speaker}/{video}/{n:05}.wav"
                write_audio(root / "wav" / path)
                lines.append(f"{part} {path}\n")
    (root / "iden_split.txt").write_text("".join(lines))
    (root / "vox1_meta.csv").write_text("VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n")


def make_birds(root: Path) -> None:
    (root / "labels").mkdir(parents=True)
    for name in BIRD_SETS:
        with open(root / f"labels/{name}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["itemid", "datasetid", "hasbird"])
            for n in range(10):
                table.writerow([f"{name[:4]}{n}", name, n % 2])
                write_audio(root / "audio" / name / f"{name[:4]}{n}.wav", rate=44100)


def make_musan(root: Path) -> None:
    for label, sources in {
        "music": ["fma-western-art", "rfm"],
        "speech": ["librivox", "us-gov"],
        "noise": ["free-sound"],
    }.items():
        for source in sources:
            for n in range(10 // len(sources)):
                write_audio(root / "musan" / label / source / f"{label}-{source}-{n:04}.wav")
    (root / "musan/music/rfm/ANNOTATIONS").write_text("music-rfm-0000 rock\n")


def make_voxforge(root: Path) -> None:
    """Two archives of each of four speakers in each language, of whom "anonymous" is in all of them."""
    for language in ("de", "en", "es", "fr", "it", "ru"):
        for speaker in ("anonymous", *(f"{language}{n}" for n in range(3))):
            for archive in ("20090115-aaa", "20100302-bbb"):
                name = f"{speaker}-{archive}"
                path = root / language / "Trunk/Audio/Main/16kHz_16bit" / f"{name}.tgz"
                path.parent.mkdir(parents=True, exist_ok=True)
                with tarfile.open(path, "w:gz") as tgz:
                    add_member(tgz, f"{name}/etc/PROMPTS", b"one two three")
                    for n in range(2):
                        file = io.BytesIO()
                        noise = np.random.default_rng([n, *name.encode()]).uniform(-0.5, 0.5, RATE)
                        soundfile.write(file, noise, RATE, format="WAV")
                        add_member(tgz, f"{name}/wav/{language}-{n:03}.wav", file.getvalue())


def add_member(tgz: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tgz.addfile(member, io.BytesIO(content))


def make_nsynth(root: Path) -> None:
    for part, families in {"train": FAMILIES, "valid": ["bass", "vocal"], "test": ["brass", "vocal"]}.items():
        notes = {}
        for i, family in enumerate(families):
            note = f"{family}_acoustic_{i:03}-060-100"
            notes[note] = {"instrument_family": FAMILIES.index(family), "instrument_family_str": family, "pitch": 60}
            write_audio(root / f"nsynth-{part}/audio/{note}.wav")
        (root / f"nsynth-{part}/examples.json").write_text(json.dumps(notes))


MAKERS = {
    "librispeech_speaker": make_librispeech,
    "speech_commands_v1": partial(make_speech_commands, words=WORDS_V1),
    "speech_commands_v2": partial(make_speech_commands, words=WORDS_V2),
    "tut_urban_2018": make_tut,
    "voxceleb1": make_voxceleb,
    "dcase2018_birds": make_birds,
    "musan": make_musan,
    "voxforge": make_voxforge,
    "nsynth": make_nsynth,
}


def paths(rows) -> list[str]:
    return [audio["path"] for audio in rows["audio"] if audio["path"]]


def labels(rows) -> list[str]:
    return rows.features["label"].int2str(rows["label"])


def counts(splits: DatasetDict) -> tuple[int, int, int]:
    return len(splits["train"]), len(splits["validation"]), len(splits["test"])


def assert_disjoint(splits: DatasetDict, key) -> None:
    for one, other in combinations(splits.values(), 2):
        assert not {key(path) for path in paths(one)} & {key(path) for path in paths(other)}
