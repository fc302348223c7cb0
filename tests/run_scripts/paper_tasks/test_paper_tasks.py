"""The nine downstream tasks: each data set in miniature, as its true layout has it, and what is made of it."""

import csv
import io
import json
import logging
import os
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, DatasetDict

from feature_extraction import ClipDecoder, COLADataCollator, COLAFeatureExtractor, load_audio
from run_scripts.paper_tasks.base import COMMANDS, SILENCE, TASKS, UNKNOWN, WORDS_V1, WORDS_V2


RATE = 16000

# classes, random, supervised, frozen and fine-tuned: the table of arXiv 2010.10915
PUBLISHED = {
    "librispeech_speaker": (251, 0.4, 100.0, 100.0, 100.0),
    "speech_commands_v1": (12, 62.9, 97.2, 71.7, 98.1),
    "speech_commands_v2": (35, 4.0, 94.3, 62.4, 95.5),
    "tut_urban_2018": (10, 8.6, 98.2, 94.1, 99.2),
    "voxceleb1": (1251, 0.0, 31.7, 29.9, 37.7),
    "dcase2018_birds": (2, 49.6, 79.4, 77.0, 80.2),
    "musan": (3, 56.8, 99.3, 99.1, 99.4),
    "voxforge": (6, 59.1, 85.0, 71.3, 82.9),
    "nsynth": (11, 20.8, 70.7, 63.4, 73.0),
}
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


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """The data sets in miniature, not to be changed."""
    folders = {name: tmp_path_factory.mktemp(name) / "data" for name in TASKS}
    for name, folder in folders.items():
        MAKERS[name](folder)
    return folders


@pytest.fixture(scope="module")
def loaded(roots) -> dict[str, DatasetDict]:
    return {name: task.load(roots[name]) for name, task in TASKS.items()}


