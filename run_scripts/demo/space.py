"""The files of a Gradio Space that shows the page of the demo."""

import shutil
from pathlib import Path

from huggingface_hub import SpaceCardData

from run_scripts.common.cards import write_card
from run_scripts.common.checkpoints import load_config
from run_scripts.common.errors import UserError
from run_scripts.common.files import make_output_dir, written_whole
from run_scripts.demo.arguments import DemoArguments
from run_scripts.embedding.arguments import CHECKPOINT
from run_scripts.embedding.parts import read_settings
from run_scripts.embedding.sharing import copy_vectors


ROOT = Path(__file__).parents[2]
PACKAGES = ("feature_extraction", "modeling_cola", "run_scripts")

APP = '''"""Finds clips that sound like a recording, and names its classes."""

import os
from pathlib import Path

from run_scripts.demo.arguments import DemoArguments
from run_scripts.demo.page import build_page


os.chdir(Path(__file__).parent)
page = build_page(DemoArguments(index_dir={index!r}, model_name_or_path={model!r}, top_k={top_k}))

if __name__ == "__main__":
    page.launch()
'''


def write_space(args: DemoArguments) -> Path:
    """
    Writes `app.py`, `requirements.txt` and all that they need to a folder: the code of this project, the checkpoint,
    and the vectors of the index. The audio of the indexed clips is not copied.

    Raises:
        `ValueError`: If the folder exists and is not empty.
        `FileNotFoundError`: If the index has no vectors. Nothing is written then.
    """
    folder = Path(args.space).expanduser()
    check_new_folder(folder, "--space")
    if args.model_name_or_path is not None:
        load_config(args.model_name_or_path)
    make_output_dir(folder.parent, "--space")
    with written_whole(folder) as temporary:
        _fill(temporary, args)
    return folder


def check_new_folder(folder: Path, argument: str) -> None:
    """Checks that a folder that an argument names does not exist or is empty; if not, it is a [`UserError`]."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{argument} {folder} is not empty: name a new folder.")


def _fill(folder: Path, args: DemoArguments) -> None:
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "cola-*")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    checkpoint, index = args.model_name_or_path or str(CHECKPOINT), None
    if args.index_dir is not None:
        source, index = Path(args.index_dir).expanduser(), "index"
        settings = read_settings(source)
        checkpoint = args.model_name_or_path or settings["model_name_or_path"]
        (folder / index).mkdir()
        encoder = _copy_checkpoint(settings["model_name_or_path"], folder, "encoder")
        copy_vectors(source, folder / index, encoder)
    model = _copy_checkpoint(checkpoint, folder, "model")
    shutil.copy(Path(__file__).with_name("requirements.txt"), folder)
    (folder / "app.py").write_text(APP.format(index=index, model=model, top_k=args.top_k))
    data = SpaceCardData(title="COLA", sdk="gradio", app_file="app.py", python_version="3.12", license="apache-2.0")
    write_card(folder / "README.md", "space", data)


def _copy_checkpoint(checkpoint: str, folder: Path, name: str) -> str:
    """Copies a checkpoint, and returns how the page finds it: its new folder, or its name on the Hub."""
    if not Path(checkpoint).is_dir():
        return checkpoint
    shutil.copytree(checkpoint, folder / name, ignore=shutil.ignore_patterns("checkpoint-*", "__pycache__"))
    return name
