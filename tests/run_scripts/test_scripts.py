"""The scripts as users start them: as files and as modules."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from run_scripts import run_classification
from run_scripts.common.command_line import run_script
from run_scripts.embedding.arguments import CHECKPOINT


ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "run_scripts").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize(
    "script",
    ["run_pretraining", "run_classification", "run_detection", "run_benchmark", "prepare_audio", "quickstart"],
)
def test_help_loads_no_heavy_library(script):
    """Loading them takes several times as long as the help itself."""
    code = (
        f"import sys; from run_scripts.{script} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'datasets', 'timm', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]", run.stderr


def test_help_of_classification_shows_our_arguments_and_where_the_trainers_are(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit, match="0"):
        run_classification.main(["--output_dir", "out", "--help"])
    text = capsys.readouterr().out
    assert "--mode" in text and "--class_weights" in text and "--weight_decay" not in text
    assert "All other arguments of the Trainer" in text and run_classification.TRAINER_PAGE in text


@pytest.mark.parametrize(
    "script",
    [
        "prepare_audio",
        *(pytest.param(script, marks=pytest.mark.slow) for script in SCRIPTS if script != "prepare_audio"),
    ],
)
def test_help_as_a_file_and_as_a_module(script, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in ([f"{ROOT}/run_scripts/{script}.py"], ["-m", f"run_scripts.{script}"]):
        run = subprocess.run(
            [sys.executable, *command, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith(f"usage: {script}.py ")


# What is wrong, and what the line that reports it must name. TONES is a folder of clips, EMBEDDED one of vectors,
# COMPACT a checkpoint, OTHER a checkpoint of another model, EMPTY an empty folder, and FILE a file of text.
DATA = ["--dataset_name", "TONES"]
OUT = ["--output_dir", "OUT"]
MISTAKES = [
    *((script, ["--nope"], "--") for script in SCRIPTS),
    *(
        (script, [*arguments, "--nope", "3"], "--nope")
        for script, arguments in {
            "run_embedding": OUT,
            "prepare_audio": DATA + OUT,
            "run_demo": [],
            "quickstart": [],
            "convert_checkpoint": ["--checkpoint", "FILE", *OUT],
            "export_onnx": ["--checkpoint", "FILE", *OUT],
            "run_pretraining": DATA + OUT,
            "run_classification": [*DATA, *OUT, "--mode", "supervised", "--encoder", "compact"],
            "run_benchmark": ["--tasks_dir", "TONES", *OUT],
        }.items()
    ),
    ("run_embedding", [*DATA, "--output_dir", " "], "--output_dir"),
    ("run_embedding", [*DATA, "--output_dir", "FILE"], "--output_dir"),
    ("run_embedding", [*DATA, "--output_dir", "FILE/out"], "--output_dir"),
    ("run_embedding", ["--dataset_name", "", *OUT], "--dataset_name"),
    ("run_embedding", ["--dataset_name", "/nope", *OUT], "/nope"),
    ("run_embedding", ["--dataset_name", "EMPTY", *OUT], "EMPTY"),
    ("run_embedding", ["--dataset_name", "FILE", *OUT], "FILE"),
    ("run_embedding", [*DATA, *OUT, "--model_name_or_path", "/nope"], "/nope"),
    ("run_embedding", [*DATA, *OUT, "--model_name_or_path", "some/one"], "some/one"),
    ("run_embedding", [*DATA, *OUT, "--model_name_or_path", "EMPTY"], "EMPTY"),
    ("run_embedding", [*DATA, *OUT, "--model_name_or_path", "FILE"], "FILE"),
    ("run_embedding", [*DATA, *OUT, "--model_name_or_path", "OTHER"], "OTHER"),
    ("run_embedding", [*DATA, *OUT, "--audio_column", "nope"], "nope"),
    ("run_embedding", [*DATA, *OUT, "--dataset_split", "nope"], "nope"),
    ("run_embedding", [*DATA, *OUT, "--windows", "nope"], "--windows"),
    ("run_embedding", [*DATA, *OUT, "--push_to_hub"], "--push_to_hub"),
    ("run_embedding", OUT, "OUT"),
    ("run_embedding", ["--output_dir", "EMPTY", "--query", "a.wav"], "EMPTY"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--query", "nope.wav"], "nope.wav"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--query", "http://"], "http://"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--query", "EMPTY"], "EMPTY"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--query", "TONES/low/0.wav@99"], "--query"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--top_k", "nan"], "--top_k"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--top_k", "0"], "--top_k"),
    ("run_embedding", ["--output_dir", "EMBEDDED", "--push_to_hub", "--hub_dataset_id", "a/b/c"], "--push_to_hub"),
    ("prepare_audio", DATA, "--output_dir"),
    ("prepare_audio", [*DATA, "--output_dir", ""], "--output_dir"),
    ("prepare_audio", [*DATA, "--output_dir", "FILE"], "--output_dir"),
    ("prepare_audio", [*DATA, "--output_dir", "TONES/out"], "--output_dir"),
    ("prepare_audio", ["--dataset_name", "", *OUT], "--dataset_name"),
    ("prepare_audio", ["--dataset_name", "/nope", *OUT], "/nope"),
    ("prepare_audio", [*DATA, *OUT, "--dataset_split", "nope"], "nope"),
    ("prepare_audio", [*DATA, *OUT, "--audio_column", "nope"], "nope"),
    ("prepare_audio", [*DATA, *OUT, "--format", "mp3"], "--format"),
    ("prepare_audio", [*DATA, *OUT, "--shard_size", "nan"], "--shard_size"),
    ("prepare_audio", [*DATA, *OUT, "--shard_size", "inf"], "--shard_size"),
    ("prepare_audio", [*DATA, *OUT, "--shard_size", "0"], "--shard_size"),
    ("prepare_audio", [*DATA, *OUT, "--max_seconds", "nan"], "--max_seconds"),
    ("prepare_audio", [*DATA, *OUT, "--max_seconds", "1e-9"], "--max_seconds"),
    ("prepare_audio", [*DATA, *OUT, "--num_workers", "0"], "--num_workers"),
    ("prepare_audio", [*DATA, *OUT, "--num_workers", "two"], "--num_workers"),
    ("run_demo", ["--space", "OUT", "--index_dir", "/nope"], "/nope"),
    ("run_demo", ["--space", "OUT", "--index_dir", "EMPTY"], "EMPTY"),
    ("run_demo", ["--space", "OUT", "--model_name_or_path", "/nope"], "/nope"),
    ("run_demo", ["--space", "OUT", "--model_name_or_path", "OTHER"], "OTHER"),
    ("run_demo", ["--space", "FILE"], "--space"),
    ("run_demo", ["--space", "FILE/out"], "--space"),
    ("run_demo", ["--space", "TONES"], "--space"),
    ("run_demo", ["--top_k", "0"], "--top_k"),
    ("run_demo", ["--port", "-1"], "--port"),
    ("run_demo", ["--port", "99999"], "--port"),
    ("convert_checkpoint", ["--checkpoint", "/nope", *OUT], "--checkpoint"),
    ("convert_checkpoint", ["--checkpoint", "EMPTY", *OUT], "--checkpoint"),
    ("convert_checkpoint", ["--checkpoint", "FILE", *OUT], "FILE"),
    ("convert_checkpoint", ["--checkpoint", "FILE", "--output_dir", "FILE/out"], "--output_dir"),
    ("export_onnx", ["--checkpoint", "/nope", *OUT], "/nope"),
    ("export_onnx", ["--checkpoint", "OTHER", *OUT], "OTHER"),
    ("export_onnx", ["--checkpoint", "COMPACT", "--output_dir", "FILE"], "--output_dir"),
    ("export_onnx", ["--checkpoint", "COMPACT", *OUT, "--seconds", "0"], "--seconds"),
    ("quickstart", ["--seed", "-1"], "--seed"),
    ("quickstart", ["--seed", str(2**32)], "--seed"),
    ("quickstart", ["--max_steps", "0"], "--max_steps"),
    ("quickstart", ["--data", "/nope", *OUT], "/nope"),
    ("quickstart", ["--data", "EMPTY", *OUT], "EMPTY"),
    ("quickstart", ["--data", "TONES", "--output_dir", "FILE"], "--output_dir"),
    ("run_pretraining", [*DATA, "--output_dir", "FILE"], "--output_dir"),
    ("run_pretraining", ["--dataset_name", "/nope", *OUT], "/nope"),
    ("run_pretraining", [*DATA, *OUT, "--model_name_or_path", "/nope"], "/nope"),
    ("run_pretraining", [*DATA, *OUT, "--model_name_or_path", "OTHER"], "OTHER"),
    ("run_pretraining", [*DATA, *OUT, "--max_steps", "0"], "--max_steps"),
    ("run_pretraining", [*DATA, *OUT, "--temperature", "0"], "temperature"),
    ("run_pretraining", [*DATA, *OUT, "--encoder", "nope"], "encoder"),
    ("run_classification", [*DATA, *OUT, "--mode", "nope"], "--mode"),
    ("run_classification", ["--dataset_name", "/nope", *OUT, "--mode", "supervised", "--encoder", "compact"], "/nope"),
    ("run_classification", [*DATA, *OUT, "--mode", "frozen", "--model_name_or_path", "/nope"], "/nope"),
    ("run_classification", [*DATA, *OUT, "--mode", "frozen", "--model_name_or_path", "OTHER"], "OTHER"),
    ("run_benchmark", ["--tasks_dir", "/nope", *OUT], "--tasks_dir"),
    ("run_benchmark", ["--tasks_dir", "TONES", "--output_dir", "FILE"], "--output_dir"),
    ("run_benchmark", ["--tasks_dir", "TONES", *OUT, "--modes", "nope"], "--modes"),
    ("run_benchmark", ["--tasks_dir", "TONES", *OUT, "--checkpoints", "/nope"], "/nope"),
]


@pytest.fixture(scope="module")
def folder(tones: Path, embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the arguments of `MISTAKES` are."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "TONES").symlink_to(tones)
    (folder / "EMBEDDED").symlink_to(embedded)
    (folder / "COMPACT").symlink_to(CHECKPOINT)
    (folder / "EMPTY").mkdir()
    (folder / "FILE").write_text("text")
    (folder / "OTHER").mkdir()
    (folder / "OTHER" / "config.json").write_text('{"model_type": "wav2vec2"}')
    return folder


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    MISTAKES,
    ids=[" ".join([script, *arguments]) for script, arguments, _ in MISTAKES],
)
def test_a_mistake_ends_with_one_line_that_names_it_and_status_2(
    script: str,
    arguments: list[str],
    named: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    shutil.rmtree(folder / "OUT", ignore_errors=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where no Hub is
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
    with pytest.raises(SystemExit) as exit:
        run_script(importlib.import_module(f"run_scripts.{script}").main)
    lines = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    assert len(lines) == 1 and lines[0].startswith(f"{script}.py: error: ") and named in lines[0]
