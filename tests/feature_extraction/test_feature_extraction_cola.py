"""The feature extractor: TensorFlow's log-mel, invariances, every input it takes and every one it refuses."""

import inspect
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor

from feature_extraction import COLAFeatureExtractor


REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "fixtures" / "logmel_golden.npz"
REFERENCE = REPOSITORY.parent / "shared" / "reference" / "logmel_reference.npz"
LOG_FLOOR = math.log(1e-5)
RATE = 16000


@pytest.fixture(scope="module")
def extractor():
    return COLAFeatureExtractor()


def noise(num_samples: int, seed: int = 0, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def features(extractor, waveform, **kwargs) -> torch.Tensor:
    return extractor(waveform, sampling_rate=RATE, return_tensors="pt", **kwargs)["input_values"]


def assert_is_log_mel(values: np.ndarray, expected: np.ndarray) -> None:
    """
    Near the floor the FFTs of different libraries and processors round differently: on the tones, TensorFlow's own
    values differ by 6.6e-3 in the mean from those of double precision. Above it they agree closely.
    """
    assert values.shape == expected.shape
    error = np.abs(values - expected)
    loud = expected > -6
    assert error.mean() < 1e-2
    assert error[loud].mean() < 1e-3
    assert error[loud].max() < 5e-3


# What TensorFlow computes


def test_mel_filters_are_tensorflows(extractor):
    golden = np.load(GOLDEN)
    np.testing.assert_allclose(extractor.mel_filters, golden["mel_weight"], atol=1e-5)


@pytest.mark.parametrize("index, name", list(enumerate(["chirp", "noise", "tones", "silence", "click"])))
def test_log_mel_is_tensorflows(index, name):
    golden = np.load(GOLDEN)
    assert golden["names"][index] == name
    extractor = COLAFeatureExtractor(do_normalize=False, min_frames=1)
    values = extractor(golden["waveform"][index], sampling_rate=RATE, return_tensors="np")["input_values"][0]
    if name == "silence":
        np.testing.assert_allclose(values, golden["log_mel"][index], atol=1e-5)
    else:
        assert_is_log_mel(values, golden["log_mel"][index])


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the full reference file is not there")
def test_full_reference():
    reference = np.load(REFERENCE)
    extractor = COLAFeatureExtractor(do_normalize=False)
    np.testing.assert_allclose(extractor.mel_filters, reference["mel_weight"], atol=1e-5)
    values = extractor(reference["waveform"], sampling_rate=RATE, return_tensors="np")["input_values"]
    assert_is_log_mel(values, reference["log_mel"])


# Frames, shapes and types


@pytest.mark.parametrize("num_samples", [1, 399, 400, 559, 560, 8000, 15599, 15600, 15759, 15760, 16000, 40000])
def test_number_of_frames(extractor, num_samples):
    batch = extractor(noise(num_samples), sampling_rate=RATE, return_tensors="pt")
    valid = max(1 + (num_samples - 400) // 160, 1)
    assert batch["input_values"].shape == (1, max(valid, 96), 64)
    assert batch["attention_mask"].tolist() == [[1] * valid + [0] * (max(valid, 96) - valid)]


def test_num_samples(extractor):
    assert extractor.num_samples(96) == 15600
    assert extractor.num_samples(1) == 400


@pytest.mark.parametrize("num_frames", [1, 2, 96, 1000])
def test_num_frames(extractor, num_frames):
    num_samples = extractor.num_samples(num_frames)
    assert extractor.num_frames(num_samples) == extractor.num_frames(num_samples + 159) == num_frames
    assert extractor.num_frames(num_samples - 1) == num_frames - 1


@pytest.mark.parametrize("return_tensors", ["pt", "np", None])
def test_output_types(extractor, return_tensors):
    batch = extractor([noise(16000), noise(20000)], sampling_rate=RATE, padding=True, return_tensors=return_tensors)
    assert set(batch) == {"input_values", "attention_mask"}
    values, mask = batch["input_values"], batch["attention_mask"]
    if return_tensors is None:
        assert isinstance(values, list) and isinstance(mask, list) and isinstance(values[0], np.ndarray)
        values, mask = np.stack(values), np.stack(mask)
    assert isinstance(values, torch.Tensor if return_tensors == "pt" else np.ndarray)
    assert values.shape == (2, 123, 64) and mask.shape == (2, 123)
    assert values.dtype == (torch.float32 if return_tensors == "pt" else np.float32)
    assert mask.dtype == (torch.int64 if return_tensors == "pt" else np.int64)


def test_return_attention_mask(extractor):
    assert set(extractor(noise(400), sampling_rate=RATE, return_attention_mask=False)) == {"input_values"}
    quiet = COLAFeatureExtractor(return_attention_mask=False)
    assert set(quiet(noise(400), sampling_rate=RATE)) == {"input_values"}
    assert set(quiet(noise(400), sampling_rate=RATE, return_attention_mask=True)) == {"input_values", "attention_mask"}


# Kinds of input


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.tolist(),
        lambda x: tuple(x.tolist()),
        lambda x: [x.tolist()],
        lambda x: [x],
        lambda x: (x,),
        lambda x: x[None],
        lambda x: x.astype(np.float64),
        lambda x: x[::-1][::-1],
        torch.from_numpy,
        lambda x: torch.from_numpy(x)[None],
        lambda x: [torch.from_numpy(x)],
        lambda x: torch.from_numpy(x).double(),
    ],
)
def test_one_waveform_in_any_container(extractor, convert):
    waveform = noise(16000)
    torch.testing.assert_close(
        features(extractor, convert(waveform)), features(extractor, waveform), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "dtype, zero, scale", [("int8", 0, 128), ("int16", 0, 2**15), ("int32", 0, 2**31), ("uint8", 128, 128)]
)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_integers_are_scaled_to_one(dtype, zero, scale, as_tensor):
    extractor = COLAFeatureExtractor(do_normalize=False)
    integers = np.clip(np.round(noise(16000) * scale) + zero, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    floats = ((integers.astype(np.float64) - zero) / scale).astype(np.float32)
    given = torch.from_numpy(integers) if as_tensor else integers
    torch.testing.assert_close(features(extractor, given), features(extractor, floats), atol=1e-4, rtol=0)


def test_int16_and_float_agree(extractor):
    waveform = noise(16000)
    integers = (waveform * 32768).round().astype(np.int16)
    torch.testing.assert_close(features(extractor, integers), features(extractor, waveform), atol=0.02, rtol=0)


def test_float16(extractor):
    waveform = noise(16000).astype(np.float16)
    torch.testing.assert_close(features(extractor, waveform), features(extractor, waveform.astype(np.float32)))


def test_batch_array_is_a_batch(extractor):
    batch = np.stack([noise(16000, seed) for seed in range(3)])
    expected = torch.cat([features(extractor, row) for row in batch])
    for given in (batch, torch.from_numpy(batch), list(batch), batch.tolist()):
        torch.testing.assert_close(features(extractor, given), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["clip", "tensor", "batch", "list"])
def test_stereo_is_averaged(extractor, axis, kind):
    left, right = noise(16000, 1), noise(16000, 2)
    clip = np.stack([left, right], axis=axis)
    expected = features(extractor, (left + right) / 2)
    given = {
        "clip": clip,
        "tensor": torch.from_numpy(clip),
        "batch": np.stack([clip, clip]),
        "list": [clip, np.concatenate([clip, clip], axis=1 if axis == 0 else 0)],
    }[kind]
    values = features(extractor, given, channel_axis=axis)
    assert len(values) == (2 if kind in ("batch", "list") else 1)
    torch.testing.assert_close(values[:1, :98], expected, atol=1e-4, rtol=0)


def test_stereo_int16_is_averaged_without_overflow(extractor):
    left = (noise(16000) * 32767).clip(-32768, 32767).astype(np.int16) // 2 + 16000
    stereo = np.stack([left, left])
    torch.testing.assert_close(features(extractor, stereo, channel_axis=0), features(extractor, left))


@pytest.mark.parametrize(("shape", "axis"), [((2, 4000), 1), ((2, 4000), -1), ((4000, 2), 0), ((4000, 2), -2)])
def test_time_is_not_taken_for_channels(extractor, shape: tuple[int, int], axis: int):
    with pytest.raises(ValueError, match="would have 4000 channels: pass the other axis as `channel_axis`"):
        features(extractor, np.zeros(shape, dtype=np.float32), channel_axis=axis)


def test_a_tensor_with_gradients_is_taken(extractor):
    waveform = torch.from_numpy(noise(16000))
    values = extractor(waveform.clone().requires_grad_(), sampling_rate=RATE)["input_values"]
    assert np.array_equal(values[0], extractor(waveform, sampling_rate=RATE)["input_values"][0])


def test_device_argument(extractor):
    assert features(extractor, noise(400), device="cpu").device.type == "cpu"
    assert features(extractor, noise(400), device=torch.device("cpu")).device.type == "cpu"


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(extractor):
    waveforms = [torch.from_numpy(noise(n, n)) for n in (300, 16000, 50000)]
    expected = extractor(waveforms, sampling_rate=RATE, return_tensors="pt")
    for batch in (
        extractor([waveform.cuda() for waveform in waveforms], sampling_rate=RATE, return_tensors="pt"),
        extractor(waveforms, sampling_rate=RATE, return_tensors="pt", device="cuda"),
    ):
        assert batch["input_values"].is_cuda and batch["attention_mask"].is_cuda
        torch.testing.assert_close(batch["input_values"].cpu(), expected["input_values"], atol=1e-3, rtol=0)
        assert torch.equal(batch["attention_mask"].cpu(), expected["attention_mask"])
    arrays = extractor(waveforms, sampling_rate=RATE, return_tensors="np", device="cuda")
    assert isinstance(arrays["input_values"], np.ndarray)


# Saving


CHANGED = {
    "feature_size": 40,
    "sampling_rate": 22050,
    "padding_value": -3.0,
    "win_length": 500,
    "hop_length": 200,
    "n_fft": 2048,
    "fmin": 30.0,
    "fmax": 7000.0,
    "mel_floor": 1e-4,
    "min_frames": 10,
    "do_normalize": False,
    "target_rms": 0.1,
}


def test_every_argument_survives_saving(tmp_path):
    names = set(inspect.signature(COLAFeatureExtractor.__init__).parameters) - {"self", "kwargs"}
    assert names == set(CHANGED)
    default, changed = COLAFeatureExtractor(), COLAFeatureExtractor(**CHANGED)
    changed.save_pretrained(tmp_path)
    loaded = COLAFeatureExtractor.from_pretrained(tmp_path)
    for name, value in CHANGED.items():
        assert getattr(loaded, name) == value != getattr(default, name), name
    expected = changed(noise(4000), sampling_rate=22050, return_tensors="pt")
    values = loaded(noise(4000), sampling_rate=22050, return_tensors="pt")
    assert values["input_values"].shape == (1, 18, 40)
    assert torch.equal(values["input_values"], expected["input_values"])


@pytest.mark.parametrize("name", [name for name in CHANGED if name != "sampling_rate"])
def test_every_argument_matters(name):
    extractor = COLAFeatureExtractor(**{"do_normalize": True, name: CHANGED[name]})
    values = extractor(noise(4000), sampling_rate=RATE, return_tensors="pt")["input_values"]
    expected = features(COLAFeatureExtractor(), noise(4000))
    if name == "mel_floor":  # it is the value of the padding
        assert values.min() == pytest.approx(math.log(1e-4))
    assert values.shape != expected.shape or not torch.allclose(values, expected, atol=1e-3)


def test_saved_folder(tmp_path):
    COLAFeatureExtractor().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["auto_map"] == {"AutoFeatureExtractor": "feature_extraction_cola.COLAFeatureExtractor"}
    assert saved["feature_extractor_type"] == "COLAFeatureExtractor"
    assert not {"mel_filters", "window"} & set(saved)
    source = Path(inspect.getfile(COLAFeatureExtractor))
    assert (tmp_path / "feature_extraction_cola.py").read_text() == source.read_text()


def test_auto_class_finds_it(tmp_path):
    COLAFeatureExtractor(min_frames=48).save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert isinstance(loaded, COLAFeatureExtractor) and loaded.min_frames == 48


def test_auto_class_runs_the_saved_code_alone(tmp_path):
    """As someone does who has the saved folder and not this package."""
    COLAFeatureExtractor(min_frames=48).save_pretrained(tmp_path / "saved")
    np.save(tmp_path / "waveform.npy", noise(4000))
    code = (
        "import sys, numpy as np; from transformers import AutoFeatureExtractor\n"
        "extractor = AutoFeatureExtractor.from_pretrained('saved', trust_remote_code=True)\n"
        "batch = extractor(np.load('waveform.npy'), sampling_rate=16000, return_tensors='np')\n"
        "assert 'feature_extraction' not in sys.modules\n"
        "np.save('values.npy', batch['input_values'])"
    )
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    expected = features(COLAFeatureExtractor(min_frames=48), noise(4000)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), expected, atol=1e-5)


