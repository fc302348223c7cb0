"""Linear evaluation of frozen encoders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import run_benchmark
from conftest import write_tones
from run_benchmark import embed_all, encoder_embedder, find_tasks, format_table, linear_evaluation, log_mel_statistics

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAModel


def test_writes_the_table_of_every_task(pretrained: Path, tmp_path: Path):
    for task, pitches in (("easy", {"a": 150.0, "b": 2400.0}), ("three", {"a": 150.0, "b": 600.0, "c": 2400.0})):
        for split, count in (("train", 8), ("test", 4)):
            write_tones(tmp_path / "tasks" / task / split, pitches, count, seconds=0.7)
    table = run_benchmark.main(
        ["--tasks_dir", str(tmp_path / "tasks"), "--output_dir", str(tmp_path), "--checkpoints", str(pretrained)]
    )
    assert list(table) == ["easy", "three"]
    assert list(table["easy"]) == ["log-mel statistics", "compact, random", pretrained.name]
    assert table["easy"]["log-mel statistics"] > 90
    assert json.loads((tmp_path / "results.json").read_text()) == table
    assert "| mean |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").stat().st_size > 5000


def test_log_mel_statistics_ignore_padding():
    extractor, rng = COLAFeatureExtractor(), np.random.default_rng(0)
    short, long = rng.standard_normal(4000), rng.standard_normal(40000)
    vectors = log_mel_statistics(extractor)([short, long])
    frames = extractor(short, sampling_rate=16000, return_tensors="np")["input_values"][0, : 1 + (4000 - 400) // 160]
    expected = np.concatenate([frames.mean(0), frames.std(0), frames.max(0)])
    np.testing.assert_allclose(vectors[0], expected, atol=1e-4)


def test_vectors_come_back_in_order_whatever_the_batches(pretrained: Path):
    embed = encoder_embedder(COLAModel.from_pretrained(pretrained), COLAFeatureExtractor())
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(length) for length in (30000, 5000, 17000, 400, 22000)]
    singly = np.concatenate([embed([waveform]) for waveform in waveforms])
    np.testing.assert_allclose(embed_all(embed, waveforms, "test", batch_size=2), singly, atol=1e-4)


def test_linear_evaluation_separates_what_a_line_separates():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    vectors = rng.standard_normal((200, 5)) + 6 * labels[:, None] * np.eye(5)[0]
    assert linear_evaluation(vectors[:100], labels[:100], vectors[100:], labels[100:]) > 95
    assert linear_evaluation(vectors[:100, 1:], labels[:100], vectors[100:, 1:], labels[100:]) < 75


def test_format_table_has_a_mean_of_several_tasks():
    table = {"one": {"A": 50.0, "B": 60.0}, "two": {"A": 70.0, "B": 100.0}}
    assert format_table(table).splitlines()[-1] == "| mean | 60.0 | 80.0 |"
    assert "mean" not in format_table({"one": table["one"]})


def test_missing_tasks_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no folders"):
        find_tasks(str(tmp_path), None)
    (tmp_path / "birds").mkdir()
    with pytest.raises(FileNotFoundError, match="No task bees.*there are birds"):
        find_tasks(str(tmp_path), ["bees"])


def test_a_task_without_labels_is_named(tones: Path, tmp_path: Path):
    shutil.copytree(tones / "low", tmp_path / "tasks" / "flat")
    with pytest.raises(ValueError, match="flat needs the splits train and test"):
        run_benchmark.main(["--tasks_dir", str(tmp_path / "tasks"), "--output_dir", str(tmp_path / "out")])
