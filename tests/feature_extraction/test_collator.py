"""Labelled clips: what the transform decodes and what the collator makes of it."""

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset

from feature_extraction import ClipDecoder, COLADataCollator, COLAFeatureExtractor, DataError, load_audio_dataset
from helpers import encode


RATE = 16000
LENGTHS = [4000, 20000, 40000]


def clip(index: int) -> np.ndarray:
    return np.linspace(-0.5, 0.5, LENGTHS[index])


@pytest.fixture(scope="module")
def extractor():
    return COLAFeatureExtractor()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("clips")
    paths = [str(folder / f"{i}.flac") for i in range(3)]
    for i, path in enumerate(paths):
        soundfile.write(path, clip(i), RATE)
    rows = Dataset.from_dict({"audio": paths, "label": ["cat", "dog", "cat"]})
    return rows.cast_column("audio", Audio(decode=False)).cast_column("label", ClassLabel(names=["cat", "dog"]))


def test_whole_clips(dataset, extractor):
    rows = dataset.with_transform(ClipDecoder(extractor))
    for i in range(3):
        assert set(rows[i]) == {"waveform", "labels"}
        np.testing.assert_allclose(rows[i]["waveform"], clip(i), atol=1e-4)
    assert rows[:]["labels"] == [0, 1, 0]


def test_random_segments(dataset, extractor):
    rows = dataset.with_transform(ClipDecoder(extractor, num_frames=96))
    assert [len(waveform) for waveform in rows[:]["waveform"]] == [4000, 15600, 15600]
    torch.manual_seed(0)
    segments = [rows[2]["waveform"] for _ in range(5)]
    assert len({float(segment[0]) for segment in segments}) == 5
    torch.manual_seed(0)
    for segment in segments:
        np.testing.assert_array_equal(rows[2]["waveform"], segment)


@pytest.mark.parametrize("num_frames", [1, 98])
def test_number_of_frames(dataset, extractor, num_frames):
    waveform = dataset.with_transform(ClipDecoder(extractor, num_frames=num_frames))[2]["waveform"]
    batch = extractor(waveform, sampling_rate=RATE, return_tensors="pt")
    assert batch["attention_mask"].sum() == num_frames


def test_other_columns_and_sources(extractor):
    stereo = encode(np.tile(clip(1)[:, None], 2), RATE, "FLAC")
    sources = [{"bytes": stereo, "path": None}, {"array": clip(1), "sampling_rate": RATE}]
    decoded = ClipDecoder(extractor, "sound", "word")({"sound": sources, "word": [3, 4], "other": [0, 0]})
    assert set(decoded) == {"waveform", "labels"} and decoded["labels"] == [3, 4]
    for waveform in decoded["waveform"]:
        np.testing.assert_allclose(waveform, clip(1), atol=1e-4)


def test_clips_are_resampled_to_the_extractors_rate(dataset):
    extractor = COLAFeatureExtractor(sampling_rate=8000, fmax=3900.0)
    rows = dataset.with_transform(ClipDecoder(extractor))
    assert [len(waveform) for waveform in rows[:]["waveform"]] == [2000, 10000, 20000]


def test_collator(dataset, extractor):
    rows = dataset.with_transform(ClipDecoder(extractor))
    rows = [rows[i] for i in range(3)]
    batch = COLADataCollator(extractor)(rows)
    assert set(batch) == {"input_values", "attention_mask", "labels"}
    assert batch["input_values"].shape == (3, 248, 64) and batch["input_values"].dtype == torch.float32
    assert batch["attention_mask"].sum(-1).tolist() == [23, 123, 248]
    assert batch["labels"].tolist() == [0, 1, 0] and batch["labels"].dtype == torch.int64
    expected = extractor([row["waveform"] for row in rows], sampling_rate=RATE, return_tensors="pt")
    assert torch.equal(batch["input_values"], expected["input_values"])


def test_clips_without_labels(dataset, extractor):
    rows = dataset.remove_columns("label").with_transform(ClipDecoder(extractor))
    assert set(rows[0]) == {"waveform"}
    assert set(COLADataCollator(extractor)([rows[0], rows[1]])) == {"input_values", "attention_mask"}
    with pytest.raises(DataError, match="no column 'sound'.* `remove_unused_columns` is False"):
        dataset.with_transform(ClipDecoder(extractor, audio_column="sound"))[0]


def test_collator_with_several_labels_a_clip(extractor):
    rows = [{"waveform": clip(0).astype(np.float32), "labels": labels} for labels in ([1.0, 0.0, 1.0], [0.0] * 3)]
    batch = COLADataCollator(extractor)(rows)
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 0, 0]] and batch["labels"].dtype == torch.float32


def test_data_loader_over_a_labelled_folder(tmp_path, extractor):
    for name in ("cat/a.wav", "dog/b.wav"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, clip(1), RATE)
    rows = load_audio_dataset(str(tmp_path))["train"].with_transform(ClipDecoder(extractor, num_frames=96))
    loader = torch.utils.data.DataLoader(rows, batch_size=2, num_workers=1, collate_fn=COLADataCollator(extractor))
    (batch,) = loader
    assert batch["input_values"].shape == (2, 96, 64) and batch["labels"].tolist() == [0, 1]