# Padding and silence


def test_padding_value_is_log_floor(extractor):
    assert extractor.padding_value == pytest.approx(LOG_FLOOR)
    assert COLAFeatureExtractor(mel_floor=1e-3).padding_value == pytest.approx(math.log(1e-3))
    assert COLAFeatureExtractor(padding_value=0.0).padding_value == 0.0


@pytest.mark.parametrize("do_normalize", [True, False])
def test_padded_and_silent_frames_are_the_same(do_normalize):
    extractor = COLAFeatureExtractor(do_normalize=do_normalize)
    batch = extractor([np.zeros(5000), noise(30000)], sampling_rate=RATE, return_tensors="pt")
    silent, mask = batch["input_values"][0], batch["attention_mask"][0]
    assert 0 < mask.sum() < len(mask)
    np.testing.assert_allclose(silent, np.full_like(silent, LOG_FLOOR), atol=1e-5)


@pytest.mark.parametrize("do_normalize", [True, False])
def test_batch_does_not_change_a_clip(do_normalize):
    extractor = COLAFeatureExtractor(do_normalize=do_normalize)
    clips = [noise(n, n) for n in (1, 399, 700, 9001, 15600, 16001, 70000)]
    batch = extractor(clips, sampling_rate=RATE, return_tensors="pt")
    for i, clip in enumerate(clips):
        alone = extractor(clip, sampling_rate=RATE, return_tensors="pt")
        length = alone["input_values"].shape[1]
        torch.testing.assert_close(batch["input_values"][i, :length], alone["input_values"][0], atol=1e-5, rtol=0)
        assert (batch["input_values"][i, length:] == extractor.padding_value).all()
        assert batch["attention_mask"][i].sum() == alone["attention_mask"].sum()


