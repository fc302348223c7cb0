"""Training a classifier on labelled clips with the Trainer, on a frozen encoder or by fine-tuning."""

import copy
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, default_data_collator, set_seed
from transformers.trainer_utils import HubStrategy, PredictionOutput

from feature_extraction import ClipDecoder, COLADataCollator, COLAFeatureExtractor
from modeling_cola import COLAConfig, COLAForAudioClassification
from run_scripts.classification.arguments import CHECKPOINT_MODES, FROZEN_MODES, DataArguments, ModelArguments
from run_scripts.classification.bad_clips import suggest_skipping
from run_scripts.classification.data import embed_splits, load_clips, prepare_splits
from run_scripts.classification.labels import LabelledClips
from run_scripts.classification.report import METRICS, PLOTS, describe_origin, describe_recipe, plot_metrics
from run_scripts.classification.resuming import choose_checkpoint, settle
from run_scripts.classification.trainer import (
    ClassificationArguments,
    ClassificationTrainer,
    ClipCollator,
    StopOnSignal,
    balanced_weights,
)
from run_scripts.common.checkpoints import checkpoint_size, load_checkpoint, load_config, load_extractor
from run_scripts.common.errors import UserError, as_user_error
from run_scripts.common.files import report_full_disk, write_json
from run_scripts.common.plots import optional_plot
from run_scripts.common.signals import catching_signals
from run_scripts.embedding.cache import CachedEncoder, hash_encoder


logger = logging.getLogger(__name__)

# On fewer validation clips the best epoch is a matter of luck: with 13 clips held out of 128, the last epoch was ten
# points better on the test split than the epoch that they chose.
MIN_CLIPS_TO_CHOOSE = 100

# How many names of classes are logged.
CLASSES_SHOWN = 10


def build_model(
    arguments: ModelArguments, classes: list[str], multi_label: bool = False
) -> tuple[COLAForAudioClassification, COLAFeatureExtractor]:
    """Builds the classifier of a mode from its checkpoint or encoder, and its feature extractor."""
    checkpoint = arguments.model_name_or_path
    labels = {
        "label2id": {name: i for i, name in enumerate(classes)},
        "id2label": dict(enumerate(classes)),
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }
    if arguments.mode in CHECKPOINT_MODES:
        model = load_checkpoint(COLAForAudioClassification, checkpoint, **labels)  # whose classes may be others
    elif checkpoint is not None:
        model = COLAForAudioClassification(load_config(checkpoint, **labels))
    else:
        with as_user_error(f"--encoder {arguments.encoder}"):
            model = COLAForAudioClassification(COLAConfig(encoder=arguments.encoder, **labels))
    if arguments.mode in FROZEN_MODES:
        model.freeze_encoder()
    if arguments.freeze_batch_norm:
        model.freeze_batch_norm()
    extractor = load_extractor(checkpoint) if checkpoint else COLAFeatureExtractor()
    return model, extractor


def decide_best_epoch(args: ClassificationArguments, clips: LabelledClips, name: str) -> None:
    """
    Sets the arguments by which the Trainer chooses an epoch, or turns the choice off if too few clips decide it. It is
    a [`UserError`] if there is no such metric.
    """
    if clips.multi_label and args.metric_for_best_model == "accuracy":
        args.metric_for_best_model = "map"
    metrics = ("map" if clips.multi_label else "accuracy", "macro_f1", "loss")
    if args.metric_for_best_model not in (None, *metrics, *(f"eval_{name}" for name in metrics)):
        raise UserError(
            f"--metric_for_best_model {args.metric_for_best_model} is none of the metrics of this task: "
            f"{', '.join(metrics)}."
        )
    too_few = len(clips.validation) < MIN_CLIPS_TO_CHOOSE and not clips.has_validation_split
    if args.early_stopping_patience is not None and too_few:
        raise UserError(
            f"--early_stopping_patience needs validation clips: there is no split 'validation', and the "
            f"{len(clips.validation)} clips held out of 'train' are too few. Add the split, or leave the option out."
        )
    if args.load_best_model_at_end and too_few:
        logger.warning(
            f"{name}: there is no split 'validation', and the {len(clips.validation)} clips held out of 'train' are "
            "too few for choosing the best epoch, so the weights of the last epoch are kept."
        )
        args.load_best_model_at_end, args.metric_for_best_model = False, None


