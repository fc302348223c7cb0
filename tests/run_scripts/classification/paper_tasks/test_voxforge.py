"""VoxForge, whose archives are read in place."""

import io
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_extraction import load_audio
from miniatures import RATE, add_member, assert_disjoint, counts, labels, paths
from run_scripts.classification.paper_tasks import TASKS


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
    with pytest.raises(FileNotFoundError, match=r"3 archives that are damaged or incomplete: en/.*anonymous-2009"):
        TASKS["voxforge"].load(folder)
    shutil.rmtree(folder / "ru")
    with pytest.raises(FileNotFoundError, match=r"contains no ru/Trunk/Audio/Main/16kHz_16bit/\*\.tgz"):
        TASKS["voxforge"].load(folder)
