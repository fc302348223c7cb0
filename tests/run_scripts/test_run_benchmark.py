"""run_benchmark.py, end to end on small tasks."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import DatasetDict

from feature_extraction import COLAFeatureExtractor
from helpers import write_tones
from modeling_cola import COLAModel
from run_scripts import run_benchmark, run_classification
from run_scripts.benchmark import evaluate as evaluate_module
from run_scripts.classification.arguments import DataArguments, ModelArguments
from run_scripts.classification.trainer import ClassificationArguments
from run_scripts.common import files
from run_scripts.common.files import DiskFullError
from run_scripts.embedding.embedders import LOG_MEL


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
    monkeypatch.setattr(evaluate_module, "FROZEN_EPOCHS", 2)


def arguments(tasks: Path, output_dir: Path, *more: str) -> list[str]:
    return ["--tasks_dir", str(tasks), "--output_dir", str(output_dir), *more]


def assert_equal(tables: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    assert list(tables) == list(expected)
    for metric, table in tables.items():
        pd.testing.assert_frame_equal(table, expected[metric])


def test_writes_the_tables_of_every_task(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--checkpoints", str(pretrained), "--seeds", "2")
    tables = run_benchmark.main(arguments(tasks, tmp_path, *more))
    random, frozen = f"{pretrained.name}, random weights", f"{pretrained.name}, frozen"
    papers = ["paper, random", "paper, frozen"]
    assert list(tables) == ["accuracy", "logistic", "knn"]
    assert all(list(table.index) == ["easy", "musan", "three"] for table in tables.values())
    assert list(tables["accuracy"].columns) == [random, frozen, *papers]
    for metric in ("logistic", "knn"):
        assert list(tables[metric].columns) == [LOG_MEL, random, frozen]
    assert tables["logistic"].loc["easy", LOG_MEL] > 90

    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 3 * (1 + 2 + 2) and {result["seed"] for result in results[1:]} == {0, 1}
    for result in results:
        assert result["seconds"] > 0 and (result["accuracy"] is None) == (result["method"] == LOG_MEL)
    with open(tmp_path / "results.csv") as file:
        rows = {(row["task"], row["method"]): row for row in csv.DictReader(file)}
    assert float(rows["easy", frozen]["logistic"]) == tables["logistic"].loc["easy", frozen]
    assert rows["easy", frozen]["seeds"] == "2" and not rows["easy", frozen]["logistic_std"]  # the same for each seed
    assert rows["musan", "paper, frozen"]["accuracy"] == "99.1"
    trained, *probed = (tmp_path / "results.md").read_text().split("embeddings")
    assert "| paper, random | paper, frozen |" in trained and "99.1" in trained and "–" in trained
    assert len(probed) == 2 and all("| mean |" in part and "paper" not in part for part in probed)
    assert " ± " in trained + probed[0]
    curves = probed[1].split("| clips of each class | 5 | 10 | 20 | all |")[1]
    assert all(f"| {method} |" in curves for method in (LOG_MEL, random, frozen))
    assert {path.stem for path in tmp_path.glob("*.png")} == {*tables, "learning_curves"}


def test_frozen_is_what_run_classification_trains(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--tasks", "three", "--modes", "frozen", "--checkpoints", str(pretrained))
    tables = run_benchmark.main(arguments(tasks, tmp_path, *more))
    options = {
        "--dataset_name": tasks / "three",
        "--model_name_or_path": pretrained,
        "--mode": "frozen",
        "--output_dir": tmp_path / "alone",
        "--seed": 0,
        "--num_train_epochs": 2,
        "--embedding_cache": tmp_path / "cache",
    }
    results = run_classification.main([str(part) for option in options.items() for part in option])
    assert tables["accuracy"].loc["three"].item() == pytest.approx(100 * results["accuracy"], abs=1e-3)


def test_a_rerun_measures_only_what_is_missing(
    tasks: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command = arguments(tasks, tmp_path, "--tasks", "easy", "three", "--checkpoints", str(pretrained))
    evaluate, evaluated = evaluate_module.evaluate_embeddings, []

    def interrupted(methods: list, splits: DatasetDict, name: str, folds: None) -> dict:
        if name == "three":
            raise KeyboardInterrupt
        return evaluate(methods, splits, name)

    def counted(methods: list, splits: DatasetDict, name: str, folds: None) -> dict:
        evaluated.extend((name, method.mode) for method in methods)
        return evaluate(methods, splits, name)

    monkeypatch.setattr(evaluate_module, "evaluate_embeddings", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark.main(command)
    monkeypatch.setattr(evaluate_module, "evaluate_embeddings", counted)
    first = run_benchmark.main(command)
    assert evaluated == [("three", mode) for mode in ("log-mel", "random", "frozen")]
    evaluated.clear()
    assert_equal(run_benchmark.main(command), first)
    assert evaluated == []

    # A damaged result, other weights and other clips are evaluated again; nothing else is.
    (result,) = (tmp_path / "results" / "easy").glob("log-mel*")
    result.write_text(result.read_text()[:-10])
    assert_equal(run_benchmark.main(command), first)
    assert evaluated == [("easy", "log-mel")]
    evaluated.clear()
    other = tmp_path / "other" / pretrained.name
    model = COLAModel.from_pretrained(pretrained)
    with torch.no_grad():
        model.encoder.pooling.dense[0].bias += 1.0
    model.save_pretrained(other)
    COLAFeatureExtractor().save_pretrained(other)
    run_benchmark.main([*command[:-1], str(other)])
    assert evaluated == [("easy", "frozen"), ("three", "frozen")]
    evaluated.clear()
    # A copy is not other clips, whenever its files were written.
    copied = shutil.copytree(tasks, tmp_path / "tasks", copy_function=shutil.copyfile)
    command = ["--tasks_dir", str(copied), *command[2:]]
    assert_equal(run_benchmark.main(command), first)
    assert evaluated == []
    (copied / "easy" / "train" / "a" / "0.wav").unlink()
    run_benchmark.main(command)
    assert evaluated == [("easy", mode) for mode in ("log-mel", "random", "frozen")]


def test_folds_measure_on_training_clips_alone(tasks: Path, pretrained: Path, tmp_path: Path):
    data = shutil.copytree(tasks / "three", tmp_path / "tasks" / "three")
    for path in (data / "test").rglob("*.wav"):
        path.write_bytes(b"")  # would be an error to read
    more = ("--checkpoints", str(pretrained), "--folds", "4")
    tables = run_benchmark.main(arguments(data.parent, tmp_path, *more))
    assert list(tables) == ["logistic", "knn"]
    methods = [LOG_MEL, f"{pretrained.name}, random weights", f"{pretrained.name}, frozen"]
    assert list(tables["logistic"].columns) == methods
    assert tables["logistic"].loc["three", LOG_MEL] > 90
    assert "over 4 folds of the training clips" in (tmp_path / "results.md").read_text()
    earlier = ("--compare", str(tmp_path / "results.json"), "--modes", "log-mel")
    with pytest.raises(ValueError, match="results.json was measured in another way: pass the same --folds"):
        run_benchmark.main(["--tasks_dir", str(tasks), "--output_dir", str(tmp_path / "test"), *earlier])


def test_trained_modes_are_columns_too(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--tasks", "easy", "--checkpoints", str(pretrained), "--epochs", "1")
    tables = run_benchmark.main(arguments(tasks, tmp_path, *more, "--modes", "fine-tuned", "supervised"))
    assert list(tables) == ["accuracy"]
    assert list(tables["accuracy"].columns) == [
        f"{pretrained.name}, {mode}" for mode in ("from scratch", "fine-tuned")
    ]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {result["training"]["epochs"] for result in results} == {1}


def test_trained_modes_follow_the_arguments_of_training(
    tasks: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen, train = [], evaluate_module.train_classifier

    def record(model_args: ModelArguments, data_args: DataArguments, args: ClassificationArguments, **more: bool):
        protocol = args.num_train_epochs, args.per_device_train_batch_size, args.learning_rate, args.lr_scheduler_type
        seen.append((model_args.mode, model_args.freeze_batch_norm, *protocol))
        return train(model_args, data_args, args, **more)

    monkeypatch.setattr(evaluate_module, "train_classifier", record)
    more = ("--tasks", "easy", "--checkpoints", str(pretrained), "--epochs", "1", "--modes")
    more += ("frozen", "supervised", "fine-tuned")
    run_benchmark.main(arguments(tasks, tmp_path, *more))
    assert seen == [
        ("supervised", False, 1, 64, 1e-3, "constant"),
        ("frozen", False, 2, 64, 1e-3, "constant"),
        ("fine-tuned", False, 1, 64, 1e-3, "constant"),
    ]
    # Other arguments train again only what they concern.
    seen.clear()
    run_benchmark.main(arguments(tasks, tmp_path, *more, "--freeze_batch_norm"))
    assert seen == [("fine-tuned", True, 1, 64, 1e-3, "constant")]
    seen.clear()
    protocol = ("--batch_size", "4", "--learning_rate", "3e-4", "--lr_scheduler_type", "linear")
    run_benchmark.main(arguments(tasks, tmp_path, *more, *protocol))
    assert seen == [("supervised", False, 1, 4, 3e-4, "linear"), ("fine-tuned", False, 1, 4, 3e-4, "linear")]


def test_another_run_is_shown_beside(tasks: Path, pretrained: Path, tmp_path: Path):
    more = ("--tasks", "easy", "--checkpoints", str(pretrained))
    run_benchmark.main(arguments(tasks, tmp_path / "before", *more, "--modes", "log-mel", "frozen"))
    more = (*more, "--modes", "log-mel", "random", "--compare", str(tmp_path / "before" / "results.json"))
    run_benchmark.main(arguments(tasks, tmp_path / "after", *more))
    text = (tmp_path / "after" / "results.md").read_text()
    assert (
        f"| task | log-mel statistics | {pretrained.name}, random weights | {pretrained.name}, frozen (before) |"
        in text
    )
    (tmp_path / "after" / "results.json").write_text('{"easy": 1}')
    with pytest.raises(ValueError, match="after.results.json is not the results.json of a benchmark"):
        run_benchmark.main([*arguments(tasks, tmp_path, *more)[:-1], str(tmp_path / "after" / "results.json")])


def test_what_cannot_be_measured_is_left_out_and_told(tasks: Path, tones: Path, tmp_path: Path):
    broken = shutil.copytree(tasks / "easy", tmp_path / "tasks" / "easy").parent
    shutil.copytree(tones / "low", broken / "flat")
    assert list(run_benchmark.main(arguments(broken, tmp_path / "out"))["logistic"].index) == ["easy"]
    text = (tmp_path / "out" / "results.md").read_text()
    assert "- flat: " in text and "needs the splits train and test" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--modes", "linear"), "--modes must be some of log-mel"),
        (("--seeds", "0"), "--seeds must be at least 1"),
        (("--batch_size", "0"), "--batch_size must be at least 1"),
        (("--learning_rate", "0"), "--learning_rate must be above 0"),
        (("--learning_rate", "nan"), "--learning_rate must be above 0, got nan"),
        (("--lr_scheduler_type", "step"), "--lr_scheduler_type must be one of constant, linear, cosine, got 'step'"),
        (("--modes", "frozen"), "need checkpoints"),
        (("--folds", "1"), "--folds must be at least 2"),
        (("--folds", "3", "--modes", "supervised"), "leave supervised and fine-tuned out of --modes"),
        (("--checkpoints", "a/cola", "b/cola"), "must differ, got cola, cola"),
        (("--compare", "nowhere.json"), "nowhere.json: there is no such file"),
    ],
)
def test_bad_arguments_are_named(tasks: Path, tmp_path: Path, more: tuple[str, ...], message: str):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_benchmark.main(arguments(tasks, tmp_path, *more))


def test_a_task_without_labels_is_named(tones: Path, tmp_path: Path):
    shutil.copytree(tones / "low", tmp_path / "tasks" / "flat")
    with pytest.raises(ValueError, match="flat needs the splits train and test"):
        run_benchmark.main(["--tasks_dir", str(tmp_path / "tasks"), "--output_dir", str(tmp_path / "out")])


def test_bad_clips_are_an_error_or_skipped(
    tasks: Path,
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    data = shutil.copytree(tasks / "easy", tmp_path / "tasks" / "easy").parent
    shutil.copytree(tasks / "three", data / "three")
    for split in ("train", "test"):
        (data / "easy" / split / "a" / "0.wav").write_text("not audio")
    more = ("--checkpoints", str(pretrained), "--modes", "log-mel", "frozen", "supervised", "--epochs", "1")
    command = arguments(data, tmp_path / "out", *more)
    with pytest.raises(ValueError, match="^easy.* is missing from the tables: .*0.wav is not audio.*--skip_bad_clips"):
        run_benchmark.main(command)
    # The other task is evaluated, and what an earlier run found is printed first.
    assert {result["task"] for result in json.loads((tmp_path / "out" / "results.json").read_text())} == {"three"}
    output = capsys.readouterr().out
    assert output.startswith("three: ") and "train_loss" not in output and "Casting" not in output
    caplog.clear()
    tables = run_benchmark.main([*command, "--skip_bad_clips"])
    assert caplog.text.count("too few for choosing the best epoch") == 2  # once for a task and not for each method
    assert all(list(table.index) == ["easy", "three"] for table in tables.values())
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {(result["num_train"], result["num_test"]) for result in results if result["task"] == "easy"} == {(15, 7)}
    skipped = [line.split("\t") for line in (tmp_path / "out" / "skipped.tsv").read_text().splitlines()]
    assert [kind for kind, _, _ in skipped] == ["damaged"] * 2
    capsys.readouterr()
    assert_equal(run_benchmark.main([*command, "--skip_bad_clips"]), tables)
    output = capsys.readouterr()
    assert output.out.startswith("Before this run: Accuracy in %.\n\nClassifiers trained")
    assert output.out.count("| easy |") == 2 * len(tables)


def test_methods_that_are_missing_for_a_full_disk_are_an_error(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = files.write_text

    def write_text(path: Path, text: str) -> None:
        with files.report_full_disk(path):
            if "results/three" in str(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, text)

    monkeypatch.setattr(files, "write_text", write_text)
    more = ("--tasks", "easy", "three", "--modes", "log-mel")
    with pytest.raises(DiskFullError, match="^three: log-mel statistics, seed 0 is missing from the tables: The disk"):
        run_benchmark.main(arguments(tasks, tmp_path, *more))
    assert "| easy |" in (tmp_path / "results.md").read_text()
