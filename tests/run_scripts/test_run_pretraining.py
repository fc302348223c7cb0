"""run_pretraining.py, end to end on small audio."""

import json
import os
import pickle
import re
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import safetensors.torch
import torch
from accelerate.state import AcceleratorState
from datasets import Audio, ClassLabel, Dataset
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel, AutoFeatureExtractor, AutoModel

from feature_extraction import ClipNote, COLAFeatureExtractor
from helpers import pretraining_arguments
from modeling_cola import COLAForPreTraining, COLAModel
from run_scripts import run_pretraining
from run_scripts.common.lock import locked
from run_scripts.common.plots import plot_training_curves
from run_scripts.common.resume import find_checkpoints
from run_scripts.common.skipped import SkippedClips
from run_scripts.pretraining import loop
from run_scripts.pretraining.checkpointing import RESUME, RunState
from run_scripts.pretraining.objectives import OBJECTIVES, DistillationObjective


COMPACT = Path(__file__).parents[2] / "modeling_cola" / "cola-compact"


@pytest.fixture
def command_fails(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], str], None]:
    """Checks that a command ends with status 2 and with one line, which matches a pattern."""

    def check(arguments: list[str], message: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run_pretraining.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_pretraining.run()
        assert ended.value.code == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert re.search(f"run_pretraining.py: error: .*{message}", last)

    return check


def history(folder: Path) -> dict[int, dict[str, float]]:
    entries = json.loads((folder / "training_state.json").read_text())["history"]
    return {entry["step"]: entry for entry in entries}


def stored_clips(folder: Path) -> list[dict[str, Any]]:
    """The clips of a folder as `datasets` stores them."""
    return [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(folder.rglob("*.wav"))]


def test_leaves_a_loadable_model_plots_and_a_card(pretrained: Path):
    extractor = AutoFeatureExtractor.from_pretrained(pretrained)
    features = extractor(np.random.default_rng(0).standard_normal(16000), sampling_rate=16000, return_tensors="pt")
    assert AutoModel.from_pretrained(pretrained)(**features).pooler_output.shape == (1, 1280)
    assert "pipeline_tag: feature-extraction" in (pretrained / "README.md").read_text()
    assert {"configuration_cola.py", "modeling_cola.py", "feature_extraction_cola.py"} <= {
        path.name for path in pretrained.iterdir()
    }


def test_draws_the_training_curves(pretrained: Path, tmp_path: Path):
    chance = {"loss": np.log(8), "accuracy": 1 / 8}
    plot_training_curves(list(history(pretrained).values()), tmp_path / "expected.png", chance, "Pairs of recordings")
    drawn, expected = (
        matplotlib.image.imread(f) for f in (pretrained / "training_curves.png", tmp_path / "expected.png")
    )
    assert np.array_equal(drawn, expected)


def test_records_loss_accuracy_speed_and_validation(pretrained: Path):
    entries = history(pretrained)
    assert list(entries) == [1, 2, 3, 4]
    accuracies = [8 * entry["accuracy"] for entry in entries.values()]  # of 8 pairs
    assert accuracies == [round(accuracy) for accuracy in accuracies] and sum(accuracies) > 4  # which is chance
    assert all(entry["segments_per_second"] > 0 for entry in entries.values())
    assert {step for step, entry in entries.items() if "validation_accuracy" in entry} == {2, 4}


def test_training_learns(tones: Path, tmp_path: Path):
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--max_steps", "20", "--logging_steps", "5"))
    entries = history(tmp_path)
    assert entries[20]["loss"] < entries[5]["loss"]


@pytest.mark.parametrize(("num_workers", "classes"), [(0, None), (2, None), (0, ["low", "high"])])
def test_a_resumed_run_equals_an_uninterrupted_one(tones: Path, tmp_path: Path, num_workers: int, classes):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    # The log's entries of two steps straddle the checkpoint after the third.
    arguments = ("--max_steps", "8", "--save_steps", "3", "--save_total_limit", "5", "--logging_steps", "2")
    arguments += ("--dataloader_num_workers", str(num_workers))
    if classes:  # as data sets of their own
        arguments += ("--dataset_name", *(str(tones / name) for name in classes), "--mixing_weights", "3", "1")
    run_pretraining.main(pretraining_arguments(tones, whole, *arguments))
    shutil.copytree(whole / "checkpoint-3", resumed / "checkpoint-3")
    run_pretraining.main(pretraining_arguments(tones, resumed, *arguments, "--resume_from_checkpoint"))
    assert list(history(resumed)) == list(history(whole)) == [2, 4, 6, 8]
    for step in history(whole):
        for key in ("loss", "accuracy", "learning_rate", "validation_loss"):
            assert history(resumed)[step][key] == history(whole)[step][key], (step, key)
    model, other = (COLAForPreTraining.from_pretrained(folder) for folder in (whole, resumed))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "contrastive"])
