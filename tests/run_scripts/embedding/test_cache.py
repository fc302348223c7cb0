"""Vectors that are kept on disk: what they are, and that nothing but the right ones is ever read."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset

from feature_extraction import COLAFeatureExtractor, load_audio, load_audio_dataset
from helpers import write_tones
from modeling_cola import COLAConfig, COLAModel
from run_scripts.common.files import DiskFullError
from run_scripts.embedding import cache as cache_module
from run_scripts.embedding import encode
from run_scripts.embedding.cache import Embeddings, cut_windows, embed_cached, hash_clips, hash_encoder


@pytest.fixture(scope="module")
def model() -> COLAModel:
    torch.manual_seed(0)
    return COLAModel(COLAConfig(encoder="compact", compact_channels=8, hidden_size=80)).eval()


@pytest.fixture
def clips(tmp_path: Path) -> Dataset:
    """Two clips of 0.5 s and two of 1.5 s."""
    write_tones(tmp_path / "clips", {"a": 200.0}, 2, seconds=0.5)
    write_tones(tmp_path / "clips", {"b": 2000.0}, 2, seconds=1.5)
    return load_audio_dataset(str(tmp_path / "clips"))["train"]


def embed(model: COLAModel, clips: Dataset, cache: Path, random_windows: bool = True) -> Embeddings:
    return embed_cached(model, COLAFeatureExtractor(), clips, "audio", "label", cache, random_windows)


def test_windows_are_a_quarter_apart_and_reach_the_end():
    waveform = np.arange(40000)
    windows = cut_windows(waveform, 15600)
    starts = np.array([window[0] for window in windows])
    assert {len(window) for window in windows} == {15600} and windows[0][0] == 0 and windows[-1][-1] == 39999
    assert len(windows) == 8 and np.ptp(np.diff(starts)) <= 1 and np.diff(starts).max() <= 3900
    assert len(cut_windows(np.zeros(10_000_000), 15600)) == cache_module.MAX_WINDOWS
    assert [len(window) for window in cut_windows(np.zeros(700), 15600)] == [700]
    assert len(cut_windows(np.zeros(15600), 15600)) == 1


@torch.no_grad()
def test_vectors_are_those_of_the_model(model: COLAModel, clips: Dataset, tmp_path: Path):
    extractor = COLAFeatureExtractor()

    def h(waveform: np.ndarray) -> np.ndarray:
        return model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).pooler_output[0].numpy()

    whole, windows = (embed(model, clips, tmp_path / "cache", random_windows) for random_windows in (False, True))
    assert np.diff(whole.offsets).tolist() == [1] * 4 and np.diff(windows.offsets).tolist() == [1, 1, 4, 4]
    for i, row in enumerate(clips):
        waveform = load_audio(row["audio"])
        np.testing.assert_allclose(whole[i]["input_values"], h(waveform), atol=1e-4)
        possible = np.stack([h(window) for window in cut_windows(waveform, 15600)])
        drawn = np.stack([windows[i]["input_values"] for _ in range(40)])
        distances = np.abs(drawn[:, None] - possible).max(-1)
        assert distances.min(1).max() < 1e-4
        assert set(distances.argmin(1)) == set(range(len(possible)))  # each is drawn at times
        assert whole[i]["labels"] == windows[i]["labels"] == row["label"]


def test_the_key_tells_apart_whatever_gives_other_vectors(model: COLAModel, clips: Dataset):
    extractor = COLAFeatureExtractor()
    before = hash_encoder(model, extractor)
    assert hash_encoder(model, COLAFeatureExtractor(do_normalize=False)) != before
    pooled = [COLAModel(COLAConfig(encoder="compact", compact_channels=8, pooling=p)) for p in ("mean", "max")]
    pooled[1].load_state_dict(pooled[0].state_dict())
    assert hash_encoder(pooled[0], extractor) != hash_encoder(pooled[1], extractor)
    other = COLAModel(model.config)
    other.load_state_dict(model.state_dict())
    assert hash_encoder(other, extractor) == before
    with torch.no_grad():
        other.encoder.pooling.dense[0].bias[0] += 1e-3
    assert hash_encoder(other, extractor) != before

    keys = {
        hash_clips(clips, "audio"),
        hash_clips(clips.select([0, 1]), "audio"),
        hash_clips(clips.select([1, 0]), "audio"),
    }
    assert len(keys) == 3
    path = clips[0]["audio"]["path"]
    soundfile.write(path, load_audio(path)[::-1], 16000)  # another sound in a file of the same name and length
    os.utime(path, (1, 1))
    assert hash_clips(clips, "audio") not in keys


def entry(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


@pytest.mark.parametrize("damage", ["flip", "truncate", "manifest", "offsets", "missing"])
def test_a_damaged_entry_is_made_anew(
    model: COLAModel, clips: Dataset, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    right = np.array(embed(model, clips, tmp_path / "cache").vectors)
    folder = entry(tmp_path / "cache")
    vectors, manifest = folder / cache_module.VECTORS, folder / cache_module.MANIFEST
    data = bytearray(vectors.read_bytes())
    if damage == "flip":
        data[100] ^= 1
        vectors.write_bytes(data)
    elif damage == "truncate":
        vectors.write_bytes(data[:-400])
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-20])
    elif damage == "offsets":
        manifest.write_text(manifest.read_text().replace("[0, 1, 2,", "[0, 2, 2,"))
    else:
        vectors.unlink()
    again = embed(model, clips, tmp_path / "cache")
    assert "is damaged" in caplog.text and "embedded again" in caplog.text
    np.testing.assert_allclose(again.vectors, right, atol=1e-5)
    assert entry(tmp_path / "cache") == folder


def test_a_kill_leaves_no_entry(model: COLAModel, clips: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*args):
        yield np.zeros((1, 80), np.float32)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_embed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed(model, clips, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(embed(model, clips, tmp_path / "cache")) == 4


def test_a_cache_that_cannot_be_written_is_named(model: COLAModel, clips: Dataset, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Could not write .*--embedding_cache"):
        embed(model, clips, tmp_path / "file")
    Path(clips[0]["audio"]["path"]).unlink()
    with pytest.raises(FileNotFoundError, match="0.wav"):
        embed(model, clips, tmp_path / "cache")


def test_one_long_clip_does_not_pad_the_short_ones(
    model: COLAModel, clips: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rng, extractor = np.random.default_rng(0), COLAFeatureExtractor
    soundfile.write(tmp_path / "clips" / "a" / "1.wav", 0.1 * rng.standard_normal(60 * 16000), 16000)
    before = {mode: embed(model, clips, tmp_path / "before", mode).vectors for mode in (False, True)}
    monkeypatch.setattr(encode, "SAMPLES_AT_ONCE", 500_000)
    shapes, log_mel = [], extractor.log_mel

    def spy(self: COLAFeatureExtractor, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple:
        shapes.append(tuple(waveforms.shape))
        return log_mel(self, waveforms, lengths)

    monkeypatch.setattr(extractor, "log_mel", spy)
    for mode, vectors in before.items():
        np.testing.assert_allclose(embed(model, clips, tmp_path / "after", mode).vectors, vectors, atol=1e-6)
    assert shapes == [(1, 8000), (1, 960000), (2, 24000), (32, 15600), (32, 15600), (9, 15600)]


def test_a_full_disk_is_named_with_the_room_that_is_missing(
    model: COLAModel, clips: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache_module, "VECTORS", "/dev/full")
    with pytest.raises(DiskFullError, match="The disk is full: .* are free. Make room.*--embedding_cache off"):
        embed(model, clips, tmp_path / "cache")


def test_a_file_that_may_be_read_now_is_another_one(clips: Dataset, monkeypatch: pytest.MonkeyPatch):
    """Otherwise a clip that was skipped because the operating system refused it would be skipped for ever."""
    readable = hash_clips(clips, "audio")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert hash_clips(clips, "audio") != readable


def test_changes_of_a_file_whose_name_is_not_utf8_are_seen(tmp_path: Path):
    path = os.fsencode(write_tones(tmp_path, {"a": 200.0}, 1, seconds=0.2) / "a") + b"/k\xe9.wav"
    os.rename(tmp_path / "a" / "0.wav", path)
    clips = load_audio_dataset(str(tmp_path))["train"]
    before = hash_clips(clips, "audio")
    with open(path, "ab") as file:
        file.write(b"more")
    assert hash_clips(clips, "audio") != before


def test_copies_of_clips_have_the_same_key_as_files_and_in_parquet(clips: Dataset, tmp_path: Path):
    paths = [shutil.copyfile(clip["audio"]["path"], tmp_path / f"{i}.wav") for i, clip in enumerate(clips)]
    stored = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    for audio in ([{"bytes": None, "path": str(path)} for path in paths], stored):
        copies = Dataset.from_dict({"audio": audio}).cast_column("audio", Audio(decode=False))
        assert hash_clips(copies, "audio") == hash_clips(clips, "audio")
        assert hash_clips(copies.select([0]), "audio") != hash_clips(clips, "audio")


def test_a_file_is_read_once(clips: Dataset, monkeypatch: pytest.MonkeyPatch):
    key = hash_clips(clips, "audio")
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("read again"))
    assert hash_clips(clips, "audio") == key
