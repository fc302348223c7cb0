"""Formats that only ffmpeg decodes."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_extraction import AudioDecodingError, load_audio, load_audio_dataset
from feature_extraction.ffmpeg import has_ffmpeg


needs_ffmpeg = pytest.mark.skipif(not has_ffmpeg(), reason="ffmpeg is not installed: apt-get install ffmpeg")


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of 440 Hz at 16 kHz, as m4a, aac and wma."""
    folder = tmp_path_factory.mktemp("tone")
    soundfile.write(folder / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000), 16000)
    for suffix in ("m4a", "aac", "wma"):
        command = ["ffmpeg", "-v", "error", "-i", str(folder / "tone.wav"), str(folder / f"tone.{suffix}")]
        subprocess.run(command, check=True)
    (folder / "tone.wav").unlink()
    return folder


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "aac", "wma"])
def test_ffmpeg_decodes_what_soundfile_does_not(tone: Path, suffix: str):
    path = tone / f"tone.{suffix}"
    waveform = load_audio(path)
    assert len(waveform) == pytest.approx(32000, abs=2500)  # encoders add some silence
    spectrum = np.abs(np.fft.rfft(waveform[8000:24000]))
    assert spectrum.argmax() == 440 and np.abs(waveform[8000:24000]).max() == pytest.approx(0.3, rel=0.1)
    row = {"bytes": path.read_bytes(), "path": path.name}
    np.testing.assert_array_equal(load_audio(row), waveform)
    np.testing.assert_array_equal(load_audio(path, start=1.0, duration=0.5), waveform[16000:24000])


@needs_ffmpeg
def test_a_folder_of_them_is_a_data_set(tone: Path, caplog):
    dataset = load_audio_dataset(str(tone))["train"]
    assert len(dataset) == 3 and not caplog.records


@needs_ffmpeg
@pytest.mark.parametrize("text", ["no audio", "#EXTM3U\nsecret.wav\n", "ffconcat version 1.0\nfile secret.wav\n"])
def test_what_is_no_audio_is_named_and_no_other_file_is_opened(tmp_path: Path, text: str):
    (tmp_path / "bad.m4a").write_text(text)
    with pytest.raises(AudioDecodingError, match="bad.m4a cannot be decoded by ffmpeg"):
        load_audio(tmp_path / "bad.m4a")


def test_without_ffmpeg_the_error_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("feature_extraction.ffmpeg.has_ffmpeg", lambda: False)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x18ftypM4A ")
    with pytest.raises(AudioDecodingError, match="a.m4a is of a format.*Install the program ffmpeg"):
        load_audio(tmp_path / "a.m4a")