def test_every_objective_leaves_an_encoder(tones: Path, tmp_path: Path, objective: str):
    teacher = ("--teacher_name_or_path", str(COMPACT)) if objective == "distillation" else ()
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--objective", objective, *teacher))
    entries, has_accuracy = history(tmp_path), objective == "triplet"
    assert all(
        np.isfinite(entries[step]["loss"]) and ("accuracy" in entries[step]) == has_accuracy for step in entries
    )
    assert all(("validation_accuracy" in entries[step]) == has_accuracy for step in (2, 4))
    assert [step for step in entries if "validation_loss" in entries[step]] == [2, 4]
    card = (tmp_path / "README.md").read_text()
    assert f"| objective | {objective} |" in card and ("accurac" in card) == has_accuracy
    assert "contrastive" not in card and (tmp_path / "training_curves.png").is_file()
    encoder = COLAModel.from_pretrained(tmp_path).state_dict()
    trained = safetensors.torch.load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(value, trained[f"cola.{name}"]) for name, value in encoder.items())


def test_a_run_is_not_resumed_with_other_files(tones: Path, tmp_path: Path):
    """They would be held out in another way, so that it would train on clips that it has validated on."""
    data = shutil.copytree(tones, tmp_path / "data")
    run_pretraining.main(pretraining_arguments(data, tmp_path / "out"))
    for path in data.rglob("*.wav"):
        os.utime(path)  # as in a copy
    run_pretraining.main(pretraining_arguments(data, tmp_path / "out", "--resume_from_checkpoint"))
    next(data.rglob("*.wav")).unlink()
    with pytest.raises(ValueError, match="The files of --dataset_name .* are not those that the run began with"):
        run_pretraining.main(pretraining_arguments(data, tmp_path / "out", "--resume_from_checkpoint"))


