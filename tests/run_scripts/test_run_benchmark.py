"""Linear evaluation of frozen encoders."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from feature_extraction import COLAFeatureExtractor
from helpers import write_tones
from modeling_cola import COLAConfig, COLAModel
from run_scripts import run_benchmark, run_classification
from run_scripts.evaluation.embedders import LOG_MEL, embed_all, encoder_embedder, log_mel_statistics
from run_scripts.evaluation.probes import knn_evaluation, linear_evaluation, split_folds
from run_scripts.run_benchmark import find_tasks, format_table, list_methods


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of our own, and one of the paper in its publisher's layout."""
    folder = tmp_path_factory.mktemp("tasks")
    for task, pitches in (("easy", {"a": 150.0, "b": 2400.0}), ("three", {"a": 150.0, "b": 600.0, "c": 2400.0})):
        for split, count in (("train", 8), ("test", 4)):
            write_tones(folder / task / split, pitches, count, seconds=0.7)
    for name, pitch in (("music", 200.0), ("speech", 600.0), ("noise", 2000.0)):
        write_tones(folder / "musan" / "musan" / name, {"source": pitch}, 10, seconds=0.5)
    return folder


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_benchmark, "FROZEN_EPOCHS", 2)


def arguments(tasks: Path, output_dir: Path, *more: str) -> list[str]:
    return ["--tasks_dir", str(tasks), "--output_dir", str(output_dir), *more]


