"""Checkpoints that survive a kill, and all that a run needs to go on exactly where it stopped."""

import json
import os
import shutil
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list


logger = get_logger(__name__)

MANIFEST = "manifest.json"


@dataclass
class Progress:
    """Where a run stands; a checkpoint keeps one per process."""

    step: int = 0
    next_worker: int = 0
    readers: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By worker, the place that it has read to: `SegmentPairs.state`."""
    history: list[dict[str, float]] = field(default_factory=list)
    sums: tuple[float, float] = (0.0, 0.0)
    """Loss and pretext accuracy since the last entry of the log."""
    num_clips: int = 0
    """Clips that this process has read, with those that it skipped."""
    notes: dict[str, int] = field(default_factory=dict)
    """How many of them were told of, by kind."""

    @property
    def num_bad(self) -> int:
        """Clips that were skipped."""
        return sum(number for kind, number in self.notes.items() if kind != "short")

    @classmethod
    def load(cls, path: Path) -> "Progress":
        values = json.loads(path.read_text())
        values["sums"] = tuple(values["sums"])
        values["readers"] = {int(worker): tuple(place) for worker, place in values["readers"].items()}
        return cls(**values)


def make_output_dir(output_dir: Path, model: torch.nn.Module, num_checkpoints: int) -> None:
    """
    Raises:
        `OSError`: if the folder cannot be made or written in, or if there is no room for the checkpoints.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        probe = output_dir / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"Cannot write in --output_dir {output_dir}: {error.strerror or error}.") from error
    # The weights, the two moments of Adam, and one checkpoint that is being written while the others are there.
    needed = 3 * sum(p.numel() * p.element_size() for p in model.parameters()) * (num_checkpoints + 1)
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        raise OSError(
            f"--output_dir {output_dir} is on a disk with {free / 1e6:.0f} MB free, but {num_checkpoints + 1} "
            f"checkpoints take {needed / 1e6:.0f} MB: make room, or lower --save_total_limit."
        )


def find_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def save_checkpoint(
    accelerator: Accelerator, progress: Progress, arguments: dict[str, Any], output_dir: Path, limit: int
) -> None:
    """
    Writes `checkpoint-<step>` under a temporary name, renames it, and removes the oldest beyond `limit`.

    Raises:
        `OSError`: if it cannot be written; the checkpoints before it are as they were.
    """
    final = output_dir / f"checkpoint-{progress.step}"
    temporary = output_dir / f".checkpoint-{progress.step}.tmp"
    try:
        accelerator.save_state(str(temporary))
        (temporary / f"progress_{accelerator.process_index}.json").write_text(json.dumps(asdict(progress)))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            files = {path.name: _checksum(path) for path in temporary.iterdir() if path.name != MANIFEST}
            (temporary / MANIFEST).write_text(json.dumps({"arguments": arguments, "files": files}))
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
            for old in find_checkpoints(output_dir)[:-limit]:
                shutil.rmtree(old)
    except (OSError, RuntimeError) as error:  # torch's writer raises a RuntimeError when the disk is full
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"Could not write {final}: {error}. The checkpoints before it are whole: if the disk is full make room, "
            "and go on with --resume."
        ) from error
    accelerator.wait_for_everyone()


def find_whole_checkpoint(output_dir: Path) -> Path | None:
    """
    The newest checkpoint that is whole, the same one for every process; `None` if there is none at all.

    Warns of damaged ones.

    Raises:
        `ValueError`: if all are damaged.
    """
    chosen, checkpoints = [None], find_checkpoints(output_dir)
    for checkpoint in reversed(checkpoints) if PartialState().is_main_process else ():
        problem = _find_damage(checkpoint)
        if problem is None:
            chosen = [str(checkpoint)]
            break
        logger.warning(f"{checkpoint} is damaged ({problem}): going back to the one before it.")
    broadcast_object_list(chosen)
    if checkpoints and chosen == [None]:
        raise ValueError(f"No checkpoint in {output_dir} is whole: start anew in another --output_dir.")
    return chosen[0] and Path(chosen[0])


def check_arguments(checkpoint: Path, arguments: dict[str, Any]) -> None:
    """
    Raises:
        `ValueError`: if a run with these arguments would not be the one that the checkpoint is of.
    """
    earlier = json.loads((checkpoint / MANIFEST).read_text())["arguments"]
    differing = [
        f"--{name} is {value!r}, was {earlier.get(name)!r}"
        for name, value in json.loads(json.dumps(arguments)).items()
        if value != earlier.get(name)
    ]
    if differing:
        raise ValueError(
            f"{checkpoint} is of a run with other settings: {'; '.join(differing)}. Resume with the same, or start "
            "another run from its weights with --model_name_or_path and another --output_dir."
        )


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return [path.stat().st_size, crc]


def _find_damage(checkpoint: Path) -> str | None:
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
        for name, checksum in files.items():
            if _checksum(checkpoint / name) != checksum:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return None