@pytest.fixture
def copy_of(roots, tmp_path):
    """A copy of a data set, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(roots[name], tmp_path / "data"))

    return copy


def paths(rows) -> list[str]:
    return [audio["path"] for audio in rows["audio"] if audio["path"]]


def labels(rows) -> list[str]:
    return rows.features["label"].int2str(rows["label"])


def counts(splits: DatasetDict) -> tuple[int, int, int]:
    return len(splits["train"]), len(splits["validation"]), len(splits["test"])


def assert_disjoint(splits: DatasetDict, key) -> None:
    for one, other in combinations(splits.values(), 2):
        assert not {key(path) for path in paths(one)} & {key(path) for path in paths(other)}


def test_published_figures():
    figures = {
        name: (task.num_classes, task.random, task.supervised, task.frozen, task.fine_tuned)
        for name, task in TASKS.items()
    }
    assert figures == PUBLISHED
    means = np.mean([row[1:] for row in figures.values()], axis=0)
    np.testing.assert_allclose(means, [29.1, 83.9, 74.3, 85.1], atol=0.1)  # the paper's last row, cut


@pytest.mark.parametrize("name", PUBLISHED)
def test_task_says_where_its_data_is(name):
    task = TASKS[name]
    assert task.name == name and task.homepage.startswith("https://") and task.licence and task.layout and task.splits


@pytest.mark.parametrize("name", PUBLISHED)
def test_splits_of_each_task(name, roots, loaded):
    splits = loaded[name]
    assert list(splits) == ["train", "validation", "test"] and all(counts(splits))
    for rows in splits.values():
        assert set(rows.features) == {"audio", "label"}
        assert isinstance(rows.features["audio"], Audio) and not rows.features["audio"].decode
        assert isinstance(rows.features["label"], ClassLabel)
        assert rows.features["label"].names == splits["train"].features["label"].names
        assert len(set(paths(rows))) == len(paths(rows))
        waveform = load_audio(rows[len(rows) // 2]["audio"])
        assert waveform.dtype == np.float32 and waveform.std() > 0.1
    assert_disjoint(splits, key=str)
    if name not in ("librispeech_speaker", "voxceleb1"):  # of which the miniature has fewer speakers
        assert splits["train"].features["label"].num_classes == TASKS[name].num_classes


@pytest.mark.parametrize("name", PUBLISHED)
def test_splits_are_the_same_each_time_and_everywhere(name, copy_of, loaded, roots, monkeypatch):
    folder = copy_of(name)
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: reversed(list(glob(self, pattern))))
    again = TASKS[name].load(folder)
    for split, rows in loaded[name].items():
        assert [path.replace(str(folder), str(roots[name])) for path in paths(again[split])] == paths(rows)
        assert again[split]["label"] == rows["label"]
        assert [row["bytes"] for row in again[split]["audio"]] == [row["bytes"] for row in rows["audio"]]


def test_seeded_splits_are_pinned(loaded):
    """Another order of the generator's draws, from whatever version of NumPy, would make figures incomparable."""
    drawn = [[int(path[-8:-4]) for path in paths(rows) if "/noise/" in path] for rows in loaded["musan"].values()]
    assert drawn == [[0, 1, 3, 5, 7, 8, 9], [4], [2, 6]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_batches(name, loaded):
    extractor = COLAFeatureExtractor()
    rows = loaded[name]["train"].with_transform(ClipDecoder(extractor))
    batch = COLADataCollator(extractor)([rows[0], rows[len(rows) - 1]])
    assert batch["input_values"].shape[0] == 2 and batch["input_values"].shape[2] == 64
    assert batch["labels"].tolist() == [loaded[name]["train"][i]["label"] for i in (0, len(rows) - 1)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_empty_folder(name, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        TASKS[name].load(tmp_path)
    for part in (name, str(tmp_path), TASKS[name].layout, TASKS[name].homepage):
        assert part in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TASKS[name].load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("librispeech_speaker", "LibriSpeech"),
        ("musan", "musan"),
        ("tut_urban_2018", "TUT-urban-acoustic-scenes-2018-development"),
    ],
)
def test_the_data_sets_own_folder_does_as_well(name, folder, roots, loaded):
    splits = TASKS[name].load(str(roots[name] / folder))
    assert [paths(rows) for rows in splits.values()] == [paths(rows) for rows in loaded[name].values()]


def test_relative_folders_become_absolute(roots, loaded, monkeypatch):
    monkeypatch.chdir(roots["musan"])
    splits = TASKS["musan"].load(".")
    monkeypatch.chdir("/")
    assert len(load_audio(splits["train"][0]["audio"])) == 1600
    assert all(os.path.isabs(path) for path in paths(splits["train"]))


def test_subsets_are_warned_of(roots, caplog):
    with caplog.at_level(logging.WARNING):
        TASKS["voxceleb1"].load(roots["voxceleb1"])
        TASKS["musan"].load(roots["musan"])
    assert len(caplog.records) == 1 and "3 classes of 1251" in caplog.text


# LibriSpeech


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


# Speech Commands


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
    with pytest.raises(FileNotFoundError, match="nowhere holds no"):
        TASKS["speech_commands_v1"].load(folder, test_set_dir=tmp_path / "nowhere")


def test_half_downloaded_speech_commands(copy_of):
    folder = copy_of("speech_commands_v1")
    load = TASKS["speech_commands_v1"].load
    write_audio(folder / "_background_noise_" / "short.wav", seconds=5.0)
    for name in ("pink_noise.wav", "running_tap.wav"):
        (folder / "_background_noise_" / name).unlink()
    with pytest.raises(ValueError, match=r"short\.wav lasts 5\.0 s, which is too short"):
        load(folder)
    shutil.rmtree(folder / "_background_noise_")
    with pytest.raises(FileNotFoundError, match=r"holds no _background_noise_/\*\.wav"):
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


# TUT Urban Acoustic Scenes 2018


def location(path: str) -> str:
    return "-".join(Path(path).name.split("-")[1:3])


def test_tut(loaded, roots):
    splits = loaded["tut_urban_2018"]
    assert counts(splits) == (10 * 7 * 2, 10 * 2, 10 * 2 * 2)  # one training location in eight is for validation
    assert_disjoint(splits, key=location)
    listed = roots["tut_urban_2018"] / "TUT-urban-acoustic-scenes-2018-development/evaluation_setup/fold1_test.txt"
    assert sorted(path.split("development/")[1] for path in paths(splits["test"])) == sorted(
        listed.read_text().split()
    )
    for rows in splits.values():
        assert rows.features["label"].names == SCENES and set(labels(rows)) == set(SCENES)
        assert [Path(path).name.split("-")[0] for path in paths(rows)] == labels(rows)
    info = soundfile.info(paths(splits["train"])[0])
    assert (info.samplerate, info.channels, info.subtype) == (48000, 2, "PCM_24")


def test_tut_with_the_test_list_only(copy_of, loaded):
    folder = copy_of("tut_urban_2018")
    lists = folder / "TUT-urban-acoustic-scenes-2018-development/evaluation_setup"
    (lists / "fold1_evaluate.txt").unlink()
    splits = TASKS["tut_urban_2018"].load(folder)
    assert [rows["label"] for rows in splits.values()] == [rows["label"] for rows in loaded["tut_urban_2018"].values()]
    (lists / "fold1_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file .*fold1_test\.txt"):
        TASKS["tut_urban_2018"].load(folder)


def test_tut_without_lists_is_split_by_location(copy_of):
    folder = copy_of("tut_urban_2018")
    shutil.rmtree(folder / "TUT-urban-acoustic-scenes-2018-development/evaluation_setup")
    splits = TASKS["tut_urban_2018"].load(folder)
    assert counts(splits) == (140, 20, 40)
    assert_disjoint(splits, key=location)
    assert all(set(labels(rows)) == set(SCENES) for rows in splits.values())


def test_half_downloaded_tut(copy_of, tmp_path):
    folder = copy_of("tut_urban_2018")
    root = folder / "TUT-urban-acoustic-scenes-2018-development"
    (root / "audio/bus-lyon-10-0-a.wav").unlink()
    missing = r"lacks 1 of its files or folders: audio/bus-lyon-10-0-a\.wav\."
    with pytest.raises(FileNotFoundError, match=missing):
        TASKS["tut_urban_2018"].load(folder)
    lists = (root / "evaluation_setup").rename(tmp_path / "lists")
    with pytest.raises(FileNotFoundError, match=missing):
        TASKS["tut_urban_2018"].load(folder)
    lists.rename(root / "evaluation_setup")
    (root / "meta.csv").unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        TASKS["tut_urban_2018"].load(folder)
    write_audio(root / "audio/bus.wav")
    with pytest.raises(ValueError, match=r"bus\.wav is not called <scene>-<city>"):
        TASKS["tut_urban_2018"].load(folder)
    (root / "audio/bus.wav").rename(root / "audio/boat-lyon-200-0-a.wav")
    shutil.rmtree(root / "evaluation_setup")
    with pytest.raises(ValueError, match=r"boat-lyon-200-0-a\.wav has the label 'boat', which is none of airport"):
        TASKS["tut_urban_2018"].load(folder)


# VoxCeleb1


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
    with pytest.raises(ValueError, match=r"iden_split\.txt, line 2, is not <1\|2\|3> <path>: '4 id10001"):
        TASKS["voxceleb1"].load(folder)
    (folder / "iden_split.txt").write_text("1 id10001/1zcIwhmdeo4/00001.wav\n")
    with pytest.raises(FileNotFoundError, match="holds no clips for the split validation, only 1 in all"):
        TASKS["voxceleb1"].load(folder)


# DCASE2018 bird audio detection


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
    with pytest.raises(ValueError, match="`held_out_set` is 'birds', but the sets are BirdVox-DCASE-20k, ff1010bird"):
        load(folder, held_out_set="birds")
    (folder / "audio/warblrb10k/warb3.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of .*: audio/warblrb10k/warb3\.wav"):
        load(folder)
    (folder / "labels/warblrb10k.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of .*: labels/warblrb10k\.csv"):
        load(folder)
    (folder / "labels/warblrb10k.csv").write_text("itemid,hasbird\nwarb0,1\n")
    with pytest.raises(ValueError, match=r"warblrb10k\.csv has to have the columns itemid, datasetid and hasbird"):
        load(folder)


# MUSAN


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
    with pytest.raises(FileNotFoundError, match=r"musan holds no noise/\*\*/\*\.wav"):
        TASKS["musan"].load(folder)


# VoxForge


def voxforge_speaker(url: str) -> str:
    return url.split("/")[-1].split("-")[0]


def test_voxforge(loaded):
    splits = loaded["voxforge"]
    assert sum(counts(splits)) == 6 * 4 * 2 * 2
    assert_disjoint(splits, key=voxforge_speaker)
    speakers = [len({voxforge_speaker(path) for path in paths(rows)}) for rows in splits.values()]
    assert speakers == [13, 2, 4]  # of 19
    for rows in splits.values():
        assert rows.features["label"].names == ["de", "en", "es", "fr", "it", "ru"]
        assert [path.split("/Trunk")[0][-2:] for path in paths(rows)] == labels(rows)


def test_archives_are_read_in_place_and_in_parallel(loaded):
    rows = loaded["voxforge"]["train"]
    with ThreadPoolExecutor(4) as threads:
        waveforms = list(threads.map(load_audio, rows["audio"]))
    for path, waveform in zip(paths(rows), waveforms):
        name = Path(path).stem
        n = int(path.split("::")[0][-5])
        noise = np.random.default_rng([n, *name.encode()]).uniform(-0.5, 0.5, RATE)
        np.testing.assert_allclose(waveform, noise, atol=1e-4)


def test_archives_with_other_files(copy_of):
    folder = copy_of("voxforge")
    path = folder / "de/Trunk/Audio/Main/16kHz_16bit/a name-20110101-ü.tgz"
    file = io.BytesIO()
    soundfile.write(file, np.full(RATE, 0.25), RATE, format="FLAC")
    with tarfile.open(path, "w:gz") as tgz:
        add_member(tgz, "./a/flac/[1].flac", file.getvalue())
        add_member(tgz, "./a/flac/._[1].flac", b"not audio")
    found = [
        row for rows in TASKS["voxforge"].load(folder).values() for row in rows if path.name in row["audio"]["path"]
    ]
    assert len(found) == 1 and len(load_audio(found[0]["audio"])) == RATE


def test_half_downloaded_voxforge(copy_of):
    folder = copy_of("voxforge")
    archives = sorted((folder / "en/Trunk/Audio/Main/16kHz_16bit").iterdir())
    content = archives[0].read_bytes()
    for path, damaged in zip(archives, (content[: len(content) // 2], b"", b"<html>Not found</html>")):
        path.write_bytes(damaged)
    with pytest.raises(
        FileNotFoundError, match=r"3 archives that are damaged or half downloaded: en/.*anonymous-2009"
    ):
        TASKS["voxforge"].load(folder)
    shutil.rmtree(folder / "ru")
    with pytest.raises(FileNotFoundError, match=r"holds no ru/Trunk/Audio/Main/16kHz_16bit/\*\.tgz"):
        TASKS["voxforge"].load(folder)


# NSynth


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
    with pytest.raises(ValueError, match=r"nsynth-test/examples\.json is damaged or half downloaded"):
        load(folder)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file .*nsynth-test/examples\.json"):
        load(folder)
