"""Decoding: every container and source, resampling, crops that read no more than they need, and clear errors."""

import errno
import io
import math
import os
import pickle
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import soundfile
import torch

from feature_extraction import (
    AudioDecodingError,
    BadClipError,
    MissingAudioError,
    audio,
    audio_source,
    load_audio,
    open_audio,
)
from helpers import count_decoded, encode


RATE = 16000
# Container, encoding, and how far a decoded sample may be off; None where the encoding loses more than rounding.
FORMATS = [
    ("WAV", "PCM_16", 1e-4),
    ("WAV", "PCM_24", 1e-6),
    ("WAV", "FLOAT", 1e-7),
    ("FLAC", "PCM_16", 1e-4),
    ("OGG", "VORBIS", None),
    ("OGG", "OPUS", None),
    ("MP3", "MPEG_LAYER_III", None),
]


def chirp(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """A sweep: no part of it looks like another."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time)).astype(np.float32)


def sine(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def assert_same_sound(samples: np.ndarray, expected: np.ndarray, tolerance: float | None) -> None:
    assert samples.dtype == np.float32 and samples.shape == expected.shape
    if tolerance is None:
        assert np.corrcoef(samples, expected)[0, 1] > 0.99
    else:
        np.testing.assert_allclose(samples, expected, atol=tolerance)


class TorchcodecDecoder:
    """What `datasets.features.audio.AudioDecoder` offers."""

    def __init__(self, samples: np.ndarray, sample_rate: int):
        self.decoded = SimpleNamespace(data=torch.from_numpy(samples), sample_rate=sample_rate)

    def get_all_samples(self) -> SimpleNamespace:
        return self.decoded


class DecoderOfAKnownFile:
    def __init__(self, encoded: dict):
        self._hf_encoded = encoded

    def get_all_samples(self) -> SimpleNamespace:
        raise AssertionError("The whole file was decoded.")


# Sources


@pytest.mark.parametrize("container, subtype, tolerance", FORMATS)
def test_containers(container, subtype, tolerance):
    assert_same_sound(load_audio(encode(chirp(), RATE, container, subtype)), chirp(), tolerance)


@pytest.mark.parametrize(
    "kind",
    ["str", "path", "bytes", "bytearray", "file", "BytesIO", "URL", "bytes and path", "bytes only", "path only"],
)
def test_sources(tmp_path, kind):
    encoded = encode(chirp(), RATE, "FLAC")
    path = tmp_path / "clip.flac"
    path.write_bytes(encoded)
    with fsspec.open("memory://folder/clip.flac", "wb") as file:
        file.write(encoded)
    source = {
        "str": str(path),
        "path": path,
        "bytes": encoded,
        "bytearray": bytearray(encoded),
        "file": open(path, "rb") if kind == "file" else None,
        "BytesIO": io.BytesIO(encoded),
        "URL": "memory://folder/clip.flac",
        "bytes and path": {"bytes": encoded, "path": "not/there.flac"},
        "bytes only": {"bytes": encoded, "path": None},
        "path only": {"bytes": None, "path": str(path)},
    }[kind]
    assert_same_sound(load_audio(source), chirp(), 1e-4)


def test_file_object_is_read_from_its_start():
    file = io.BytesIO(encode(chirp()))
    file.seek(1000)
    assert_same_sound(load_audio(file), chirp(), 1e-4)


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.array([0.1, 0.2], dtype=np.float32), [0.1, 0.2]),
        (np.array([0.1, 0.2]), [0.1, 0.2]),
        ([0.1, 0.2], [0.1, 0.2]),
        (np.array([[0.1, 0.2], [0.3, 0.6]]), [0.2, 0.4]),
    ],
)
def test_decoded_array(array, expected):
    for name in ("array", "raw"):  # as `datasets` calls it, and as pipelines do
        samples = load_audio({name: array, "sampling_rate": RATE})
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [{}, {"sampling_rate": None}, {"sampling_rate": "44100"}, {"sampling_rate": 0}])
def test_a_decoded_array_without_a_rate(rate: dict):
    with pytest.raises(ValueError, match="Decoded audio needs its `sampling_rate` in hertz"):
        load_audio({"array": np.zeros(16000)} | rate)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32"])
def test_decoded_integers_are_scaled(dtype):
    info = np.iinfo(dtype)
    array = np.array([info.min, (int(info.min) + int(info.max) + 1) // 2, info.max], dtype)
    samples = load_audio({"array": array, "sampling_rate": RATE})
    np.testing.assert_allclose(samples, [-1, 0, 1], atol=0.01)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((16000, 2)), r"got \(16000, 2\): transpose it"),
        (np.zeros((2, 3, 4)), r"of shape \(2, 3, 4\)"),
        (["a", "b"], "an array of numbers"),
        (np.zeros(3, complex), "an array of numbers"),
        (0.5, r"of shape \(\)"),
    ],
)
def test_arrays_that_are_no_audio(array, message):
    with pytest.raises(ValueError, match=message):
        load_audio({"array": array, "sampling_rate": RATE})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"duration": 0.0}, "`duration` must be at least a sample, got 0.0 s"),
        ({"duration": -1.0}, "`duration` must be at least a sample"),
        ({"sampling_rate": 0}, "`sampling_rate` must be a number of hertz"),
        ({"sampling_rate": -16000}, "`sampling_rate` must be a number of hertz"),
    ],
)
def test_arguments_that_ask_for_nothing(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_audio(encode(chirp()), **arguments)


def test_torchcodec_decoder():
    stereo = np.stack([chirp(rate=8000), np.zeros_like(chirp(rate=8000))])
    assert_same_sound(load_audio(TorchcodecDecoder(stereo, 8000)), chirp() / 2, None)
    samples = load_audio(TorchcodecDecoder(chirp()[None], RATE), start=0.5, duration=0.25)
    np.testing.assert_array_equal(samples, chirp()[8000:12000])


def test_decoder_of_a_known_file_is_not_run(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(encode(chirp()))
    for encoded in ({"bytes": None, "path": str(path)}, {"bytes": path.read_bytes(), "path": "clip.wav"}):
        assert_same_sound(load_audio(DecoderOfAKnownFile(encoded), start=0.5), chirp()[8000:], 1e-4)


# Channels and sampling rates


@pytest.mark.parametrize("num_channels", [2, 6])
def test_channels_are_averaged(num_channels):
    channels = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, num_channels))
    samples = load_audio(encode(channels, subtype="FLOAT"))
    np.testing.assert_allclose(samples, channels.mean(1), atol=1e-6)


@pytest.mark.parametrize("seconds", [1.0, 0.98765])
@pytest.mark.parametrize("own_rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_resampling_keeps_frequency_amplitude_and_length(own_rate, seconds):
    samples = load_audio(encode(sine(1000, own_rate, seconds), own_rate, subtype="FLOAT"))
    assert len(samples) == math.ceil(round(seconds * own_rate) * RATE / own_rate)
    middle = samples[2000:14000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(1000, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    np.testing.assert_allclose(middle, sine(1000, RATE, seconds)[2000 : 2000 + len(middle)], atol=0.01)


@pytest.mark.parametrize("own_rate", [11127, 44099])
def test_sampling_rates_that_share_no_factor(own_rate):
    """A filter for each phase of such a rate would take gigabytes."""
    samples = load_audio(encode(sine(1000, own_rate, 3.0), own_rate, subtype="FLOAT"))
    np.testing.assert_allclose(samples[2000:-2000], sine(1000, RATE, 3.0)[2000:-2000], atol=1e-4)


@pytest.mark.parametrize("own_rate, top", [(8000, 3500), (11025, 4800), (22050, 7000), (44100, 7000), (48000, 7000)])
def test_resampling_keeps_all_frequencies(own_rate, top):
    """Noise up to 7 kHz or most of what the recording has: an error of -60 dB; a filter of few samples has -29 dB."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, top)

    def noise(rate: int) -> np.ndarray:
        spectrum = np.zeros(rate // 2 + 1, complex)
        spectrum[:top] = 0.1 * rate / np.sqrt(top) * np.exp(1j * phases)
        return np.fft.irfft(spectrum, rate)

    expected = noise(RATE)[2000:-2000]
    error = load_audio(encode(noise(own_rate), own_rate, subtype="FLOAT"))[2000:-2000] - expected
    assert 10 * np.log10(np.mean(error**2) / np.mean(expected**2)) < -60


def test_resampling_does_not_alias():
    samples = load_audio(encode(sine(12000, 48000), 48000))
    assert np.abs(samples[1000:-1000]).max() < 0.01


def test_other_target_rate():
    samples = load_audio(encode(sine(1000, 16000)), sampling_rate=32000)
    np.testing.assert_allclose(samples[2000:-2000], sine(1000, 32000)[2000:-2000], atol=0.01)


# Crops


@pytest.mark.parametrize("container, subtype", [(container, subtype) for container, subtype, _ in FORMATS])
@pytest.mark.parametrize("start, duration", [(0.0, 0.5), (0.4, 0.3), (0.7501, 0.1), (1.5, 10.0), (1.25, None)])
def test_crop_is_a_slice(container, subtype, start, duration):
    encoded = encode(chirp(), RATE, container, subtype)
    first = round(start * RATE)
    expected = load_audio(encoded)[first : None if duration is None else first + round(duration * RATE)]
    np.testing.assert_allclose(load_audio(encoded, start=start, duration=duration), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("container, subtype", [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
@pytest.mark.parametrize("own_rate", [8000, 11025, 11127, 22050, 44099, 44100, 48000])
def test_resampled_crop_is_a_slice_up_to_its_ends(own_rate, container, subtype):
    """Of noise, since a chirp is too smooth for its ends to differ by much."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * own_rate)
    with open_audio(encode(noise, own_rate, container, subtype)) as audio:
        whole = audio.read()
        for start, count in ((0, 1600), (1, 400), (8000, 15360), (12345, 7000), (32001, 5000), (46400, 1600)):
            np.testing.assert_allclose(audio.read(start, count), whole[start : start + count], atol=5e-6)
        np.testing.assert_allclose(audio.read(40000), whole[40000:], atol=5e-6)


@pytest.mark.parametrize("container, subtype", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_crops_of_one_file_are_slices_in_any_order(container, subtype):
    """Vorbis overlaps what it decodes after a seek with what it decoded before."""
    rng = np.random.default_rng(0)
    with open_audio(encode(rng.uniform(-0.5, 0.5, 4 * RATE), RATE, container, subtype)) as audio:
        whole = audio.read()
        for start in rng.integers(0, 3 * RATE, 40):
            np.testing.assert_array_equal(audio.read(start, 1000), whole[start : start + 1000])


@pytest.mark.parametrize("own_rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
def test_crop_has_the_asked_length_up_to_the_end(own_rate):
    for own_length in range(60, 160):
        with open_audio({"array": np.ones(own_length), "sampling_rate": own_rate}) as audio:
            for num_samples in (1, 7, 15):
                crop = audio.read(audio.num_samples - num_samples, num_samples)
                assert len(crop) == num_samples, (own_length, num_samples)


@pytest.mark.parametrize("container, subtype", [("WAV", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_crop_decodes_nothing_else(monkeypatch, container, subtype):
    decoded = count_decoded(monkeypatch)
    encoded = encode(chirp(20, 48000), 48000, container, subtype)
    with open_audio(encoded) as audio:
        assert audio.num_samples == 320000 and decoded == []
        audio.read(200000, 1600)
    assert 4800 <= sum(decoded) <= (10000 if container == "OGG" else 5800)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_bytes_of_plain_pcm_are_read_in_place(monkeypatch, channels, wrap):
    samples = np.random.default_rng(0).uniform(-1, 1, (3000, channels))
    encoded = encode(samples, 8000, "WAV", "PCM_16")
    expected = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)[0].mean(axis=1)
    monkeypatch.setattr(audio_source, "BlockReader", None)
    with open_audio(wrap(encoded), 8000) as audio:
        np.testing.assert_array_equal(audio.read(), expected)
        np.testing.assert_array_equal(audio.read(2000, 100), expected[2000:2100])


def test_cut_pcm_is_left_to_soundfile(monkeypatch):
    encoded = encode(chirp(1, 8000), 8000, "WAV", "PCM_16")
    opened = []
    monkeypatch.setattr(audio_source, "BlockReader", lambda file: opened.append(file) or soundfile.SoundFile(file))
    load_audio(encoded[:-1000], 8000)
    assert len(opened) == 1


def test_mp3_crops_print_nothing(capfd):
    encoded = encode(chirp(5, 44100), 44100, "MP3")
    for start in (0.0, 0.013, 0.5, 1.234, 3.3, 4.9):
        load_audio(encoded, start=start, duration=0.2)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("own_rate", [16000, 44100])
@pytest.mark.parametrize("container, subtype, tolerance", FORMATS)
def test_blocks_change_nothing(monkeypatch, container, subtype, tolerance, own_rate):
    own_rate = 48000 if subtype == "OPUS" else own_rate  # Opus has no 44.1 kHz
    encoded = encode(chirp(rate=own_rate), own_rate, container, subtype)
    whole, crop = load_audio(encoded), load_audio(encoded, start=0.7, duration=0.6)
    monkeypatch.setattr(audio, "BLOCK", 1000)
    np.testing.assert_array_equal(load_audio(encoded), whole)
    np.testing.assert_array_equal(load_audio(encoded, start=0.7, duration=0.6), crop)


@pytest.mark.parametrize("container", ["FLAC", "MP3"])
def test_long_file_is_decoded_in_blocks(monkeypatch, container):
    monkeypatch.setattr(audio, "BLOCK", 5000)
    decoded = count_decoded(monkeypatch)
    encoded = encode(chirp(5, 44100), 44100, container)
    for start, duration in ((0.0, None), (4.0, 0.5)):
        load_audio(encoded, start=start, duration=duration)
    assert max(decoded) == 5000


def test_audio_file_reads_many_times():
    with open_audio(encode(chirp())) as audio:
        assert audio.num_samples == 32000 and audio.sampling_rate == RATE
        late, early = audio.read(30000, 500), audio.read(100, 500)
        assert len(audio.read(31900, 500)) == 100
    np.testing.assert_allclose(late, chirp()[30000:30500], atol=1e-4)
    np.testing.assert_allclose(early, chirp()[100:600], atol=1e-4)


def test_flac_without_a_length_in_its_header():
    """As a program writes it that encodes into a pipe."""
    encoded = bytearray(encode(chirp(), RATE, "FLAC"))
    encoded[21] &= 0xF0  # the 36 bits of STREAMINFO that hold the number of samples
    encoded[22:26] = bytes(4)
    with pytest.raises(AudioDecodingError, match="does not say how long"):
        load_audio(bytes(encoded))


# Errors


def truncated_flac() -> bytes:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE)
    encoded = encode(noise, RATE, "FLAC")
    return encoded[: len(encoded) // 3]


BAD_FILES = {
    "empty.wav": (b"", "0 bytes"),
    "text.wav": (b"This is no audio. " * 100, "not audio that soundfile can decode"),
    "text.mp3": (b"This is no audio. " * 100, "not audio that soundfile can decode"),
    "text.raw": (b"This is no audio. " * 100, "not audio that soundfile can decode"),
    "header.flac": (encode(np.zeros(100), RATE, "FLAC")[:20], "not audio that soundfile can decode"),
    "truncated.flac": (truncated_flac(), "damaged|truncated"),
    "no_samples.wav": (encode(np.zeros(0)), "holds no samples"),
}


@pytest.mark.parametrize("by", ["path", "bytes", "file"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_named(tmp_path, name, by):
    encoded, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(encoded)
    source = {"path": path, "bytes": {"bytes": encoded, "path": name}, "file": open(path, "rb")}[by]
    with pytest.raises(AudioDecodingError, match=rf"{name}.*({message})"):
        load_audio(source)


def test_damage_is_met_only_where_it_is():
    encoded = truncated_flac()
    assert len(load_audio(encoded, start=0.5, duration=0.5)) == 8000
    with pytest.raises(AudioDecodingError, match="the audio is (damaged|truncated)"):
        load_audio(encoded, start=4.0, duration=0.5)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "AIFF", "AU", "W64", "RF64"])
def test_file_that_is_shorter_than_its_header_says(container):
    """Its first part can be read, as that of a FLAC file."""
    encoded = encode(chirp(), RATE, container, "PCM_16")
    assert len(load_audio(encoded)) == 2 * RATE
    cut = encoded[: len(encoded) * 2 // 3]
    with pytest.raises(AudioDecodingError, match="the audio is truncated: its header says that it has 32000 samples"):
        load_audio(cut)
    np.testing.assert_allclose(load_audio(cut, start=0.5, duration=0.5), chirp()[8000:16000], atol=1e-4)


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF])
def test_wav_that_was_written_to_a_pipe(size):
    encoded = bytearray(encode(chirp()))
    encoded[4:8] = encoded[40:44] = size.to_bytes(4, "little")
    assert_same_sound(load_audio(bytes(encoded)), chirp(), 1e-4)


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "GSM610"), ("AU", "G721_32"), ("AU", "G723_40"), ("WAV", "NMS_ADPCM_32")]
)
def test_encodings_that_are_decoded_as_a_whole(format: str, subtype: str):
    samples = load_audio(encode(sine(440, 8000, 2.0), 8000, format, subtype), start=0.5, duration=1.0)
    assert len(samples) == RATE
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("url", ["foo://bucket/a.wav", "gs://bucket/a.wav", "dropbox://a.wav"])
def test_url_that_cannot_be_read(url):
    """Of an unknown kind, or of one whose package is not installed."""
    with pytest.raises(AudioDecodingError, match=f"{url} cannot be read: ") as error:
        load_audio(url)
    assert error.value.kind == "unreadable"


def test_missing_file(tmp_path):
    for source in (tmp_path / "nowhere.wav", {"bytes": None, "path": str(tmp_path / "nowhere.wav")}):
        with pytest.raises(FileNotFoundError, match="nowhere.wav"):
            load_audio(source)
    with pytest.raises(FileNotFoundError, match="nowhere.wav"):
        load_audio("memory://folder/nowhere.wav")


def test_every_fault_of_a_file_is_a_bad_clip(tmp_path, monkeypatch):
    def failing_open(path, mode):
        raise OSError(errno.EIO, "Input/output error", path)

    (tmp_path / "folder.wav").mkdir()
    for name, kind in (("folder.wav", "unreadable"), ("nowhere.wav", "missing"), ("with\0zero.wav", "missing")):
        with pytest.raises(BadClipError) as error:
            load_audio(str(tmp_path / name))
        assert error.value.kind == kind and name in str(error.value)
    assert isinstance(error.value, FileNotFoundError) and isinstance(error.value, MissingAudioError)
    copy = pickle.loads(pickle.dumps(error.value))  # as a worker process sends it
    assert (copy.kind, str(copy)) == ("missing", str(error.value))

    monkeypatch.setattr(audio_source, "open", failing_open, raising=False)
    with pytest.raises(AudioDecodingError, match="a.wav cannot be read: Input/output error") as error:
        load_audio("a.wav")
    assert error.value.kind == "unreadable"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
def test_exhausted_resources_are_no_fault_of_a_clip(monkeypatch, code):
    def failing_open(path, mode):
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(audio_source, "open", failing_open, raising=False)
    with pytest.raises(OSError) as error:
        load_audio("a.wav")
    assert not isinstance(error.value, BadClipError)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read every file")
def test_forbidden_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(encode(chirp()))
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioDecodingError, match="a.wav cannot be read: Permission denied"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("own_rate", [16000, 44100])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_samples_that_are_not_finite(value, own_rate):
    samples = chirp(rate=own_rate)
    samples[own_rate] = value
    encoded = encode(samples, own_rate, subtype="FLOAT")
    with pytest.raises(AudioDecodingError, match="the audio has samples that are infinite or not a number") as error:
        load_audio(encoded)
    assert error.value.kind == "not finite"
    assert np.isfinite(load_audio(encoded, start=1.5)).all()


def test_decoder_that_fails():
    def fail() -> None:
        raise RuntimeError("Could not push packet to decoder")

    with pytest.raises(AudioDecodingError, match="damaged: Could not push"):
        load_audio(SimpleNamespace(get_all_samples=fail))


def test_implausible_sampling_rate():
    """A header that says 1 Hz would make a minute of samples of each one."""
    with pytest.raises(AudioDecodingError, match="its sampling rate is 1 Hz"):
        load_audio(encode(chirp(), 1))


@pytest.mark.parametrize("source", [{}, {"bytes": None, "path": None}, {"path": None}])
def test_dictionary_of_nothing(source):
    with pytest.raises(AudioDecodingError, match="neither bytes nor a path"):
        load_audio(source)


@pytest.mark.parametrize("array", [[], np.zeros((2, 0))])
def test_empty_array(array):
    with pytest.raises(AudioDecodingError, match="the array holds no samples"):
        load_audio({"array": array, "sampling_rate": RATE})


@pytest.mark.parametrize("start", [-0.1, 2.0, 100.0])
def test_start_beyond_the_end(tmp_path, start):
    path = tmp_path / "clip.wav"
    path.write_bytes(encode(chirp()))
    with pytest.raises(ValueError, match=rf"`start` is {start} s.*clip.wav, which is 2.00 s long"):
        load_audio(path, start=start)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_no_file_is_left_open(tmp_path):
    good = tmp_path / "good.flac"
    good.write_bytes(encode(chirp(), RATE, "FLAC"))
    for name, (encoded, _) in BAD_FILES.items():
        (tmp_path / name).write_bytes(encoded)
    load_audio(good)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        load_audio(good)
        load_audio(good, start=0.5, duration=0.1)
        with pytest.raises(ValueError):
            load_audio(good, start=9.0)
        for name in BAD_FILES:
            with pytest.raises(AudioDecodingError):
                load_audio(tmp_path / name)
    assert os.listdir("/proc/self/fd") == before