def test_log_mel_of_a_batch_is_call(extractor):
    clips = [noise(n, n) for n in (300, 16000, 40000)]
    expected = extractor(clips, sampling_rate=RATE, return_tensors="pt")
    waveforms = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True)
    values, mask = extractor.log_mel(waveforms, torch.tensor([len(clip) for clip in clips]))
    assert torch.equal(values, expected["input_values"])
    assert torch.equal(mask, expected["attention_mask"])


def test_calls_are_deterministic_and_leave_the_input_alone(extractor):
    waveform = noise(16000)
    before = waveform.copy()
    assert torch.equal(features(extractor, waveform), features(extractor, waveform))
    np.testing.assert_array_equal(waveform, before)


@pytest.mark.parametrize("max_length, expected", [(200, 200), (100, 123)])
def test_padding_to_max_length(extractor, max_length, expected):
    clips = [noise(20000), noise(400)]
    batch = extractor(clips, sampling_rate=RATE, padding="max_length", max_length=max_length, return_tensors="pt")
    assert batch["input_values"].shape == (2, expected, 64) and batch["attention_mask"].shape == (2, expected)
    assert batch["attention_mask"].sum(-1).tolist() == [123, 1]
    assert (batch["input_values"][batch["attention_mask"] == 0] == extractor.padding_value).all()


