"""run_classification.py, end to end on small audio."""

import errno
import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset, List
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import pipeline, set_seed

from feature_extraction import load_audio, load_audio_dataset
from helpers import write_tones
from modeling_cola import COLAForAudioClassification, COLAModel
from run_scripts import run_classification
from run_scripts.classification import train
from run_scripts.classification.arguments import DataArguments, ModelArguments
from run_scripts.classification.train import build_model, train_classifier
from run_scripts.classification.trainer import ClassificationArguments, ClassificationTrainer
from run_scripts.common.errors import UserError
from run_scripts.common.files import DiskFullError
from run_scripts.embedding import cache


def arguments(data: Path, output_dir: Path, mode: str, checkpoint: Path | None = None, *more: str) -> list[str]:
    options = {
        "--dataset_name": data,
        "--output_dir": output_dir,
        "--mode": mode,
        "--encoder": "compact",
        "--per_device_train_batch_size": 8,
        "--num_train_epochs": 2,
        "--disable_tqdm": True,
        "--embedding_cache": output_dir / "cache",
    }
    if checkpoint:
        options["--model_name_or_path"] = checkpoint
    return [str(part) for option in options.items() for part in option] + list(more)


@pytest.fixture(scope="module")
def fine_tuned(tones: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine-tuned")
    more = ("--num_train_epochs", "8")
    run_classification.main(arguments(tones, folder, "fine-tuned", pretrained, *more))
    return folder


def test_learns_tones_and_saves_what_a_pipeline_loads(fine_tuned: Path, tones: Path):
    results = json.loads((fine_tuned / "results.json").read_text())
    assert results["accuracy"] > 0.8
    assert {path.name for path in fine_tuned.glob("*.png")} == {"confusion_matrix.png", "per_class.png"}
    modes = {(fine_tuned / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1  # Whoever may read the one may read the other.
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
    assert not any(torch.equal(start[name], tuned[name]) for name in start)


def test_frozen_batch_norm_keeps_the_statistics_of_the_checkpoint(tones: Path, pretrained: Path, tmp_path: Path):
    run_classification.main([*arguments(tones, tmp_path, "fine-tuned", pretrained), "--freeze_batch_norm"])
    start, tuned = (COLAModel.from_pretrained(path).state_dict() for path in (pretrained, tmp_path))
    statistics = {name for name in start if "running_" in name or "num_batches" in name}
    moved = {name for name in start if not torch.equal(start[name], tuned[name])}
    assert statistics and moved == set(start) - statistics


@pytest.mark.parametrize("mode", ["random", "supervised"])
def test_modes_without_a_checkpoint(tones: Path, tmp_path: Path, mode: str):
    results = run_classification.main(arguments(tones, tmp_path, mode))
    assert results["mode"] == mode and (tmp_path / "per_class.png").is_file()
    assert COLAForAudioClassification.from_pretrained(tmp_path).config.encoder == "compact"


def test_a_classifier_starts_from_one_of_other_classes(fine_tuned: Path, tmp_path: Path):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 16, seconds=0.5)
    run_classification.main(arguments(data, tmp_path / "out", "fine-tuned", fine_tuned))
    config = COLAForAudioClassification.from_pretrained(tmp_path / "out").config
    assert config.id2label == {0: "a", 1: "b"}


def test_too_few_clips_choose_no_epoch(
    tones: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    run_classification.main(arguments(tones, tmp_path, "frozen", pretrained))
    assert "the 4 clips held out of 'train' are too few for choosing the best epoch" in caplog.text
    assert "the weights of the last epoch" in (tmp_path / "README.md").read_text()
    caplog.clear()
    monkeypatch.setattr(train, "MIN_CLIPS_TO_CHOOSE", 4)
    run_classification.main(arguments(tones, tmp_path, "frozen", pretrained, "--overwrite_output_dir"))
    assert "too few" not in caplog.text
    assert "the epoch of the best validation accuracy" in (tmp_path / "README.md").read_text()


def classifier(folder: Path) -> torch.Tensor:
    return COLAForAudioClassification.from_pretrained(folder).classifier.weight


def test_other_code_calls_it_with_dataclasses(tones: Path, pretrained: Path, tmp_path: Path):
    results = run_classification.main(arguments(tones, tmp_path / "command", "frozen", pretrained, "--seed", "5"))
    args = ClassificationArguments(
        output_dir=str(tmp_path / "called"),
        per_device_train_batch_size=8,
        num_train_epochs=2,
        disable_tqdm=True,
        seed=5,
    )
    model_args = ModelArguments(str(pretrained), mode="frozen", embedding_cache=str(tmp_path / "command" / "cache"))
    called = train_classifier(model_args, DataArguments(dataset_name=str(tones)), args)
    assert called | {"seconds": 0} == results | {"seconds": 0}
    assert torch.equal(classifier(tmp_path / "called"), classifier(tmp_path / "command"))
    assert args.load_best_model_at_end and args.metric_for_best_model == "accuracy"  # the caller's stay as they are


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the number of each training step that is made from here on."""
    made = []
    training_step = ClassificationTrainer.training_step

    def counting_step(self: ClassificationTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        made.append(self.state.global_step)
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(ClassificationTrainer, "training_step", counting_step)
    return made


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
def test_a_resumed_run_ends_as_if_it_had_not_stopped(pretrained: Path, tmp_path: Path, steps: list[int], mode: str):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 10, seconds=1.5)  # two batches to train on
    longer = ("--num_train_epochs", "3", "--embedding_cache", str(tmp_path / "cache"))
    run_classification.main(arguments(data, tmp_path / "through", mode, pretrained, *longer))
    assert steps == list(range(6))
    steps.clear()
    command = arguments(data, tmp_path / "stopped", mode, pretrained, "--resume_from_checkpoint")
    run_classification.main(command)  # There is no checkpoint yet, so it starts from the beginning.
    assert steps == list(range(4))
    shutil.copytree(tmp_path / "stopped", tmp_path / "copy")
    for name, resume in (
        ("stopped", ["--resume_from_checkpoint"]),
        ("copy", ["--resume_from_checkpoint", str(tmp_path / "copy" / "checkpoint-4")]),
    ):
        steps.clear()
        run_classification.main(arguments(data, tmp_path / name, mode, pretrained, *longer, *resume))
        assert steps == list(range(4, 6))
        torch.testing.assert_close(classifier(tmp_path / name), classifier(tmp_path / "through"))


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
def test_a_signal_saves_and_ends_the_run(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 10, seconds=0.5)  # one segment a clip
    more = ("--embedding_cache", str(tmp_path / "cache"), "--num_train_epochs", "3")
    run_classification.main(arguments(data, tmp_path / "through", mode, pretrained, *more))
    training_step = ClassificationTrainer.training_step

    def signalled_step(self: ClassificationTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == 2:  # the first of the two of the second epoch
            signal.raise_signal(signal.SIGTERM)
        return training_step(self, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="143"):
        patched.setattr(ClassificationTrainer, "training_step", signalled_step)
        run_classification.main(arguments(data, tmp_path / "stopped", mode, pretrained, *more))
    assert "Stopped by SIGTERM after step 3, which is saved" in caplog.text
    assert (tmp_path / "stopped" / "checkpoint-3").is_dir() and not (tmp_path / "stopped" / "config.json").exists()
    more += ("--resume_from_checkpoint",)
    run_classification.main(arguments(data, tmp_path / "stopped", mode, pretrained, *more))
    assert torch.equal(classifier(tmp_path / "stopped"), classifier(tmp_path / "through"))


def test_a_compiled_run_learns_the_same(
    tones: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its weights have the names that others have, too."""
    for name in ("BACKEND", "MODE"):  # which the Trainer sets for accelerate, and does not set back
        monkeypatch.setenv(f"ACCELERATE_DYNAMO_{name}", "")
        monkeypatch.delenv(f"ACCELERATE_DYNAMO_{name}")
    compiled = ("--torch_compile", "--torch_compile_backend", "eager")
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    losses, weights = [], []
    for name, more in (("plain", ()), ("compiled", compiled)):
        run_classification.main(arguments(tones, tmp_path / name, "fine-tuned", pretrained, *more))
        state = json.loads((tmp_path / name / "checkpoint-10" / "trainer_state.json").read_text())
        losses.append([entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry])
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert weights[0].keys() == weights[1].keys()


def test_other_settings_are_not_resumed(tones: Path, pretrained: Path, tmp_path: Path):
    command = arguments(tones, tmp_path, "frozen", pretrained)
    run_classification.main(command)
    with pytest.raises(ValueError, match="holds an earlier run: pass --resume_from_checkpoint"):
        run_classification.main(command)
    with pytest.raises(ValueError, match="other settings: learning_rate was 0.001 and is now 0.1"):
        run_classification.main([*command, "--resume_from_checkpoint", "--learning_rate", "0.1"])


@pytest.mark.parametrize("more", [(), ("--eval_strategy", "no", "--save_strategy", "no")])
def test_weights_that_are_not_finite_are_not_saved(tones: Path, pretrained: Path, tmp_path: Path, more: tuple):
    more += ("--learning_rate", "1e38", "--num_train_epochs", "4")
    with pytest.raises(ValueError, match="of the classifier are not finite, training has diverged: lower --learning"):
        run_classification.main(arguments(tones, tmp_path, "fine-tuned", pretrained, *more))
    assert not list(tmp_path.glob("*.safetensors"))


def test_nothing_is_written_beside_the_data(tones: Path, pretrained: Path, tmp_path: Path):
    load_audio_dataset(str(tones)).save_to_disk(tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    run_classification.main(arguments(tmp_path / "data", tmp_path / "out", "frozen", pretrained))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before


def test_without_evaluation_the_last_epoch_is_kept(tones: Path, pretrained: Path, tmp_path: Path):
    run_classification.main(arguments(tones, tmp_path, "frozen", pretrained, "--eval_strategy", "no"))
    assert "| weights kept | the last epoch |" in (tmp_path / "README.md").read_text()


def test_a_checkpoint_that_is_not_there_is_named(tones: Path, tmp_path: Path):
    resume = ("--resume_from_checkpoint", str(tmp_path / "checkpoint-7"))
    with pytest.raises(FileNotFoundError, match="checkpoint-7: there is no checkpoint"):
        run_classification.main(arguments(tones, tmp_path, "supervised", None, *resume))


def test_a_broken_test_clip_does_not_cost_the_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for split, count in (("train", 8), ("test", 2)):
        write_tones(tmp_path / "data" / split, {"a": 200.0, "b": 2000.0}, count, seconds=0.5)
    (tmp_path / "data" / "test" / "a" / "0.wav").write_text("not audio")
    command = arguments(tmp_path / "data", tmp_path / "out", "supervised")
    with pytest.raises(ValueError, match="0.wav is not audio.* Pass --skip_bad_clips to leave out such clips"):
        run_classification.main(command)
    assert COLAForAudioClassification.from_pretrained(tmp_path / "out").config.id2label == {0: "a", 1: "b"}
    assert "is trained and saved in" in caplog.text and "could not be tested" in caplog.text
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["num_test"] == 4 and "accuracy" not in results
    assert "testing it failed" in (tmp_path / "out" / "README.md").read_text()
    # Once it is skipped, the run continues from its last checkpoint.
    results = run_classification.main([*command, "--skip_bad_clips", "--resume_from_checkpoint"])
    assert results["num_test"] == 3 and results["accuracy"] * 3 % 1 == pytest.approx(0, abs=1e-6)
    assert "testing it failed" not in (tmp_path / "out" / "README.md").read_text()


def test_a_plot_that_cannot_be_drawn_is_a_warning(
    tones: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*args: Any) -> None:
        raise RuntimeError("no such colour")

    monkeypatch.setattr(train, "plot_metrics", fail)
    results = run_classification.main(arguments(tones, tmp_path, "frozen", pretrained))
    assert "could not be drawn" in caplog.text and "no such colour" in caplog.text
    assert json.loads((tmp_path / "results.json").read_text()) == results
    card = (tmp_path / "README.md").read_text()
    assert "| accuracy |" in card and "per_class.png" not in card


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
def test_bad_clips_are_skipped_if_asked_to(pretrained: Path, tmp_path: Path, mode: str):
    data = tmp_path / "data"
    for split, count in (("train", 8), ("validation", 3), ("test", 3)):
        write_tones(data / split, {"a": 200.0, "b": 2000.0}, count, seconds=0.5)
    soundfile.write(data / "train" / "b" / "1.wav", np.array([0.1, np.inf]), 16000, subtype="FLOAT")
    (data / "train" / "a" / "0.wav").write_text("not audio")
    (data / "validation" / "b" / "2.wav").write_bytes(b"")
    (data / "test" / "a" / "1.wav").write_bytes(b"RIFF" * 100)
    command = arguments(data, tmp_path / "out", mode, pretrained, "--dataloader_num_workers", "1")
    with pytest.raises(ValueError, match=r"^[^\n]*\.wav [^\n]*Pass --skip_bad_clips to leave out such clips\.$"):
        run_classification.main(command)
    results = run_classification.main([*command, "--skip_bad_clips"])
    assert [results[f"num_{split}"] for split in ("train", "validation", "test")] == [14, 5, 5]
    skipped = [line.split("\t") for line in (tmp_path / "out" / "skipped.tsv").read_text().splitlines()]
    listed = {str(Path(name).relative_to(data)): kind for kind, name, _ in skipped}
    assert listed == {
        "train/a/0.wav": "damaged",
        "train/b/1.wav": "not finite",
        "validation/b/2.wav": "empty",
        "test/a/1.wav": "damaged",
    }


def test_training_stops_early(pretrained: Path, tmp_path: Path, steps: list[int]):
    data = tmp_path / "data"
    for split, count in (("train", 4), ("validation", 4), ("test", 2)):
        write_tones(data / split, {"a": 200.0, "b": 2000.0}, count, seconds=0.5)
    more = ("--num_train_epochs", "9", "--learning_rate", "0", "--early_stopping_patience", "2")
    more += ("--class_weights", "balanced")
    run_classification.main(arguments(data, tmp_path / "out", "frozen", pretrained, *more))
    assert steps == [0, 1, 2]  # The first evaluation is the best, and two more do not improve on it.
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| early stopping | after 2 evaluations without improvement |" in card
    assert "| class weights | balanced |" in card


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--class_weights", "square"], "--class_weights must be one of none, balanced, got 'square'"),
        (["--early_stopping_patience", "0"], "--early_stopping_patience must be at least 1"),
        (["--early_stopping_patience", "2"], "4 clips held out of 'train' are too few. Add the split"),
        (["--early_stopping_patience", "2", "--eval_strategy", "no"], "needs --load_best_model_at_end True, and an"),
        (["--dataset_name", ""], "--dataset_name is empty"),
        (["--report_to", "nope"], "--report_to must be none or some of the .* got nope"),
        (["--learning_rate", "nan"], "--learning_rate must be at least 0, got nan"),
        (["--learning_rate", "inf"], "--learning_rate must be at least 0, got inf"),
        (["--num_train_epochs", "0"], "--num_train_epochs must be above 0, got 0"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--dataloader_num_workers", "-1"], "--dataloader_num_workers must be at least 0, got -1"),
        (["--metric_for_best_model", "map"], "map is none of the metrics of this task: accuracy, macro_f1, loss"),
        (["--eval_strategy", "steps"], "--load_best_model_at_end requires the save and eval strategy to match"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    tones: Path, pretrained: Path, tmp_path: Path, more: list[str], message: str
):
    with pytest.raises(UserError, match=message):
        run_classification.main(arguments(tones, tmp_path, "frozen", pretrained, *more))


def test_trackers_may_be_none(tmp_path: Path):
    assert ClassificationArguments(str(tmp_path), report_to="none").report_to == []


def test_one_clip_of_each_class_is_too_few(tmp_path: Path):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 1, seconds=0.5)
    with pytest.raises(UserError, match="There is no split 'test', and none could be held out of 'train': "):
        run_classification.main(arguments(data, tmp_path / "out", "supervised"))


def test_a_full_disk_is_named(tones: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "model.safetensors"))

    monkeypatch.setattr(COLAForAudioClassification, "save_pretrained", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(DiskFullError, match="model.safetensors could not be written, 0 bytes are free and .* MB"):
        run_classification.main(arguments(tones, tmp_path, "frozen", pretrained))


def test_cached_vectors_train_the_same_classifier_as_clips(pretrained: Path, tmp_path: Path):
    # Of a clip that is shorter than a window there is one window, so that both ways see the same.
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 16, seconds=0.5)
    cached = run_classification.main(arguments(data, tmp_path / "cached", "frozen", pretrained))
    slow = run_classification.main(
        arguments(data, tmp_path / "slow", "frozen", pretrained, "--embedding_cache", "off")
    )
    torch.testing.assert_close(classifier(tmp_path / "cached"), classifier(tmp_path / "slow"), atol=1e-5, rtol=1e-4)
    assert cached | {"seconds": 0} == slow | {"seconds": 0}


def test_the_cache_is_used_again(tones: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = arguments(tones, tmp_path, "frozen", pretrained)
    run_classification.main(first)
    weights = classifier(tmp_path)
    monkeypatch.setattr(cache, "_write", lambda *_: pytest.fail("embedded anew"))
    run_classification.main([*first, "--overwrite_output_dir"])
    torch.testing.assert_close(classifier(tmp_path), weights)


def test_drawing_of_cached_windows_agrees_with_random_segments(pretrained: Path, tmp_path: Path):
    data = tmp_path / "data"
    for split, count in (("train", 8), ("test", 10)):
        write_tones(data / split, {"a": 300.0, "b": 400.0, "c": 500.0}, count, seconds=2.0)
    more = ("--num_train_epochs", "20", "--eval_strategy", "no", "--save_strategy", "no")
    more += ("--load_best_model_at_end", "False")
    cached = run_classification.main(arguments(data, tmp_path / "cached", "frozen", pretrained, *more))
    more += ("--embedding_cache", "off")
    slow = run_classification.main(arguments(data, tmp_path / "slow", "frozen", pretrained, *more))
    set_seed(42)
    start = build_model(ModelArguments(str(pretrained), mode="frozen"), ["a", "b", "c"])[0].classifier.weight
    moved = [(classifier(tmp_path / name) - start).flatten() for name in ("cached", "slow")]
    assert torch.cosine_similarity(*moved, dim=0) > 0.95
    assert abs(cached["accuracy"] - slow["accuracy"]) <= 0.1


def write_several_labels(folder: Path) -> Path:
    """Parquet of clips with a low tone, a high one, both or none."""
    rng, time = np.random.default_rng(0), np.arange(8000) / 16000
    for split, count in (("train", 32), ("validation", 8), ("test", 8)):
        rows: dict[str, list] = {"audio": [], "label": []}
        for i in range(count):
            path = folder / "wav" / f"{split}{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            present = [c for c in (0, 1) if i >> c & 1]
            tones = [0.2 * np.sin(2 * np.pi * (200.0, 2000.0)[c] * rng.uniform(0.9, 1.1) * time) for c in present]
            soundfile.write(path, sum(tones) + 0.02 * rng.standard_normal(8000), 16000)
            rows["audio"].append({"bytes": path.read_bytes(), "path": None})
            rows["label"].append(present)
        (folder / "data").mkdir(exist_ok=True)
        dataset = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
        dataset = dataset.cast_column("label", List(ClassLabel(names=["low", "high"])))
        dataset.to_parquet(folder / "data" / f"{split}.parquet")
    return folder / "data"


def test_clips_of_several_labels(pretrained: Path, tmp_path: Path):
    data, out = write_several_labels(tmp_path), tmp_path / "out"
    more = ("--num_train_epochs", "30", "--learning_rate", "0.01")
    results = run_classification.main(arguments(data, out, "frozen", pretrained, *more))
    # The epoch that is kept is the first one of the best mAP, which need not separate the classes at a logit of 0 yet.
    assert results["map"] > 0.8 and "macro_f1" in results and "accuracy" not in results
    assert (results["num_validation"], results["num_test"]) == (8, 8)
    config = COLAForAudioClassification.from_pretrained(out).config
    assert config.problem_type == "multi_label_classification"
    assert (out / "per_class.png").exists() and not (out / "confusion_matrix.png").exists()
    assert {result.metric_type for result in ModelCard.load(out / "README.md").data.eval_results} == {"mAP", "f1"}
    run_classification.main(arguments(data, tmp_path / "tuned", "fine-tuned", pretrained))


def test_a_task_of_the_paper(tmp_path: Path):
    for name, pitch in (("music", 200.0), ("speech", 600.0), ("noise", 2000.0)):
        write_tones(tmp_path / "musan" / name, {"source": pitch}, 10, seconds=0.5)
    more = ["--task", "musan", "--data_dir", str(tmp_path)]
    results = run_classification.main(arguments(tmp_path, tmp_path / "out", "random", None, *more)[2:])
    assert (results["num_train"], results["num_validation"], results["num_test"]) == (21, 3, 6)
    assert results["data"] == "musan"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "either --dataset_name, or --task"),
        (["--dataset_name", "clips", "--task", "musan"], "either --dataset_name, or --task"),
        (["--task", "musan"], "--task and --data_dir go together"),
        (["--dataset_name", "clips", "--data_dir", "musan"], "--task and --data_dir go together"),
        (["--task", "mnist", "--data_dir", "."], "--task must be one of librispeech_speaker.*got 'mnist'"),
    ],
)
def test_arguments_that_do_not_say_the_data_are_named(more: list[str], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        run_classification.main(["--mode", "random", "--output_dir", str(tmp_path), *more])


def test_the_card_says_what_was_measured_and_is_what_is_pushed(
    tones: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pushed = []

    def upload_folder(**kwargs: Any) -> None:
        shutil.copytree(kwargs["folder_path"], tmp_path / f"pushed{len(pushed)}")
        pushed.append(tmp_path / f"pushed{len(pushed)}")

    monkeypatch.setattr(
        "transformers.Trainer.init_hf_repo", lambda self, **kwargs: setattr(self, "hub_model_id", "me/it")
    )
    monkeypatch.setattr(
        "transformers.trainer.hf_api", lambda: type("Api", (), {"upload_folder": staticmethod(upload_folder)})
    )
    out = tmp_path / "out"
    more = ("--push_to_hub", "True", "--seed", "3", "--license", "cc-by-4.0")
    results = run_classification.main(arguments(tones, out, "frozen", pretrained, *more))
    assert len(pushed) == 1
    card = ModelCard.load(pushed[-1] / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "audio-classification"
    assert card.data.license == "cc-by-4.0" and card.data.base_model is None and card.data.datasets is None
    assert (pushed[-1] / card.data.widget[0]["src"]).is_file()
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured == pytest.approx({"accuracy": results["accuracy"], "f1": results["macro_f1"]}, abs=1e-4)
    assert "| seed | 3 |" in card.text and "| train | 34 |" in card.text and tones.name in card.text
    assert str(tones.parent) not in card.content and str(pretrained.parent) not in card.content
    assert COLAModel.from_pretrained(pushed[-1]).config.encoder == "compact"


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
def test_modes_that_need_a_checkpoint_say_so(tones: Path, tmp_path: Path, mode: str):
    with pytest.raises(ValueError, match="--model_name_or_path"):
        run_classification.main(arguments(tones, tmp_path, mode))


def test_gradient_checkpointing_makes_no_difference_to_vectors(tones: Path, pretrained: Path, tmp_path: Path):
    results = [
        run_classification.main(arguments(tones, tmp_path / str(more), "frozen", pretrained, *more))
        for more in ((), ("--gradient_checkpointing", "True"))
    ]
    assert results[0]["accuracy"] == results[1]["accuracy"]


def test_frozen_batch_norm_is_for_fine_tuning(tones: Path, pretrained: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="--freeze_batch_norm is for --mode fine-tuned, got --mode frozen"):
        run_classification.main([*arguments(tones, tmp_path, "frozen", pretrained), "--freeze_batch_norm"])


def test_a_broken_clip_is_named(tmp_path: Path):
    data = write_tones(tmp_path / "data", {"a": 200.0, "b": 2000.0}, 16, seconds=0.5)
    for name in ("a", "b"):
        for path in (data / name).glob("*.wav"):
            path.write_text("not audio")
    soundfile.write(data / "a" / "good.wav", np.zeros(8000), 16000)
    with pytest.raises(ValueError, match=r"\.wav is not audio"):
        run_classification.main(arguments(data, tmp_path / "out", "supervised"))