@pytest.mark.parametrize(
    "objective", [("temporal_gap",), ("distillation", "--teacher_name_or_path", str(COMPACT))], ids=lambda o: o[0]
)
def test_another_objective_resumes(
    tones: Path, tmp_path: Path, objective: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    arguments = ("--objective", *objective, "--save_total_limit", "5")
    run_pretraining.main(pretraining_arguments(tones, whole, *arguments))
    shutil.copytree(whole / "checkpoint-2", resumed / "checkpoint-2")
    monkeypatch.setattr(DistillationObjective, "fit_targets", None)  # the checkpoint has the targets
    run_pretraining.main(pretraining_arguments(tones, resumed, *arguments, "--resume_from_checkpoint"))
    assert [entry["loss"] for entry in history(resumed).values()] == [
        entry["loss"] for entry in history(whole).values()
    ]
    model, other = (COLAModel.from_pretrained(folder).state_dict() for folder in (whole, resumed))
    assert all(torch.equal(value, other[name]) for name, value in model.items())


def test_does_not_overwrite_a_run(pretrained: Path, tones: Path):
    with pytest.raises(ValueError, match="--resume_from_checkpoint"):
        run_pretraining.main(pretraining_arguments(tones, pretrained))


def test_keeps_the_newest_checkpoints_and_no_temporary_one(tones: Path, tmp_path: Path):
    run_pretraining.main(
        pretraining_arguments(tones, tmp_path, "--max_steps", "5", "--save_steps", "1", "--save_total_limit", "2")
    )
    assert [path.name for path in find_checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-5"]
    assert not list(tmp_path.glob(".checkpoint*"))


def test_skips_and_lists_broken_clips(tones: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(tones, data)
    (data / "low" / "empty.wav").write_bytes(b"")
    (data / "low" / "text.wav").write_text("this is not audio " * 100)
    # Two epochs and more, so that both are met.
    run_pretraining.main(pretraining_arguments(data, tmp_path / "out", "--max_steps", "14", "--eval_steps", "14"))
    listed = [line.split("\t") for line in (tmp_path / "out" / "skipped_0.tsv").read_text().splitlines()]
    assert sorted((kind, Path(name).name) for kind, name, _ in listed) == [
        ("damaged", "text.wav"),
        ("empty", "empty.wav"),
    ]
    assert all(name in reason for _, name, reason in listed)


def test_too_many_bad_clips_end_the_run(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "MIN_CLIPS_TO_JUDGE", 30)
    data = tmp_path / "data"
    shutil.copytree(tones, data)
    for i in range(16):
        (data / "low" / f"empty{i}.wav").write_bytes(b"")
    arguments = pretraining_arguments(data, tmp_path / "out", "--max_steps", "14", "--max_bad_fraction", "0.1")
    with pytest.raises(ValueError, match=r"of \d+ clips cannot be used, more than --max_bad_fraction 0.1.*skipped_"):
        run_pretraining.main(arguments)
    assert find_checkpoints(tmp_path / "out")


def test_a_corrupt_shard_counts_by_its_clips(tmp_path: Path):
    state = RunState()
    state.add_clips(900, [ClipNote("corrupt shard", "a.parquet", "", 300), ClipNote("short", "a.wav", "")])
    state.add_clips(99, [ClipNote("empty", "b.wav", "")])
    assert (state.num_clips, state.num_bad, state.largest_loss) == (1300, 301, 300)
    # One shard says as little about the others as one clip about the other clips.
    loop.check_bad_fraction(1300, 301, 300, 0.2, tmp_path)
    with pytest.raises(ValueError, match="1501 of 6000 clips cannot be used"):
        loop.check_bad_fraction(6000, 1501, 300, 0.2, tmp_path)


def test_probe(tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for split in ("train", "test"):
        shutil.copytree(tones, tmp_path / "probe" / split)
    (tmp_path / "probe" / "train" / "low" / "empty.wav").touch()
    arguments = pretraining_arguments(tones, tmp_path / "out", "--probe_data", str(tmp_path / "probe"))
    run_pretraining.main(arguments)
    assert "--probe_data: skipped 1 empty" in caplog.text
    assert {step for step, entry in history(tmp_path / "out").items() if "probe_accuracy" in entry} == {2, 4}
    assert history(tmp_path / "out")[4]["probe_accuracy"] > 90  # the test clips are the training clips
    with pytest.raises(ValueError, match="needs the splits train and test"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path / "other", "--probe_data", str(tones)))


@pytest.mark.parametrize("streaming", [False, True])
def test_reads_parquet_in_the_schema_of_audioset(tones: Path, tmp_path: Path, streaming: bool):
    clips = stored_clips(tones)
    rows = {"video_id": [clip["path"] for clip in clips], "audio": clips, "labels": [["/m/0"]] * len(clips)}
    (tmp_path / "data").mkdir()
    Dataset.from_dict(rows).cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / "data" / "train.parquet")
    more = ("--validation_clips", "4", "--max_steps", "2", *(("--streaming",) if streaming else ()))
    run_pretraining.main(pretraining_arguments(tmp_path / "data", tmp_path / "out", *more))
    assert "validation_loss" in history(tmp_path / "out")[2]


def test_a_tenth_of_a_stream_is_held_out_at_most(tones: Path, tmp_path: Path):
    clips = stored_clips(tones)

    def write(count: int) -> str:
        data = Dataset.from_dict({"audio": clips[:count]}).cast_column("audio", Audio(decode=False))
        data.to_parquet(tmp_path / f"{count}" / "train.parquet")
        return tmp_path / f"{count}"

    run_pretraining.main(pretraining_arguments(write(48), tmp_path / "out", "--streaming", "--max_steps", "6"))
    state = json.loads((tmp_path / "out" / "checkpoint-6" / "progress_0.json").read_text())
    ((_, (epoch, _, _), num_given, _),) = state["readers"]["0"]
    assert (epoch, num_given) == (1, 4)  # after 48 pairs, of which the first epoch has 44
    with pytest.raises(ValueError, match="The stream has 6 clips, of which 0 are held out: that is less than a batch"):
        run_pretraining.main(pretraining_arguments(write(6), tmp_path / "other", "--streaming"))


@pytest.mark.parametrize("streaming", [False, True])
def test_clips_without_a_label_are_clips(tones: Path, tmp_path: Path, streaming: bool):
    clips = stored_clips(tones)
    labels = [[0, 1, -1, None][i % 4] for i in range(len(clips))]
    data = Dataset.from_dict({"audio": clips, "label": labels}).cast_column("audio", Audio(decode=False))
    data.cast_column("label", ClassLabel(names=["a", "b"])).to_parquet(tmp_path / "data.parquet")
    more = ("--validation_clips", "4", *(("--streaming",) if streaming else ()))
    run_pretraining.main(pretraining_arguments(tmp_path / "data.parquet", tmp_path / "out", *more))


def test_nothing_of_a_checkpoint_is_unpickled(tones: Path, tmp_path: Path):
    """A file in a folder that somebody else made must not run code."""
    run_pretraining.main(pretraining_arguments(tones, tmp_path / "out"))
    checkpoint = tmp_path / "out" / "checkpoint-2"
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    names = {path.name for path in checkpoint.iterdir()}
    assert not {name for name in names if name.startswith("custom_checkpoint")}
    pickles = [name for name in names if name.endswith((".pkl", ".bin", ".pt"))]
    for name in [*pickles, "custom_checkpoint_0.pkl"]:
        original = (checkpoint / name).read_bytes() if name in names else None
        (checkpoint / name).write_bytes(pickle.dumps(Evil()))
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        content = (checkpoint / name).read_bytes()
        manifest["files"][name] = [len(content), zlib.crc32(content)]
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
        try:
            run_pretraining.main(pretraining_arguments(tones, tmp_path / "out", "--resume_from_checkpoint"))
        except Exception:
            pass  # refused is as good as ignored
        assert not (tmp_path / "ran").exists(), name
        if original is not None:
            (checkpoint / name).write_bytes(original)
            manifest["files"][name] = [len(original), zlib.crc32(original)]
            (checkpoint / "manifest.json").write_text(json.dumps(manifest))
        for later in (tmp_path / "out").glob("checkpoint-4"):
            shutil.rmtree(later)


def test_several_data_sets_are_mixed_by_weight(tones: Path, tmp_path: Path):
    more = ("--dataset_name", *(str(tones / name) for name in ("low", "high")), "--mixing_weights", "3", "1")
    run_pretraining.main(pretraining_arguments(tones, tmp_path, *more))
    state = json.loads((tmp_path / "checkpoint-4" / "progress_0.json").read_text())
    low, high = (total for _, _, _, total in state["readers"]["0"])
    assert (low, high) == (24, 8)  # of four batches of eight pairs
    assert "| dataset_name | low, high |" in (tmp_path / "README.md").read_text()


def test_bf16_trains_in_mixed_precision(tones: Path, tmp_path: Path):
    dtypes = set()
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, output: dtypes.add(output.dtype) if isinstance(module, torch.nn.Conv2d) else None
    )
    AcceleratorState._reset_state()  # a process has one precision
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--bf16", "--max_steps", "2"))
    AcceleratorState._reset_state()
    handle.remove()
    assert torch.bfloat16 in dtypes
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}