def test_truncation(extractor):
    """What is cut off has no part in the features, not even by its loudness."""
    clips = [np.concatenate([noise(400 + 109 * 160), 30 * noise(9000)]), noise(400)]
    kept = features(extractor, [clips[0][: 400 + 109 * 160], clips[1]])
    for padding in ("max_length", "longest", True):
        values = features(extractor, clips, truncation=True, max_length=110, padding=padding)
        assert torch.equal(values, kept)
    short = features(extractor, noise(20000), truncation=True, max_length=10)
    assert torch.equal(short, features(extractor, noise(20000)[: 400 + 9 * 160])[:, :10])


def test_pad_to_multiple_of(extractor):
    batch = extractor(noise(20000), sampling_rate=RATE, pad_to_multiple_of=64, return_tensors="pt")
    assert batch["input_values"].shape == (1, 128, 64)
    assert batch["attention_mask"].sum() == 123
    assert (batch["input_values"][0, 123:] == extractor.padding_value).all()


def test_padding_on_the_left_is_refused():
    with pytest.raises(ValueError, match="padding_side is 'left'.* on the right"):
        COLAFeatureExtractor(padding_side="left")


def test_lists_are_not_padded_unless_asked(extractor):
    clips = [noise(16000), noise(30000)]
    lengths = [
        [len(values) for values in extractor(clips, sampling_rate=RATE, **padding)["input_values"]]
        for padding in ({}, {"padding": True})
    ]
    assert lengths == [[98, 186], [186, 186]]
    for return_tensors in ("pt", "np"):
        assert extractor(clips, sampling_rate=RATE, return_tensors=return_tensors)["input_values"].shape == (
            2,
            186,
            64,
        )


