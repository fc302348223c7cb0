"""Where a run starts: in a folder that no other run has used, or at a checkpoint of a run with the same settings."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from run_scripts.classification.arguments import DataArguments, ModelArguments
from run_scripts.classification.trainer import ClassificationArguments
from run_scripts.common.errors import MissingFileError, UserError
from run_scripts.common.files import write_json
from run_scripts.common.resume import check_settings, find_checkpoints, find_newest_whole


# The settings of the run in the folder. The Trainer does not push a file whose name begins with an underscore.
SETTINGS = "_settings.json"
# The settings of the Trainer that a run must share with the one that it continues. More epochs may be trained.
TRAINING_SETTINGS = (
    "seed",
    "data_seed",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "world_size",
    "optim",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "class_weights",
    "bf16",
    "fp16",
)


def choose_checkpoint(args: ClassificationArguments) -> Path | None:
    """
    Finds the checkpoint from which training resumes, or `None` if it starts from the beginning:
    `resume_from_checkpoint` is a checkpoint's folder, or `"latest"` for the newest whole one in the output folder, if
    there is any.

    Raises:
        `FileNotFoundError`: If the folder is not a checkpoint of the Trainer.
        `ValueError`: If the checkpoint, or each one in the output folder, is damaged, or if the output folder holds
            another run or a model that is not to be resumed.
    """
    output_dir = Path(args.output_dir)
    if args.overwrite_output_dir:
        if args.should_save:
            for checkpoint in _find_written_checkpoints(output_dir):
                shutil.rmtree(checkpoint)
        return None
    if args.resume_from_checkpoint not in (None, "latest"):
        return _check_checkpoint(Path(args.resume_from_checkpoint), output_dir)
    checkpoints = _find_written_checkpoints(output_dir)
    if args.resume_from_checkpoint == "latest" and checkpoints:
        if checkpoint := find_newest_whole(checkpoints, find_damage):
            return checkpoint
        raise UserError(
            f"No checkpoint in {output_dir} is whole: pass --overwrite_output_dir to start anew, or another "
            "--output_dir."
        )
    if checkpoints or (output_dir / "config.json").is_file():
        what = "an earlier run" if checkpoints else "a model"
        raise UserError(
            f"--output_dir {output_dir} holds {what}: pass --resume_from_checkpoint to go on with a run, "
            "--overwrite_output_dir to replace it, or another --output_dir."
        )
    return None


def _find_written_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints without those that were not finished: the Trainer writes its state last."""
    return [path for path in find_checkpoints(output_dir) if (path / TRAINER_STATE_NAME).is_file()]


def _check_checkpoint(checkpoint: Path, output_dir: Path) -> Path:
    if not (checkpoint / TRAINER_STATE_NAME).is_file():
        raise MissingFileError(
            f"--resume_from_checkpoint {checkpoint}: there is no checkpoint, {TRAINER_STATE_NAME} is missing. Name a "
            f"folder such as {output_dir / PREFIX_CHECKPOINT_DIR}-100, or give no value to resume from the newest "
            "checkpoint."
        )
    if damage := find_damage(checkpoint):
        raise UserError(f"--resume_from_checkpoint {checkpoint} is damaged ({damage}): resume from another one.")
    return checkpoint


def find_damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint of the Trainer, or `None` if its files can be read."""
    path = checkpoint / TRAINER_STATE_NAME
    try:
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(checkpoint.glob("*.pt*")):  # PyTorch's files are ZIP archives, with checksums
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    return f"{path.name} is not what was written"
        for path in sorted(checkpoint.glob("*.safetensors")):
            with safe_open(path, framework="pt"):
                pass
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError) as error:
        return f"{path.name}: {error}"
    return None


def settle(
    checkpoint: Path | None,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ClassificationArguments,
    sizes: dict[str, Any],
    frozen_encoder: str | None = None,
) -> None:
    """
    Writes the settings of the run into the output folder, after a check that they are those of the run that it
    continues, which are beside its checkpoint. `sizes` are the numbers of classes and of training clips, `num_classes`
    and `num_train`. `frozen_encoder` is the hash of an encoder that is not trained, and so not in the checkpoints.
    """
    settings = {name: getattr(model_args, name) for name in ("mode", "model_name_or_path", "freeze_batch_norm")}
    if model_args.model_name_or_path is None:
        settings["encoder"] = model_args.encoder
    for name in ("dataset_name", "dataset_config_name", "task", "data_dir", "audio_column", "label_column"):
        settings[name] = getattr(data_args, name)
    settings |= {name: sizes[name] for name in ("num_classes", "num_train")} | {"frozen_encoder": frozen_encoder}
    settings |= {name: getattr(args, name) for name in TRAINING_SETTINGS}
    if checkpoint is not None and (checkpoint.parent / SETTINGS).is_file():
        earlier = json.loads((checkpoint.parent / SETTINGS).read_text())
        check_settings(checkpoint.parent, earlier, settings)
    if args.process_index == 0:
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        write_json(Path(args.output_dir) / SETTINGS, settings)