def test_a_second_run_in_the_same_folder_is_refused(tones: Path, tmp_path: Path):
    with locked(tmp_path), pytest.raises(ValueError, match=f"Another run writes to .*, process {os.getpid()} on"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path))


def test_a_full_disk_is_told_of_by_the_list_of_skipped_clips(tmp_path: Path):
    skipped = SkippedClips(Path("/dev/full"), RESUME)
    with pytest.raises(OSError, match="The disk is full: /dev/full .*--resume_from_checkpoint"):
        skipped.add([ClipNote("empty", "a.wav", "It has 0 bytes.")])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--recipe", "secret"), "--recipe must be one of"),
        (("--objective", "secret"), "--objective must be one of contrastive, triplet, temporal_gap, audio2vec_cbow"),
        (("--model_name_or_path", "cola-mine"), "cola-mine has a model of its own: leave out --encoder, --similarity"),
        (
            ("--objective", "triplet", "--temperature", "0.1", "--decorrelation_weight", "0.02"),
            "--temperature, --decorrelation_weight: only --objective contrastive has this",
        ),
        (("--objective", "distillation"), "--objective distillation and --teacher_name_or_path need each other"),
        (("--teacher_name_or_path", str(COMPACT)), "--objective distillation and --teacher_name_or_path need each"),
        (("--max_steps", "0"), "--max_steps must be at least 1"),
        (("--validation_clips", "-10"), "--validation_clips must be at least 0"),
        (("--learning_rate", "nan"), "--learning_rate must be at least 0, got nan"),
        (("--learning_rate", "inf"), "--learning_rate must be finite, got inf"),
        (("--mix_share", "2"), "--mix_share must be at most 1, got 2.0"),
        (("--warmup_ratio", "1.5"), "--warmup_ratio must be at most 1, got 1.5"),
        (("--max_bad_fraction", "nan"), "--max_bad_fraction must be from 0 to 1, got nan"),
        (("--seed", "-1"), "--seed must be from 0 to 2147483647, got -1"),
        (("--dataloader_num_workers", "-1"), "--dataloader_num_workers must be at least 0, got -1"),
        (("--per_device_train_batch_size", "0"), "--per_device_train_batch_size must be at least 1, got 0"),
        (("--optim", "nope"), "--optim nope"),
        (("--lr_scheduler_type", "greedy"), "--lr_scheduler_type must be one of constant, .*, got 'greedy'"),
        (("--temperature", "nan"), "`temperature` must be above 0, got nan"),
        (("--per_device_train_batch_size", "1"), "--per_device_train_batch_size 1 leaves an anchor without negatives"),
        (("--per_device_train_batch_size", "64"), "less than a batch of 64"),
        (("--dataset_split", "unbalanced"), "no split 'unbalanced'"),
        (("--mixing_weights", "1", "2"), "--mixing_weights. must be 1 positive numbers, one for each data set"),
        (("--audio_column", "sound"), "no column 'sound'"),
        (("--encoder", "efficientnet_zero"), "efficientnet_zero"),
        (
            ("--encoder", "vit_tiny_patch16_224"),
            ".encoder. must be a convolutional network .* 'vit_tiny_patch16_224' does not",
        ),
        (("--report_to", "aim"), "--report_to aim: .* not installed"),
        (("--report_to", "nope"), "--report_to must be none or one of .*tensorboard.*, got 'nope'"),
    ],
)
def test_bad_arguments_are_named(
    tones: Path, tmp_path: Path, command_fails: Callable, more: tuple[str, ...], message: str
):
    command_fails(pretraining_arguments(tones, tmp_path, *more), message)