def test_writes_the_tables_of_every_task(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--checkpoints", str(pretrained), "--seeds", "2")
    tables = run_benchmark.main(arguments(tasks, tmp_path, *more))
    frozen, papers = f"{pretrained.name}, frozen", ["paper, random", "paper, frozen"]
    assert list(tables) == ["accuracy", "logistic", "knn"]
    assert all(list(table) == ["easy", "musan", "three"] for table in tables.values())
    assert all(list(row) == ["compact, random", frozen, *papers] for row in tables["accuracy"].values())
    for figure in ("logistic", "knn"):
        assert all(list(row) == [LOG_MEL, "compact, random", frozen] for row in tables[figure].values())
    assert tables["logistic"]["easy"][LOG_MEL] > 90

    cells = json.loads((tmp_path / "results.json").read_text())
    assert len(cells) == 3 * (1 + 2 + 2) and {cell["seed"] for cell in cells if cell["method"] != LOG_MEL} == {0, 1}
    for cell in cells:
        assert 0 <= cell["knn"] <= 100 and 0 <= cell["logistic"] <= 100 and cell["seconds"] > 0
        assert (cell["accuracy"] is None) == (cell["method"] == LOG_MEL)
    with open(tmp_path / "results.csv") as file:
        rows = {(row["task"], row["method"]): row for row in csv.DictReader(file)}
    assert float(rows["easy", frozen]["logistic"]) == tables["logistic"]["easy"][frozen]
    assert rows["easy", frozen]["seeds"] == "2" and not rows["easy", frozen]["logistic_std"]  # the same for each seed
    assert rows["musan", "paper, frozen"]["accuracy"] == "99.1"
    trained, *vectors = (tmp_path / "results.md").read_text().split("vectors")
    assert "| paper, random | paper, frozen |" in trained and "99.1" in trained and "–" in trained
    assert len(vectors) == 2 and all("| mean |" in part and "paper" not in part for part in vectors)
    assert " ± " in trained + vectors[0]
    assert all((tmp_path / f"{figure}.png").stat().st_size > 5000 for figure in tables)


def test_frozen_is_what_run_classification_trains(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--tasks", "three", "--modes", "frozen", "--checkpoints", str(pretrained))
    tables = run_benchmark.main(arguments(tasks, tmp_path, *more))
    results = run_classification.main(
        [
            *("--dataset_name", str(tasks / "three"), "--model_name_or_path", str(pretrained), "--mode", "frozen"),
            *("--output_dir", str(tmp_path / "alone"), "--seed", "0", "--num_train_epochs", "2"),
            *("--embedding_cache", str(tmp_path / "cache")),
        ]
    )
    (accuracy,) = tables["accuracy"]["three"].values()
    assert accuracy == pytest.approx(100 * results["accuracy"], abs=1e-3)


def test_a_rerun_measures_only_what_is_missing(
    tasks: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command = arguments(tasks, tmp_path, "--tasks", "easy", "three", "--checkpoints", str(pretrained))
    measure, measured = run_benchmark.measure_vectors, []

    def interrupted(methods: list, splits: DatasetDict, name: str, folds: None) -> dict:
        if name == "three":
            raise KeyboardInterrupt
        return measure(methods, splits, name)

    def counted(methods: list, splits: DatasetDict, name: str, folds: None) -> dict:
        measured.extend((name, method.mode) for method in methods)
        return measure(methods, splits, name)

    monkeypatch.setattr(run_benchmark, "measure_vectors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark.main(command)
    monkeypatch.setattr(run_benchmark, "measure_vectors", counted)
    first = run_benchmark.main(command)
    assert measured == [("three", mode) for mode in ("log-mel", "random", "frozen")]
    measured.clear()
    assert run_benchmark.main(command) == first and measured == []

    # A damaged cell, other weights and other clips are measured anew; nothing else is.
    (cell,) = (tmp_path / "cells" / "easy").glob("log-mel*")
    cell.write_text(cell.read_text()[:-10])
    assert run_benchmark.main(command) == first
    assert measured == [("easy", "log-mel")]
    measured.clear()
    other = tmp_path / "other" / pretrained.name
    model = COLAModel.from_pretrained(pretrained)
    with torch.no_grad():
        model.encoder.pooling.dense[0].bias += 1.0
    model.save_pretrained(other)
    COLAFeatureExtractor().save_pretrained(other)
    run_benchmark.main([*command[:-1], str(other)])
    assert measured == [("easy", "frozen"), ("three", "frozen")]
    measured.clear()
    changed = shutil.copytree(tasks, tmp_path / "tasks")
    (changed / "easy" / "train" / "a" / "0.wav").unlink()
    run_benchmark.main(["--tasks_dir", str(changed), *command[2:]])
    assert ("easy", "frozen") in measured


def test_each_kind_of_encoder_has_random_weights_of_its_own(pretrained: Path, tmp_path: Path):
    start = {"encoder": "mobilenetv4_conv_small", "pooling": "mean"}
    configs = {
        "a": COLAConfig(encoder="compact", pooling="statistics"),
        "b": COLAConfig(encoder="compact", pooling="statistics", zero_init_residual=True),  # it has no such blocks
        "c": COLAConfig(encoder="compact", pooling="mean"),
        "d": COLAConfig(**start),
        "e": COLAConfig(**start, zero_init_residual=True),
    }
    for name, config in configs.items():
        COLAModel(config).save_pretrained(tmp_path / name)
        COLAFeatureExtractor().save_pretrained(tmp_path / name)
    checkpoints = [str(pretrained), *(str(tmp_path / name) for name in configs)]
    methods = list_methods(checkpoints, ["random"], 1)
    kinds = ["compact", "compact (pooling statistics)", "compact (pooling mean)"]
    kinds += [f"mobilenetv4_conv_small (pooling mean{start})" for start in ("", ", zero_init_residual True")]
    assert [method.name for method in methods] == [f"{kind}, random" for kind in kinds]
    assert len({method.encoder for method in methods}) == 5


def test_folds_measure_on_training_clips_alone(tasks: Path, pretrained: Path, tmp_path: Path):
    data = shutil.copytree(tasks / "three", tmp_path / "tasks" / "three")
    for path in (data / "test").rglob("*.wav"):
        path.write_bytes(b"")  # would be an error to read
    more = ("--checkpoints", str(pretrained), "--folds", "4")
    tables = run_benchmark.main(arguments(data.parent, tmp_path, *more))
    assert list(tables) == ["logistic", "knn"]
    assert list(tables["logistic"]["three"]) == [LOG_MEL, "compact, random", f"{pretrained.name}, frozen"]
    assert tables["logistic"]["three"][LOG_MEL] > 90
    assert "over 4 folds of the training clips" in (tmp_path / "results.md").read_text()


def test_folds_keep_groups_together():
    groups = [f"recording{i // 3}" for i in range(36)]
    clips = Dataset.from_dict({"label": [i // 3 % 2 for i in range(36)], "group": groups})
    folds = split_folds(clips, 3)
    assert sorted(i for _, held in folds for i in held) == list(range(36))
    for fit, held in folds:
        assert not {groups[i] for i in fit} & {groups[i] for i in held}
        assert sum(clips["label"][int(i)] for i in held) == 6


def test_trained_modes_are_columns_too(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--tasks", "easy", "--checkpoints", str(pretrained), "--epochs", "1")
    tables = run_benchmark.main(arguments(tasks, tmp_path, *more, "--modes", "fine-tuned", "supervised"))
    assert list(tables) == ["accuracy"]
    assert list(tables["accuracy"]["easy"]) == ["compact, supervised", f"{pretrained.name}, fine-tuned"]
    assert all(0 <= accuracy <= 100 for accuracy in tables["accuracy"]["easy"].values())
    cells = json.loads((tmp_path / "results.json").read_text())
    assert {cell["epochs"] for cell in cells} == {1}


def test_another_run_is_shown_beside(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--tasks", "easy", "--checkpoints", str(pretrained))
    run_benchmark.main(arguments(tasks, tmp_path / "before", *more, "--modes", "log-mel", "frozen"))
    more = (*more, "--modes", "log-mel", "random", "--compare", str(tmp_path / "before" / "results.json"))
    run_benchmark.main(arguments(tasks, tmp_path / "after", *more))
    text = (tmp_path / "after" / "results.md").read_text()
    assert f"| task | log-mel statistics | compact, random | {pretrained.name}, frozen (before) |" in text
    (tmp_path / "after" / "results.json").write_text('{"easy": 1}')
    with pytest.raises(ValueError, match="--compare .* is not the results.json"):
        run_benchmark.main([*arguments(tasks, tmp_path, *more)[:-1], str(tmp_path / "after" / "results.json")])


def test_what_cannot_be_measured_is_left_out_and_told(tasks: Path, tones: Path, tmp_path: Path):
    broken = shutil.copytree(tasks / "easy", tmp_path / "tasks" / "easy").parent
    shutil.copytree(tones / "low", broken / "flat")
    assert list(run_benchmark.main(arguments(broken, tmp_path / "out"))["logistic"]) == ["easy"]
    text = (tmp_path / "out" / "results.md").read_text()
    assert "- flat: " in text and "needs the splits train and test" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--modes", "linear"), "--modes must be some of log-mel"),
        (("--seeds", "0"), "--seeds must be at least 1"),
        (("--modes", "frozen"), "need checkpoints"),
        (("--folds", "1"), "--folds must be at least 2"),
        (("--folds", "3", "--modes", "supervised"), "leave supervised and fine-tuned out"),
        (("--checkpoints", "a/cola", "b/cola"), "of one name"),
        (("--compare", "nowhere.json"), "nowhere.json: there is no such file"),
    ],
)
def test_bad_arguments_are_named(tasks: Path, tmp_path: Path, more: tuple[str, ...], message: str):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_benchmark.main(arguments(tasks, tmp_path, *more))


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


def test_neighbours_vote_by_direction():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    vectors = (0.1 * rng.standard_normal((60, 5)) + np.eye(5)[labels]) * rng.uniform(0.5, 2, (60, 1))
    assert knn_evaluation(vectors[:40], labels[:40], vectors[40:], labels[40:]) > 95
    assert knn_evaluation(vectors[:2], labels[:2], vectors[40:], labels[40:]) == 50  # fewer than five to ask


def test_format_table_has_a_mean_of_several_tasks():
    table = {"one": {"A": 50.0, "B": 60.0}, "two": {"A": 70.0, "B": 100.0}}
    assert format_table(table).splitlines()[-1] == "| mean | 60.0 | 80.0 |"
    assert "mean" not in format_table({"one": table["one"]})
    table["two"]["C"] = 5.0
    lines = format_table(table, {"one": {"A": 1.0}}).splitlines()
    assert lines[2] == "| one | 50.0 ± 1.0 | 60.0 | – |" and lines[-1] == "| mean | 60.0 | 80.0 | – |"


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
