"""Mistakes of the user in one line, faults of the code with their traceback."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from feature_extraction import AudioDecodingError, COLAFeatureExtractor, load_audio, load_audio_dataset
from modeling_cola import COLAConfig, COLAModel
from run_scripts.common.checkpoints import load_checkpoint
from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError, as_user_error
from run_scripts.common.files import DiskFullError, make_output_dir, write_text
from run_scripts.embedding.encode import EmbeddedClip, embed_files


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["folder/script.py"])


def message_of(main, capsys: pytest.CaptureFixture) -> str:
    """The line by which a script ends with status 2."""
    with pytest.raises(SystemExit) as exit:
        run_script(main)
    lines = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and len(lines) == 1 and lines[0].startswith("script.py: error: ")
    return lines[0].removeprefix("script.py: error: ")


def raise_(error: Exception) -> None:
    raise error


def write_into_a_file(folder: Path) -> None:
    (folder / "file").touch()
    make_output_dir(folder / "file" / "out")


def build_config() -> None:
    with as_user_error("--temperature"):
        COLAConfig(temperature=float("nan"))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda _: raise_(UserError("--seed must be at least 0,\n  got -1.")), "--seed must be at least 0, got -1."),
        (lambda _: raise_(DiskFullError("The disk is full.")), "The disk is full."),
        (lambda _: load_audio(b""), "the audio is empty: it has 0 bytes."),
        (lambda _: load_audio("nowhere.wav"), "No such file: nowhere.wav."),
        (lambda _: load_audio_dataset("nowhere/"), "There is no file or folder nowhere/."),
        (lambda _: load_checkpoint(COLAModel, "/nope"), "There is no checkpoint /nope: "),
        (lambda folder: load_checkpoint(COLAModel, str(folder)), "There is no checkpoint {folder}: "),
        (write_into_a_file, "--output_dir {folder}/file/out cannot be written to: Not a directory."),
        # The message names the value, and not the validator.
        (lambda _: build_config(), "--temperature: `temperature` must be above 0, got nan."),
        (lambda folder: raise_(PermissionError(13, "Permission denied", "/x")), "[Errno 13] Permission denied: '/x'"),
    ],
)
def test_a_mistake_of_the_user_is_reported_in_one_line(mistake, message, tmp_path: Path, capsys):
    assert message_of(lambda: mistake(tmp_path), capsys).startswith(message.format(folder=tmp_path))


def test_a_fault_of_our_code_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """The errors are of types that mistakes have as well, and their last frames are in this project's code."""
    nothing = EmbeddedClip(num_windows=0, seconds=0.0, chunks=iter(()))
    monkeypatch.setattr("run_scripts.embedding.encode.embed_clips", lambda *args: [("name", nothing)])
    extractor = COLAFeatureExtractor()
    with pytest.raises(ValueError, match="need at least one array to concatenate"):
        run_script(lambda: embed_files(None, extractor, ["a.wav"], windows=True))
    with pytest.raises(ValueError, match="waveform 0 is empty"):
        run_script(lambda: extractor([], sampling_rate=16000))
    with pytest.raises(FileNotFoundError):
        run_script(lambda: write_text(tmp_path / "nowhere" / "file", "text"))
    assert capsys.readouterr().err == ""


def test_debug_shows_the_traceback_of_a_mistake_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--debug"])
    with pytest.raises(AudioDecodingError):
        run_script(lambda: load_audio(b""))
    assert sys.argv == ["script.py"]


class Failing(torch.utils.data.Dataset):
    def __init__(self, fail):
        self.fail = fail

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int):
        return self.fail()


def test_errors_of_workers_are_told_apart_as_well(capsys: pytest.CaptureFixture):
    def run(fail) -> None:
        list(torch.utils.data.DataLoader(Failing(fail), num_workers=1, multiprocessing_context="fork"))

    assert message_of(lambda: run(lambda: load_audio(b"")), capsys) == "the audio is empty: it has 0 bytes."
    with pytest.raises(ValueError, match="waveform 0 is empty"):
        run_script(lambda: run(lambda: COLAFeatureExtractor()([], sampling_rate=16000)))


@dataclass
class Arguments:
    name: str = field(metadata={"help": "A name."})
    output_dir: str = field(default="out", metadata={"help": "A folder."})
    count: int = field(default=1, metadata={"help": "A number."})

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"--count must be at least 0, got {self.count}.")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--name", "a", "--nope", "b"], "unrecognized arguments: --nope b; "),
        (["--name", "a", "stray"], "unrecognized arguments: stray; "),
        ([], "the following arguments are required: --name; "),
        (["--name", "a", "--count", "two"], "argument --count: invalid int value: 'two'; "),
        (["--name", "a", "--count", "-1"], "--count must be at least 0, got -1."),
        (["--name"], "argument --name: expected one argument; "),
        (["--name", "a", "--output_dir", " "], "--output_dir is empty."),
    ],
)
def test_wrong_arguments_are_mistakes(argv, message, capsys: pytest.CaptureFixture):
    assert message_of(lambda: ArgumentParser(Arguments).parse(argv), capsys).startswith(message)


def test_the_home_of_the_user_is_found_where_the_shell_does_not_look_for_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    (arguments,) = ArgumentParser(Arguments).parse(["--name=a", "--output_dir=~/out"])
    assert arguments.output_dir == "/home/me/out"