@pytest.fixture(scope="session")
def foreign_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Audio Spectrogram Transformer."""
    folder = tmp_path_factory.mktemp("ast")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ASTModel(ASTConfig(**sizes)).save_pretrained(folder)
    ASTFeatureExtractor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("argument", ["--model_name_or_path", "--teacher_name_or_path"])
def test_a_checkpoint_of_another_model_is_named(
    tones: Path, tmp_path: Path, foreign_checkpoint: Path, command_fails: Callable, argument: str
):
    command = ["--dataset_name", str(tones), "--output_dir", str(tmp_path), "--per_device_train_batch_size", "8"]
    if argument == "--teacher_name_or_path":
        command += ["--objective", "distillation", "--encoder", "compact"]
    command_fails([*command, argument, "/nope"], "/nope")
    command_fails(
        [*command, argument, str(foreign_checkpoint)], f"{foreign_checkpoint}.*audio-spectrogram-transformer"
    )


@pytest.mark.parametrize("extractor", [None, COLAFeatureExtractor(do_normalize=False, fmax=4000.0)])
def test_a_teacher_of_other_features_is_refused(
    tones: Path, tmp_path: Path, command_fails: Callable, extractor: COLAFeatureExtractor | None
):
    teacher = tmp_path / "teacher"
    COLAModel.from_pretrained(COMPACT).save_pretrained(teacher)
    message = f"The checkpoint {teacher} has no preprocessor_config.json"
    if extractor is not None:
        extractor.save_pretrained(teacher)
        message = f"--teacher_name_or_path {teacher} was trained on other features: fmax 4000.0 and not 7800.0"
    objective = ("--objective", "distillation", "--teacher_name_or_path", str(teacher))
    command_fails(pretraining_arguments(tones, tmp_path / "out", *objective), message)


def test_several_processes_on_cpus_are_told_what_to_set(
    tones: Path, tmp_path: Path, command_fails: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    command_fails(pretraining_arguments(tones, tmp_path), "ACCELERATE_USE_CPU=true")


def test_none_is_no_tracker(tones: Path, tmp_path: Path):
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--report_to", "none", "--max_steps", "1"))
    assert list(history(tmp_path)) == [1]


def test_an_empty_folder_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no audio"):
        run_pretraining.main(pretraining_arguments(tmp_path, tmp_path / "out"))


def test_a_loss_that_is_not_finite_ends_the_run(tones: Path, tmp_path: Path):
    with pytest.raises(FloatingPointError, match="--learning_rate"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path, "--learning_rate", "1e30", "--max_steps", "10"))
