"""A pre-training run: what `run_pretraining.py` does, as a function over dataclasses."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import DatasetDict, IterableDatasetDict

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAForPreTraining, COLAModel, COLAPreTrainedModel
from run_scripts.common.checkpoints import load_checkpoint, load_config, load_extractor
from run_scripts.common.errors import UserError, as_user_error
from run_scripts.common.hub import create_hub_repository
from run_scripts.common.lock import locked
from run_scripts.common.processes import check_launch, ending_together
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.checkpointing import RunState, choose_checkpoint, load_run_state, prepare_output_dir
from run_scripts.pretraining.data import build_loader, load_data, read_held_out_pairs
from run_scripts.pretraining.loop import PretrainingTrainer
from run_scripts.pretraining.objectives import OBJECTIVES
from run_scripts.pretraining.recipes import (
    CONTRASTIVE_SETTINGS,
    LOSS_SETTINGS,
    RECIPES,
    ModelSettings,
    TrainingSettings,
    explicit,
    override,
)
from run_scripts.pretraining.report import draw_plots, push_to_hub, save_results, settings_in_force
from run_scripts.pretraining.synthetic_pairs import SyntheticPairs
from run_scripts.pretraining.validation import LinearProbe


logger = logging.getLogger(__name__)

# What a resumed run may change, since it changes nothing that is learnt.
FREE_ARGUMENTS = {
    "output_dir",
    "resume_from_checkpoint",
    "eval_steps",
    "save_steps",
    "save_total_limit",
    "report_to",
    "probe_data",
    "max_bad_fraction",
    "push_to_hub",
    "hub_model_id",
    "license",
    "load_best_model_at_end",
    "metric_for_best_model",
}


def build_config(settings: ModelSettings) -> COLAConfig:
    """Builds the configuration with these values. A value out of range is a [`UserError`]."""
    values = explicit(settings)
    if "segment_frames" in values:
        values["window_size"] = values["window_hop"] = values.pop("segment_frames")
    if len(values.get("compact_channels", ())) == 1:  # one number for all stages
        values["compact_channels"] = values["compact_channels"][0]
    with as_user_error():
        return COLAConfig(**values)


def build_model(
    args: PretrainingArguments, settings: ModelSettings | None = None
) -> tuple[COLAPreTrainedModel, COLAFeatureExtractor]:
    """
    Builds the objective's model and its feature extractor. The user's `settings` take the place of the recipe's.

    Raises:
        `ValueError`: If the settings describe another model than the checkpoint's or a loss that the objective does
            not have, if the encoder or the checkpoint cannot be used, or if the teacher has other windows or features.
    """
    objective, settings = OBJECTIVES[args.objective], settings or ModelSettings()
    chosen = explicit(settings)
    unused = [name for name in CONTRASTIVE_SETTINGS if name in chosen]
    if unused and objective is not COLAForPreTraining:
        raise UserError(f"--{', --'.join(unused)}: only --objective contrastive has this.")
    if args.model_name_or_path is None:
        config = build_config(override(RECIPES[args.recipe].model, settings))
        with as_user_error():
            model = objective(config)
        extractor = COLAFeatureExtractor(min_frames=config.window_size)
    elif of_model := [name for name in chosen if name not in LOSS_SETTINGS]:
        raise UserError(
            f"--model_name_or_path {args.model_name_or_path} has a model of its own: leave out "
            f"--{', --'.join(of_model)}."
        )
    else:
        # As in a new model, the windows of a segment follow one another.
        window_hop = load_config(args.model_name_or_path).window_size
        model = load_checkpoint(objective, args.model_name_or_path, window_hop=window_hop, **chosen)
        extractor = load_extractor(args.model_name_or_path)
    if args.teacher_name_or_path is not None:
        model.set_teacher(load_checkpoint(COLAModel, args.teacher_name_or_path))
        check_teacher_features(args.teacher_name_or_path, extractor)
    return model, extractor


def check_teacher_features(teacher: str, extractor: COLAFeatureExtractor) -> None:
    """
    Checks that the features that a run computes are those that its teacher was trained on. It is a [`UserError`] if
    not, or if the teacher's folder does not say.
    """
    own, expected = extractor.to_dict(), load_extractor(teacher).to_dict()
    differences = [
        f"{name} {expected.get(name)} and not {value}"
        for name, value in own.items()
        if name not in ("auto_map", "min_frames", "return_attention_mask") and expected.get(name) != value
    ]
    if differences:
        raise UserError(
            f"--teacher_name_or_path {teacher} was trained on other features: {', '.join(differences)}. Start from a "
            "checkpoint with the same features, by --model_name_or_path."
        )


def synthetic_segments(model: COLAPreTrainedModel, extractor: COLAFeatureExtractor) -> torch.Tensor:
    """The log-mel frames of 2,048 synthetic sounds, which are always the same."""
    num_samples, rate = extractor.num_samples(model.config.window_size), extractor.sampling_rate
    return SyntheticPairs(1024, num_samples, rate, distance=1.0, device=torch.device("cpu"), seed=0).log_mel(extractor)


def train(
    args: PretrainingArguments,
    data_args: DataArguments,
    model_settings: ModelSettings | None = None,
    training_settings: TrainingSettings | None = None,
    dataset: DatasetDict | IterableDatasetDict | None = None,
) -> Path:
    """
    Pre-trains a model.

    Args:
        args (`PretrainingArguments`):
            The run.
        data_args (`DataArguments`):
            The recordings. Without any, all pairs are synthetic.
        model_settings, training_settings (`ModelSettings` and `TrainingSettings`, *optional*):
            Values that take the place of the recipe's.
        dataset (`DatasetDict` or `IterableDatasetDict`, *optional*):
            The data set, if it is loaded already. `data_args.dataset_name` is then only its name.

    Returns:
        The folder that holds the model.

    Raises:
        `ValueError`, `OSError`: if an argument, the data or the output folder is unsuitable; the message says which.
        `FloatingPointError`: if the loss is not finite.
        `SystemExit`: with 128 plus its number, after a checkpoint, if SIGTERM or SIGINT came; with 1 if another
            process has failed.
    """
    check_launch()
    precision = "bf16" if args.bf16 else None  # None leaves the choice to `accelerate launch`
    accelerator = Accelerator(mixed_precision=precision, log_with=args.report_to, project_dir=args.output_dir)
    with ending_together():
        run(accelerator, args, data_args, model_settings, training_settings, dataset)
    accelerator.end_training()
    return Path(args.output_dir)


def run(
    accelerator: Accelerator,
    args: PretrainingArguments,
    data_args: DataArguments,
    model_settings: ModelSettings | None,
    training_settings: TrainingSettings | None,
    dataset: DatasetDict | IterableDatasetDict | None,
) -> None:
    """One process of a run; the arguments and errors are those of [`train`]."""
    output_dir = Path(args.output_dir)
    if not accelerator.is_main_process:
        logging.getLogger("run_scripts").setLevel(logging.ERROR)  # what the main process says is enough
    set_seed(args.seed)
    model, extractor = build_model(args, model_settings)
    if not accelerator.is_main_process:
        # The weights are alike, but each process has a batch of its own, which it augments in its own way.
        set_seed(args.seed + accelerator.process_index)
    training = override(RECIPES[args.recipe].training, training_settings or TrainingSettings())
    if data_args.dataset_name is None:
        training = replace(training, synthetic_share=1.0)
    settings = settings_in_force(model, training, data_args, args)
    prepare_output_dir(output_dir, model, args.save_total_limit)
    repo_id = None
    if args.push_to_hub and accelerator.is_main_process:
        repo_id = create_hub_repository(args.hub_model_id, output_dir)

    with locked(output_dir, accelerator.is_main_process):
        fixed = fix_arguments(settings, accelerator.num_processes)
        checkpoint = choose_checkpoint(args.resume_from_checkpoint, output_dir)
        state = load_run_state(checkpoint, fixed, accelerator.process_index) if checkpoint else RunState()
        if args.teacher_name_or_path is not None and not checkpoint:  # which has them
            model.fit_targets(synthetic_segments(model, extractor))
        trainer = build_trainer(accelerator, model, extractor, training, args, data_args, dataset, state, fixed)
        start_trackers(accelerator, args.report_to, settings)
        trainer.train(checkpoint)
        if accelerator.is_main_process:
            finish(trainer, settings, repo_id)
        accelerator.wait_for_everyone()


def build_trainer(
    accelerator: Accelerator,
    model: COLAPreTrainedModel,
    extractor: COLAFeatureExtractor,
    training: TrainingSettings,
    args: PretrainingArguments,
    data_args: DataArguments,
    dataset: DatasetDict | IterableDatasetDict | None,
    state: RunState,
    fixed_arguments: dict[str, Any],
) -> PretrainingTrainer:
    """Loads the data and builds the trainer on it; the arguments are those of [`train`] and `PretrainingTrainer`."""
    num_candidates = args.per_device_train_batch_size * accelerator.num_processes
    if num_candidates == 1 and args.objective in ("contrastive", "triplet"):
        raise UserError("--per_device_train_batch_size 1 leaves an anchor without negatives: use at least 2.")
    num_synthetic, num_recorded = split_batch(training, args, data_args)
    data = load_data(data_args, dataset, num_recorded * accelerator.num_processes, args.seed)
    files = [part.files for part in data]
    if state.files not in (None, files):
        raise UserError(
            f"The files of --dataset_name {', '.join(data_args.dataset_name)} are not those that the run began with: "
            "some are new or gone, or have another name or size. A resumed run would train on clips that it has "
            "validated on: begin another one from these weights, by --model_name_or_path and another --output_dir."
        )
    state.files = files
    rate = extractor.sampling_rate
    num_samples = extractor.num_samples(model.config.window_size * model.num_windows)
    max_distance = training.max_distance_samples(rate)
    held_out, synthetic = read_held_out_pairs(data, extractor, num_samples, max_distance), None
    if num_synthetic:
        settings = (num_samples, rate, training.synthetic_distance, accelerator.device, args.seed)
        # In the proportions of a batch. Stream 0 has none of the sounds of the processes' streams.
        num_held_out = len(held_out) * num_synthetic // num_recorded if data else data_args.validation_clips
        held_out = held_out.with_synthetic(SyntheticPairs(num_held_out, *settings, 0).held_out(extractor))
        synthetic = SyntheticPairs(num_synthetic, *settings, 1 + accelerator.process_index, state.synthesizer)
    return PretrainingTrainer(
        accelerator=accelerator,
        model=model,
        extractor=extractor,
        settings=training,
        args=args,
        loader=build_loader(data, num_samples, rate, max_distance, args, accelerator, state, num_recorded),
        held_out=held_out,
        probe=LinearProbe(data_args.probe_data, extractor) if data_args.probe_data else None,
        state=state,
        fixed_arguments=fixed_arguments,
        max_bad_fraction=data_args.max_bad_fraction,
        synthetic=synthetic,
    )


def split_batch(training: TrainingSettings, args: PretrainingArguments, data_args: DataArguments) -> tuple[int, int]:
    """
    How many pairs of a process's batch are synthetic, and how many are of recordings.

    Raises:
        `UserError`: if the share of synthetic pairs leaves none of a kind, or if the objective has no use for them.
    """
    total, share = args.per_device_train_batch_size, training.synthetic_share
    count = round(share * total)
    if share and args.objective == "temporal_gap":
        raise UserError("--objective temporal_gap needs recordings: synthetic sounds have no gap between them.")
    if data_args.dataset_name is not None and (share > 0 and count == 0 or count == total):
        raise UserError(
            f"--synthetic_share {share} makes {count} of {total} pairs synthetic: choose one that leaves pairs of "
            "both kinds, or leave out --dataset_name."
        )
    return count, total - count


def finish(trainer: PretrainingTrainer, settings: dict[str, Any], repo_id: str | None) -> None:
    """Saves what a run leaves behind, and pushes it to the Hub if there is a repository for it."""
    if trainer.args.load_best_model_at_end:
        trainer.load_best()
    save_results(trainer.unwrapped_model, trainer.extractor, trainer.state, settings, trainer.output_dir)
    draw_plots(
        model=trainer.unwrapped_model,
        held_out=trainer.held_out,
        state=trainer.state,
        batch_size=trainer.args.per_device_train_batch_size,
        num_processes=trainer.accelerator.num_processes,
        output_dir=trainer.output_dir,
    )
    logger.info(f"Saved the model, its plots and its card in {trainer.output_dir}.")
    if repo_id:
        push_to_hub(trainer.output_dir, repo_id)
        logger.info(f"Pushed them to {repo_id}.")


def fix_arguments(settings: dict[str, Any], num_processes: int) -> dict[str, Any]:
    """The settings that a resumed run has to share with the one before it."""
    fixed = {name: value for name, value in settings.items() if name not in FREE_ARGUMENTS}
    if settings["lr_scheduler_type"] == "constant" and not settings["warmup_ratio"]:
        del fixed["max_steps"]  # the schedule does not depend on it, so such a run can be made longer
    return fixed | {"num_processes": num_processes}


def start_trackers(accelerator: Accelerator, report_to: str | None, settings: dict[str, Any]) -> None:
    """Starts the tracker, if there is one. It is a [`UserError`] if its package is not installed."""
    accelerator.init_trackers("cola", config={name: str(value) for name, value in settings.items()})
    if report_to and accelerator.is_main_process and not accelerator.trackers:
        raise UserError(f"--report_to {report_to}: the package of this tracker is not installed.")
