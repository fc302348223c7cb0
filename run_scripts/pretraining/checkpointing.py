"""Checkpoints that survive a kill, with all that a run needs to resume exactly where it stopped."""

import json
import logging
import shutil
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from safetensors import safe_open

from feature_extraction import ClipNote, Position, ReaderState
from run_scripts.common.checkpoints import checkpoint_size
from run_scripts.common.errors import FileError, MissingFileError, UserError
from run_scripts.common.files import format_size, make_output_dir, written_whole
from run_scripts.common.resume import check_settings, find_checkpoints, find_newest_whole
from run_scripts.common.skipped import count_by_kind
from run_scripts.pretraining.arguments import PretrainingArguments


logger = logging.getLogger(__name__)

# What to do when the disk is full.
RESUME = "The earlier checkpoints are whole: make room and resume with --resume_from_checkpoint."

# What to do with a checkpoint of a run with other settings.
OTHER_RUN = (
    "Resume with the same ones, or start another run from its weights with --model_name_or_path and another "
    "--output_dir."
)

MANIFEST = "manifest.json"
BEST_WEIGHTS = "best_model.safetensors"


@dataclass
class RunState:
    """The state of a run. Each checkpoint holds one for each process."""

    step: int = 0
    next_worker: int = 0
    """The worker whose turn it is to give a batch."""
    readers: dict[int, tuple[ReaderState, ...]] = field(default_factory=dict)
    """The state of each worker's readers, one for each data set."""
    history: list[dict[str, float]] = field(default_factory=list)
    """The entries of the log."""
    sums: tuple[float, float] = (0.0, 0.0)
    """Loss and pretext accuracy, summed over the steps since the last entry of the log."""
    synthesizer: str = ""
    """The state of this process's `SyntheticPairs`, if there are any."""
    num_clips: int = 0
    """Clips that this process has read, including those that it skipped."""
    notes: dict[str, int] = field(default_factory=dict)
    """How many of these clips were skipped or are short, by kind."""
    largest_loss: int = 0
    """The greatest number of clips that were skipped together, in a corrupt shard."""
    best_step: int | None = None
    """The step whose validation has had the best metric so far."""
    best_metric: float | None = None
    best_metric_name: str | None = None
    files: list[str] | None = None
    """A hash of the files of each data set."""
    scheduler: dict[str, Any] = field(default_factory=dict)
    """The state of the learning-rate schedule."""

    @property
    def num_bad(self) -> int:
        """How many clips were skipped. Short ones are used."""
        return sum(number for kind, number in self.notes.items() if kind != "short")

    def add_clips(self, num_used: int, notes: list[ClipNote]) -> None:
        """Counts the clips of a batch: those that it has, and those that were skipped or are short."""
        counts = count_by_kind(notes)
        self.notes = dict(Counter(self.notes) + counts)
        self.num_clips += num_used + counts.total() - counts["short"]
        self.largest_loss = max([self.largest_loss, *(note.num_clips for note in notes if note.kind != "short")])

    @classmethod
    def load(cls, path: Path) -> "RunState":
        values = json.loads(path.read_text())
        values["sums"] = tuple(values["sums"])
        values["readers"] = {
            int(worker): tuple(ReaderState(number, Position(*start), *counts) for number, start, *counts in states)
            for worker, states in values["readers"].items()
        }
        return cls(**values)


def prepare_output_dir(output_dir: Path, model: torch.nn.Module, save_total_limit: int) -> None:
    """
    Makes the output folder, and checks that it can be written to and has room for the checkpoints to come. With a
    `save_total_limit` of 0 or less, which keeps all, only the next one is checked for.

    Raises:
        `OSError`: If the folder cannot be made or written to, or if its disk has too little room.
    """
    make_output_dir(output_dir)
    # A new checkpoint is written before the oldest one is removed; those that are there need no further room.
    num_checkpoints = max(save_total_limit - len(find_checkpoints(output_dir)), 0) + 1
    needed = checkpoint_size(model) * num_checkpoints
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        raise FileError(
            f"--output_dir {output_dir} is on a disk with {format_size(free)} free, but {num_checkpoints} "
            f"checkpoints take {format_size(needed)}: make room, or lower --save_total_limit."
        )


