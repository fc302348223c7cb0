"""The classification job, end to end on small audio."""

import json
from pathlib import Path

import numpy as np
import pytest
import run_classification
import soundfile
import torch
from conftest import write_tones
from datasets import Audio, ClassLabel, Dataset, DatasetDict
from run_classification import split_dataset
from transformers import pipeline

from feature_extraction import load_audio
from modeling_cola import COLAForAudioClassification, COLAModel


def arguments(data: Path, output_dir: Path, mode: str, checkpoint: Path | None = None, *more: str) -> list[str]:
    return [
        *("--dataset_name", str(data), "--output_dir", str(output_dir), "--mode", mode, "--encoder", "compact"),
        *(("--model_name_or_path", str(checkpoint)) if checkpoint else ()),
        *("--per_device_train_batch_size", "8", "--num_train_epochs", "2", "--disable_tqdm", "True"),
        *more,
    ]


@pytest.fixture(scope="module")
def fine_tuned(tones: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine-tuned")
    more = ("--num_train_epochs", "8", "--metric_for_best_model", "loss")
    run_classification.main(arguments(tones, folder, "fine-tuned", pretrained, *more))
    return folder


def test_learns_tones_and_saves_what_a_pipeline_loads(fine_tuned: Path, tones: Path):
    results = json.loads((fine_tuned / "results.json").read_text())
    assert results["accuracy"] > 0.8
    assert (fine_tuned / "confusion_matrix.png").stat().st_size > 5000
    classify = pipeline("audio-classification", model=str(fine_tuned), device="cpu")
    scores = classify(load_audio(tones / "high" / "0.wav"))
    assert {score["label"] for score in scores} == {"low", "middle", "high"}
    assert scores[0]["label"] == "high"


def test_fine_tuning_moves_the_encoder_and_linear_evaluation_does_not(
    fine_tuned: Path, tones: Path, pretrained: Path, tmp_path: Path
):
    run_classification.main(arguments(tones, tmp_path, "frozen", pretrained))
    start, tuned, frozen = (
        COLAModel.from_pretrained(path).state_dict() for path in (pretrained, fine_tuned, tmp_path)
    )
    assert all(torch.equal(start[name], frozen[name]) for name in start)
    assert not all(torch.equal(start[name], tuned[name]) for name in start)


@pytest.mark.parametrize("mode", ["random", "supervised"])
def test_modes_without_a_checkpoint(tones: Path, tmp_path: Path, mode: str):
    results = run_classification.main(arguments(tones, tmp_path, mode))
    assert results["mode"] == mode and 0 <= results["accuracy"] <= 1
    assert COLAForAudioClassification.from_pretrained(tmp_path).config.encoder == "compact"


def test_a_classifier_starts_from_one_of_other_classes(fine_tuned: Path, tmp_path: Path):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 16, seconds=0.5)
    run_classification.main(arguments(data, tmp_path / "out", "fine-tuned", fine_tuned))
    config = COLAForAudioClassification.from_pretrained(tmp_path / "out").config
    assert config.id2label == {0: "a", 1: "b"}


def clips(counts: dict[str, int]) -> Dataset:
    labels = [name for name, count in counts.items() for _ in range(count)]
    rows = {"audio": [f"{i}.wav" for i in range(len(labels))], "label": labels}
    return Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))


def test_missing_splits_are_held_out_by_class_without_overlap():
    train, validation, test = split_dataset(DatasetDict({"train": clips({"a": 50, "b": 50})}), "label", 0)
    assert (len(train), len(validation), len(test)) == (72, 8, 20)
    assert isinstance(train.features["label"], ClassLabel)
    for split in (validation, test):
        assert np.bincount(split["label"]).tolist() == [len(split) // 2] * 2
    paths = [audio["path"] for split in (train, validation, test) for audio in split["audio"]]
    assert len(set(paths)) == 100


def test_splits_that_are_there_are_used():
    given = DatasetDict({name: clips({"a": n, "b": n}) for name, n in (("train", 9), ("valid", 3), ("test", 4))})
    assert [len(split) for split in split_dataset(given, "label", 0)] == [18, 6, 8]


@pytest.mark.parametrize(
    ("dataset", "column", "message"),
    [
        ({"test": clips({"a": 2})}, "label", "needs a split 'train'"),
        ({"train": clips({"a": 9})}, "species", "no column 'species'"),
        ({"train": clips({"a": 9, "b": 1})}, "label", "no split 'test'"),
    ],
)
def test_bad_data_is_named(dataset: dict, column: str, message: str):
    with pytest.raises(ValueError, match=message):
        split_dataset(DatasetDict(dataset), column, 0)


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
def test_modes_that_need_a_checkpoint_say_so(tones: Path, tmp_path: Path, mode: str):
    with pytest.raises(ValueError, match="--model_name_or_path"):
        run_classification.main(arguments(tones, tmp_path, mode))


def test_an_unknown_mode_is_named(tones: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="--mode must be one of"):
        run_classification.main(arguments(tones, tmp_path, "linear"))


def test_a_broken_clip_is_named(tmp_path: Path):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 16, seconds=0.5)
    for name in ("a", "b"):
        for path in (data / name).glob("*.wav"):
            path.write_text("not audio")
    soundfile.write(data / "a" / "good.wav", np.zeros(8000), 16000)
    with pytest.raises(ValueError, match=r"\.wav is not audio"):
        run_classification.main(arguments(data, tmp_path / "out", "supervised"))