def test_what_is_padded_later_is_as_what_is_padded_at_once(extractor):
    clips = [noise(1000), noise(16000), noise(30000)]
    values = extractor(clips, sampling_rate=RATE)["input_values"]  # without the masks
    later = extractor.pad([{"input_values": clip} for clip in values], return_tensors="pt")
    at_once = extractor(clips, sampling_rate=RATE, return_tensors="pt")
    assert torch.equal(later["input_values"], at_once["input_values"])
    assert later["attention_mask"].sum(1).tolist() == [96, 98, 186]  # a short clip is one window with silence


def test_no_padding(extractor):
    clips = [noise(400), noise(20000)]
    batch = extractor(clips, sampling_rate=RATE, padding=False)
    assert [len(values) for values in batch["input_values"]] == [96, 123]
    assert [len(mask) for mask in batch["attention_mask"]] == [96, 123]
    np.testing.assert_allclose(batch["input_values"][0], features(extractor, clips[0])[0], atol=1e-5)


# Gain


@pytest.mark.parametrize("gain", [0.01, 0.5, 20, -1])
def test_gain_does_not_move_normalised_features(extractor, gain):
    clips = [noise(3000), noise(30000)]
    expected = features(extractor, clips)
    torch.testing.assert_close(features(extractor, [gain * clip for clip in clips]), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("gain", [0.5, 20])
def test_gain_shifts_log_mel_without_normalisation(gain):
    extractor = COLAFeatureExtractor(do_normalize=False)
    waveform = noise(16000)
    shift = features(extractor, gain * waveform) - features(extractor, waveform)
    np.testing.assert_allclose(shift, np.full_like(shift, math.log(gain)), atol=1e-4)


def test_normalised_segment_has_norm_one(extractor):
    waveform = noise(15600)
    plain = COLAFeatureExtractor(do_normalize=False)
    torch.testing.assert_close(
        features(extractor, waveform), features(plain, waveform / np.linalg.norm(waveform)), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("amplitude", [1e-30, 1e-20, 1e-10, 1e10, 1e30])
def test_extreme_amplitudes(extractor, amplitude):
    waveform = noise(16000, amplitude=1.0)
    values = features(extractor, waveform * np.float32(amplitude))
    torch.testing.assert_close(values, features(extractor, waveform), atol=1e-3, rtol=0)
    assert features(COLAFeatureExtractor(do_normalize=False), waveform * np.float32(amplitude)).isfinite().all()


def test_one_sample(extractor):
    batch = extractor([0.5], sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].shape == (1, 96, 64) and batch["input_values"].isfinite().all()
    assert batch["attention_mask"].sum() == 1


# Long recordings


def test_an_hour_in_bounded_memory():
    code = (
        "import resource, numpy as np; from feature_extraction import COLAFeatureExtractor\n"
        "waveform = np.random.default_rng(0).random(57_600_000, dtype=np.float32) - np.float32(0.5)\n"
        "batch = COLAFeatureExtractor()(waveform, sampling_rate=16000, return_tensors='pt')\n"
        "print(*batch['input_values'].shape, int(batch['attention_mask'].sum()))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    shape, peak = done.stdout.strip().splitlines()
    assert shape == "1 359998 64 359998"
    assert int(peak) * 1024 < 3e9


def test_long_recording_is_the_same_in_one_piece_and_in_two(monkeypatch):
    extractor = COLAFeatureExtractor(do_normalize=False)
    waveform = noise(100_000)
    expected = features(extractor, [waveform, waveform[:50_000]])
    module = sys.modules[COLAFeatureExtractor.__module__]
    monkeypatch.setattr(module, "FRAME_CHUNK_SIZE", 100)
    torch.testing.assert_close(features(extractor, [waveform, waveform[:50_000]]), expected, atol=1e-5, rtol=0)


# What it refuses


def test_wrong_sampling_rate(extractor):
    with pytest.raises(ValueError, match="16000 Hz.*44100 Hz"):
        extractor(noise(400), sampling_rate=44100)


def test_missing_sampling_rate_warns(extractor, caplog):
    with caplog.at_level(logging.WARNING):
        extractor(noise(400), sampling_rate=RATE)
        assert not caplog.records
        extractor(noise(400))
    assert "sampling_rate" in caplog.text and "16000 Hz" in caplog.text


@pytest.mark.parametrize(
    "waveform, message",
    [
        (np.zeros(0, dtype=np.float32), "waveform 0 is empty"),
        ([noise(400), np.zeros(0)], "waveform 1 is empty"),
        ([], "empty"),
        ([[]], "empty"),
        (np.zeros((0, 400), dtype=np.float32), "empty"),
        (np.array([0.1, np.nan], dtype=np.float32), "waveform 0 holds NaN"),
        ([noise(400), np.array([0.1, np.inf])], "waveform 1 holds NaN or infinite"),
        ([0.1, float("-inf")], "waveform 0 holds NaN or infinite"),
        (np.zeros((2, 3, 400), dtype=np.float32), r"shape \(2, 3, 400\)"),
        (np.zeros((400, 2), dtype=np.float32), r"shape \(400, 2\).*channel_axis=1"),
        (torch.zeros(400, 2), r"shape \(400, 2\).*channel_axis=1"),
        ([noise(400), np.zeros((2, 400), dtype=np.float32)], r"waveform 1 has shape \(2, 400\).*channel_axis"),
        (np.zeros(400, dtype=bool), "of type bool"),
        (torch.zeros(400, dtype=torch.bool), "of type torch.bool"),
        (np.zeros(400, dtype=np.complex64), "of type complex64"),
        (np.array([0.1, None]), "of type object"),
        (np.array(["a", "b"]), "of type <U1"),
        (np.zeros(400, dtype=np.int64), "int64.*int16"),
        (torch.zeros(400, dtype=torch.int64), "int64.*int16"),
        (np.zeros(400, dtype=np.uint16), "uint16.*int16"),
        ("dog.wav", "got str.*load_audio"),
        (Path("dog.wav"), "Path.*load_audio"),
        (None, "NoneType"),
        (b"RIFF", "got bytes"),
        ({"array": noise(400)}, "waveform 0 is a dict of array, but.*sampling_rate"),
    ],
)
def test_refused_waveforms(extractor, waveform, message):
    with pytest.raises(ValueError, match=message):
        extractor(waveform, sampling_rate=RATE)


def test_list_of_paths_is_refused_with_a_hint(extractor):
    with pytest.raises(ValueError, match="load_audio|of type"):
        extractor(["dog.wav", "cat.wav"], sampling_rate=RATE)


def test_truncation_needs_max_length(extractor):
    with pytest.raises(ValueError, match="max_length"):
        extractor(noise(400), sampling_rate=RATE, truncation=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling_rate": 0}, "`sampling_rate` must be at least 1, got 0"),
        ({"hop_length": 0}, "`hop_length` must be at least 1, got 0"),
        ({"win_length": 2048}, "`win_length` is 2048, but a frame must fit into `n_fft`, which is 1024"),
        ({"padding_value": math.nan}, "`padding_value` must be finite"),
    ],
)
def test_values_out_of_range_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        COLAFeatureExtractor(**arguments)


def test_a_length_that_is_not_positive_is_named():
    with pytest.raises(ValueError, match="`max_length` must be at least 1 frame, got -5"):
        COLAFeatureExtractor()(np.ones(16000), sampling_rate=16000, padding="max_length", max_length=-5)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_the_byte_order_does_not_matter(dtype: str):
    samples = (1000 * np.random.default_rng(0).standard_normal(16000)).astype(dtype)
    if dtype != "i2":
        samples /= 32768
    extractor = COLAFeatureExtractor()
    big, little = (
        extractor(samples.astype(order + dtype), sampling_rate=16000, return_tensors="pt")["input_values"]
        for order in ("<", ">")
    )
    assert torch.equal(big, little)


def test_settings_are_not_taken_for_arguments_of_a_call(extractor, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        extractor(noise(400), sampling_rate=RATE, do_normalize=False)
    assert "ignores do_normalize" in caplog.text and "arguments of `from_pretrained`" in caplog.text


def test_two_waveforms_that_may_be_stereo_are_warned_of(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        COLAFeatureExtractor()(np.ones((2, 16001)), sampling_rate=16000)
    assert "pass `channel_axis=0` to average its channels" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_rate": 8000}, "`fmin` and `fmax` must be between 0 and half of `sampling_rate`, 4000 Hz"),
        ({"fmin": -1}, "`fmin` and `fmax` must be"),
        ({"target_rms": 0}, "`target_rms` must be above 0"),
        ({"mel_floor": 0}, "`mel_floor` must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        COLAFeatureExtractor(**settings)


@pytest.mark.parametrize("do_normalize", [True, False])
def test_gradients_are_finite_where_there_is_silence(do_normalize):
    extractor = COLAFeatureExtractor(do_normalize=do_normalize)
    clip = torch.cat([torch.from_numpy(noise(9000)), torch.zeros(2000), torch.from_numpy(noise(4000))])
    clip.requires_grad_()
    values = extractor([clip, noise(30000)], sampling_rate=RATE, return_tensors="pt")["input_values"]
    values.sum().backward()
    assert torch.isfinite(clip.grad).all() and clip.grad[1:9000].abs().min() > 0
    expected = extractor([clip.detach(), noise(30000)], sampling_rate=RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(values.detach(), expected, rtol=0, atol=1e-5)


def test_another_channel_axis_is_refused(extractor):
    with pytest.raises(ValueError, match="`channel_axis` must be 0 or 1, got 5"):
        extractor(np.zeros((2, 16000)), sampling_rate=RATE, channel_axis=5)