def save_checkpoint(
    accelerator: Accelerator,
    model: torch.nn.Module,
    state: RunState,
    fixed_arguments: dict[str, Any],
    args: PretrainingArguments,
) -> None:
    """
    Writes `checkpoint-<step>` under a temporary name, renames it once it is whole, and removes the oldest checkpoints
    beyond `args.save_total_limit` (none if that is 0 or less).

    Raises:
        `OSError`: if it cannot be written. The earlier checkpoints are not touched.
    """
    output_dir = Path(args.output_dir)
    final = output_dir / f"checkpoint-{state.step}"
    is_main = accelerator.is_main_process
    with written_whole(final, checkpoint_size(model), RESUME, renames=is_main) as temporary:
        accelerator.save_state(str(temporary))
        (temporary / f"progress_{accelerator.process_index}.json").write_text(json.dumps(asdict(state)))
        accelerator.wait_for_everyone()
        if is_main:
            files = {path.name: _checksum(path) for path in temporary.iterdir() if path.name != MANIFEST}
            (temporary / MANIFEST).write_text(json.dumps({"arguments": fixed_arguments, "files": files}))
    if is_main:
        _remove_oldest_checkpoints(output_dir, args.save_total_limit)
    accelerator.wait_for_everyone()


def _remove_oldest_checkpoints(output_dir: Path, save_total_limit: int) -> None:
    """Removes all but the newest `save_total_limit` checkpoints, or none if that is 0 or less."""
    if save_total_limit <= 0:
        return
    for checkpoint in find_checkpoints(output_dir)[:-save_total_limit]:
        shutil.rmtree(checkpoint)


def choose_checkpoint(resume_from_checkpoint: str | None, output_dir: Path) -> Path | None:
    """
    Chooses the checkpoint to resume from, the same one for every process, or `None` where the run starts anew: the
    path of one, or `"latest"` for the newest whole one in `output_dir`, if there is any.

    Raises:
        `ValueError`: If `output_dir` holds checkpoints and the run is not to be resumed, or if the checkpoint, or
            every checkpoint in the folder, is damaged.
        `FileNotFoundError`: If there is no checkpoint at the path.
    """
    if resume_from_checkpoint is None:
        if find_checkpoints(output_dir):
            raise UserError(f"{output_dir} holds checkpoints: pass --resume_from_checkpoint, or another --output_dir.")
        return None
    if resume_from_checkpoint == "latest":
        return _find_newest_whole_checkpoint(output_dir)
    checkpoint = Path(resume_from_checkpoint).expanduser()
    if not checkpoint.is_dir():
        raise MissingFileError(f"--resume_from_checkpoint {checkpoint}: there is no such folder.")
    if damage := _find_damage(checkpoint):
        raise UserError(
            f"--resume_from_checkpoint {checkpoint} is damaged or not a checkpoint of pre-training ({damage})."
        )
    return checkpoint


def _find_newest_whole_checkpoint(output_dir: Path) -> Path | None:
    """
    The newest checkpoint that is whole, or `None` if there are no checkpoints. The main process searches, since
    reading all files takes long, and tells the others what it found.
    """
    found: list[Path | None | UserError] = [None]
    if PartialState().is_main_process:
        checkpoints = find_checkpoints(output_dir)
        found = [find_newest_whole(checkpoints, _find_damage)]
        if checkpoints and found == [None]:
            found = [UserError(f"No checkpoint in {output_dir} is whole: start anew in another --output_dir.")]
    broadcast_object_list(found)
    (result,) = found
    if isinstance(result, UserError):
        raise result
    return result


def load_run_state(checkpoint: Path, arguments: dict[str, Any], process_index: int) -> RunState:
    """
    Loads the state of this process's run, after a check that a run with these arguments is the one that the checkpoint
    was written by. The error names the arguments that differ.
    """
    earlier = json.loads((checkpoint / MANIFEST).read_text())["arguments"]
    check_settings(checkpoint, earlier, arguments, OTHER_RUN)
    logger.info(f"Resuming from {checkpoint}.")
    return RunState.load(checkpoint / f"progress_{process_index}.json")


def save_best_weights(model: torch.nn.Module, step: int, output_dir: Path) -> None:
    """Writes the weights of the best validation so far, in place of earlier ones."""
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    num_bytes = sum(tensor.nbytes for tensor in weights.values())
    with written_whole(output_dir / BEST_WEIGHTS, num_bytes, RESUME) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata={"step": str(step)})


def read_best_step(output_dir: Path) -> int | None:
    """The step whose weights [`save_best_weights`] has written last, or `None` if there are none."""
    path = output_dir / BEST_WEIGHTS
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])


def load_best_weights(model: torch.nn.Module, step: int, output_dir: Path) -> None:
    """Loads the weights that [`save_best_weights`] wrote. It is a [`FileError`] if they are of another step."""
    path, saved = output_dir / BEST_WEIGHTS, read_best_step(output_dir)
    if saved != step:
        raise FileError(f"{path} holds the weights of step {saved}, but step {step} was the best.")
    model.load_state_dict(safetensors.torch.load_file(path))


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return [path.stat().st_size, crc]


def _find_damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or `None` if it is whole."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
        for name, checksum in files.items():
            if _checksum(checkpoint / name) != checksum:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return None