def train_classifier(
    model_args: ModelArguments, data_args: DataArguments, args: ClassificationArguments, verbose: bool = True
) -> dict[str, Any]:
    """
    Trains a classifier and tests it.

    The model, its feature extractor, a model card and `results.json` are written to `args.output_dir`, and plots if
    they can be drawn. If testing fails, all of it is there except for the metrics and the plots.

    Args:
        model_args ([`ModelArguments`]):
            The mode, and the checkpoint to start from.
        data_args ([`DataArguments`]):
            The labelled clips.
        args ([`ClassificationArguments`]):
            The Trainer's arguments.
        verbose (`bool`, *optional*, defaults to `True`):
            Whether the Trainer prints what it logs.

    Returns:
        `dict[str, Any]`: The metrics on the test split (`accuracy` or, for several labels, `map`, and `macro_f1`, as
        fractions), the mode, the size of the data, the seed, and the seconds that embedding and training took.

    Raises:
        `ValueError`, `OSError`: If an argument or the data cannot be used, or if the disk is full; the message says
            which and what to do.
    """
    args = copy.copy(args)  # Some are adapted to the data below; the caller's stay as they are.
    checkpoint = choose_checkpoint(args)
    set_seed(args.seed)
    clips = load_clips(data_args, args)
    if verbose:
        logger.info(describe_clips(data_args.name, clips))
    model, extractor = build_model(model_args, clips.classes, clips.multi_label)
    frozen_encoder = hash_encoder(model.cola, extractor)[:16] if model.encoder_frozen else None
    settle(checkpoint, model_args, data_args, args, describe_results(model_args, data_args, clips), frozen_encoder)
    decide_best_epoch(args, clips, data_args.name)

    started = time.perf_counter()
    with suggest_skipping(), report_full_disk(args.output_dir, checkpoint_size(model)):
        trainer, test = build_trainer(model, extractor, clips, args, model_args.embedding_cache)
        if not verbose:
            trainer.remove_callback(PrinterCallback)
        trainer.results = describe_results(model_args, data_args, clips)
        trainer.recipe = describe_recipe(model_args, args, model.config)
        trainer.origin = describe_origin(model_args, data_args, args)
        train_and_save(trainer, checkpoint)
        try:
            prediction = trainer.predict(test)
        except Exception:
            logger.warning(f"The classifier is trained and saved in {args.output_dir}, but it could not be tested.")
            write_results(trainer, None, clips.classes)
            raise
        metrics = {
            name: prediction.metrics[f"test_{name}"] for name in METRICS if f"test_{name}" in prediction.metrics
        }
        trainer.results |= metrics | {"seed": args.seed, "seconds": round(time.perf_counter() - started, 1)}
        write_results(trainer, prediction, clips.classes)
    return trainer.results


def build_trainer(
    model: COLAForAudioClassification,
    extractor: COLAFeatureExtractor,
    clips: LabelledClips,
    args: ClassificationArguments,
    cache_dir: str,
) -> tuple[ClassificationTrainer, torch.utils.data.Dataset]:
    """
    Builds the trainer of a classifier and prepares the test clips.

    The clips of a frozen encoder are embedded first, unless `cache_dir` is `"off"`; the encoder is then replaced
    during training by one that passes vectors through.
    """
    encoder = model.cola
    if model.encoder_frozen and cache_dir != "off":
        train, validation, test = embed_splits(encoder, extractor, clips, args, cache_dir)
        model.cola = CachedEncoder()
        collator = default_data_collator
        args.hub_strategy = HubStrategy.END  # Checkpoints have no encoder, so only the final model is pushed.
        # There are no activations of an encoder to save. The second name is that of older versions of Transformers.
        args.activation_checkpointing = args.gradient_checkpointing = False
    else:
        train, validation, test = prepare_splits(extractor, clips, model.config.window_size)
        decoder = ClipDecoder(extractor, clips.audio_column, clips.label_column)
        collator = ClipCollator(decoder, COLADataCollator(extractor))
    weights = None
    if args.class_weights == "balanced":
        weights = balanced_weights(np.array(clips.train[clips.label_column]), len(clips.classes))
    patience = args.early_stopping_patience
    trainer = ClassificationTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        class_weights=weights,
        encoder=encoder,
        callbacks=[EarlyStoppingCallback(patience)] if patience else None,
        processing_class=extractor,
    )
    return trainer, test


def train_and_save(trainer: ClassificationTrainer, checkpoint: Path | None) -> None:
    """Trains the classifier, from a checkpoint if there is one, and saves it together with its encoder."""
    if trainer.args.save_only_model:  # Its checkpoints cannot be resumed, so that a signal ends it at once.
        trainer.train()
    else:
        with catching_signals() as stop_signal:
            trainer.add_callback(StopOnSignal(stop_signal, trainer))
            trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    model, trained_on = trainer.model, trainer.model.cola  # The encoder, or what stands in for it.
    # The model is saved before test clips are decoded, so that a damaged one does not cost the trained weights. As an
    # internal call this pushes nothing yet: the model card is still missing.
    model.cola = trainer.encoder
    trainer.save_model(_internal_call=True)
    model.cola = trained_on


def describe_clips(name: str, clips: LabelledClips) -> str:
    """Describes in one line how many clips of which classes were found."""
    classes = ", ".join([*clips.classes[:CLASSES_SHOWN], *["..."] * (len(clips.classes) > CLASSES_SHOWN)])
    return (
        f"{name}: {len(clips.train)} training, {len(clips.validation)} validation and {len(clips.test)} test clips of "
        f"{len(clips.classes)} classes ({classes})."
    )


def describe_results(model_args: ModelArguments, data_args: DataArguments, clips: LabelledClips) -> dict[str, Any]:
    """Describes what is trained: the mode and the data."""
    return {
        "mode": model_args.mode,
        "data": data_args.name,
        "num_classes": len(clips.classes),
        "num_train": len(clips.train),
        "num_validation": len(clips.validation),
        "num_test": len(clips.test),
    }


def write_results(trainer: ClassificationTrainer, prediction: PredictionOutput | None, classes: list[str]) -> None:
    """
    Writes `results.json`, the plots and the model card beside the saved model, and pushes all of it if asked to.

    Plots that cannot be drawn are a warning. Without predictions there are no plots, and nothing is pushed.
    """
    trainer.model.cola = trainer.encoder
    output_dir = Path(trainer.args.output_dir)
    if trainer.is_world_process_zero():
        write_json(output_dir / "results.json", trainer.results)
        for plot in PLOTS:  # those of an earlier run
            (output_dir / plot).unlink(missing_ok=True)
        if prediction is not None:
            with optional_plot(f"A plot in {output_dir}"):
                plot_metrics(prediction.predictions, prediction.label_ids, classes, output_dir)
    trainer.create_model_card()
    if trainer.args.push_to_hub and prediction is not None:
        trainer.push_to_hub()
