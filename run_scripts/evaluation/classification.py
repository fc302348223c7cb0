"""Training a classifier on labelled clips with the Trainer, on a frozen encoder or by fine-tuning."""

import copy
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, default_data_collator, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, PredictionOutput

from feature_extraction import ClipDecoder, COLADataCollator, COLAFeatureExtractor, undecoded
from modeling_cola import COLAConfig, COLAForAudioClassification, COLAModel
from run_scripts.evaluation.classification_arguments import (
    CHECKPOINT_MODES,
    FROZEN_MODES,
    ClassificationArguments,
    DataArguments,
    ModelArguments,
)
from run_scripts.evaluation.classification_report import METRICS, describe_recipe, plot_metrics
from run_scripts.evaluation.classification_trainer import ClassificationTrainer, WholeClipCollator
from run_scripts.evaluation.embedding_cache import CachedEncoder, embed_cached
from run_scripts.evaluation.labels import LabelledClips, prepare_clips


logger = logging.getLogger(__name__)

# On fewer validation clips the best epoch is a matter of luck: with 13 clips held out of 128, the last epoch was ten
# points better on the test split than the epoch that they chose.
MIN_CLIPS_TO_CHOOSE = 100


def build_model(
    arguments: ModelArguments, classes: list[str], multi_label: bool = False
) -> tuple[COLAForAudioClassification, COLAFeatureExtractor]:
    """
    Builds the classifier of the given mode, and its feature extractor.

    Args:
        arguments ([`ModelArguments`]):
            The mode, and the checkpoint or the encoder.
        classes (`list[str]`):
            The names of the classes.
        multi_label (`bool`, *optional*, defaults to `False`):
            Whether a clip may have several labels.
    """
    checkpoint = arguments.model_name_or_path
    labels = {
        "label2id": {name: i for i, name in enumerate(classes)},
        "id2label": dict(enumerate(classes)),
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }
    if arguments.mode in CHECKPOINT_MODES:
        # The checkpoint may be a classifier of other classes.
        model = COLAForAudioClassification.from_pretrained(checkpoint, ignore_mismatched_sizes=True, **labels)
    elif checkpoint is not None:
        model = COLAForAudioClassification(COLAConfig.from_pretrained(checkpoint, **labels))
    else:
        model = COLAForAudioClassification(COLAConfig(encoder=arguments.encoder, **labels))
    if arguments.mode in FROZEN_MODES:
        model.freeze_encoder()
    extractor = COLAFeatureExtractor.from_pretrained(checkpoint) if checkpoint else COLAFeatureExtractor()
    return model, extractor


def find_checkpoint(resume_from_checkpoint: str | None, output_dir: str) -> str | None:
    """
    Finds the checkpoint from which training resumes, or `None` if it starts from the beginning.

    Args:
        resume_from_checkpoint (`str`, *optional*):
            A checkpoint's folder, or `"latest"` for the newest one in the output folder, if there is any.
        output_dir (`str`):
            The output folder.

    Raises:
        `FileNotFoundError`: If the folder is not a checkpoint of the Trainer.
    """
    if resume_from_checkpoint is None:
        return None
    if resume_from_checkpoint == "latest":
        # The Trainer writes its state last: a folder without it is what an interrupted run had not finished writing.
        states = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")
        steps = [step for state in states if (step := state.parent.name.rpartition("-")[2]).isdigit()]
        return str(Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{max(steps, key=int)}") if steps else None
    if not (Path(resume_from_checkpoint) / TRAINER_STATE_NAME).is_file():
        raise FileNotFoundError(
            f"--resume_from_checkpoint {resume_from_checkpoint}: there is no checkpoint, {TRAINER_STATE_NAME} is "
            f"missing. Name a folder such as {Path(output_dir) / PREFIX_CHECKPOINT_DIR}-100, or give no value to "
            "resume from the newest checkpoint."
        )
    return resume_from_checkpoint


def decide_best_epoch(args: ClassificationArguments, clips: LabelledClips) -> None:
    """Sets the arguments by which the Trainer chooses an epoch, or turns the choice off if too few clips decide it."""
    if clips.multi_label and args.metric_for_best_model == "accuracy":
        args.metric_for_best_model = "map"
    too_few = len(clips.validation) < MIN_CLIPS_TO_CHOOSE and not clips.has_validation_split
    if args.load_best_model_at_end and too_few:
        logger.warning(
            f"There is no split 'validation', and the {len(clips.validation)} clips held out of 'train' are too few "
            "to choose the best epoch by: the weights of the last epoch are kept."
        )
        args.load_best_model_at_end, args.metric_for_best_model = False, None


def embed_splits(
    encoder: COLAModel,
    extractor: COLAFeatureExtractor,
    clips: LabelledClips,
    args: ClassificationArguments,
    cache_dir: str,
) -> tuple[torch.utils.data.Dataset, ...]:
    """Embeds the training, validation and test clips by a frozen encoder, or reads their vectors from the cache."""
    encoder.to(args.device)
    splits = []
    with args.main_process_first(local=False, desc="embedding"):
        for split in (clips.train, clips.validation, clips.test):
            embeddings = embed_cached(
                model=encoder,
                extractor=extractor,
                dataset=split,
                audio_column=clips.audio_column,
                label_column=clips.label_column,
                cache_dir=cache_dir,
                random_windows=split is clips.train,
                num_workers=args.dataloader_num_workers,
            )
            splits.append(embeddings)
    return tuple(splits)


def decode_splits(extractor: COLAFeatureExtractor, clips: LabelledClips, window_size: int) -> tuple[Dataset, ...]:
    """
    Prepares the training, validation and test clips to be decoded when they are accessed.

    Training clips are random segments of `window_size` frames, validation and test clips are whole.
    """
    splits = []
    for split, num_frames in ((clips.train, window_size), (clips.validation, None), (clips.test, None)):
        rows = undecoded(split.select_columns([clips.audio_column, clips.label_column]), clips.audio_column)
        decoder = ClipDecoder(extractor, clips.audio_column, clips.label_column, num_frames)
        splits.append(rows.with_transform(decoder))
    return tuple(splits)


def train_classifier(
    model_args: ModelArguments, data_args: DataArguments, args: ClassificationArguments
) -> dict[str, Any]:
    """
    Trains a classifier and tests it.

    The model, its feature extractor, a model card, plots and `results.json` are written to `args.output_dir`.

    Args:
        model_args ([`ModelArguments`]):
            The mode, and the checkpoint to start from.
        data_args ([`DataArguments`]):
            The labelled clips.
        args ([`ClassificationArguments`]):
            The Trainer's arguments.

    Returns:
        `dict[str, Any]`: The metrics on the test split (`accuracy` or, for several labels, `map`, and `macro_f1`, as
        fractions), the mode, the size of the data, the seed, and the seconds that embedding and training took.

    Raises:
        `ValueError`, `OSError`: If an argument or the data cannot be used; the message says which and what to do.
    """
    args = copy.copy(args)  # Some are adapted to the data below; the caller's stay as they are.
    checkpoint = find_checkpoint(args.resume_from_checkpoint, args.output_dir)
    set_seed(args.seed)
    clips = prepare_clips(data_args.load(), data_args.label_column, args.seed, data_args.audio_column)
    model, extractor = build_model(model_args, clips.classes, clips.multi_label)
    decide_best_epoch(args, clips)

    started = time.perf_counter()
    encoder = model.cola
    if model.encoder_frozen and model_args.embedding_cache != "off":
        train, validation, test = embed_splits(encoder, extractor, clips, args, model_args.embedding_cache)
        model.cola = CachedEncoder()
        collator = evaluation_collator = default_data_collator
        args.hub_strategy = HubStrategy.END  # Checkpoints have no encoder, so only the final model is pushed.
    else:
        train, validation, test = decode_splits(extractor, clips, model.config.window_size)
        collator = COLADataCollator(extractor)
        evaluation_collator = WholeClipCollator(collator)
    trainer = ClassificationTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        evaluation_collator=evaluation_collator,
        processing_class=extractor,
    )
    prediction = train_and_predict(trainer, encoder, test, checkpoint)
    trainer.results = describe_results(model_args, data_args, clips, prediction.metrics)
    trainer.results |= {"seed": args.seed, "seconds": round(time.perf_counter() - started, 1)}
    trainer.recipe = describe_recipe(model_args, args, model.config)
    write_results(trainer, prediction, clips.classes)
    return trainer.results


def train_and_predict(
    trainer: Trainer, encoder: COLAModel, test: torch.utils.data.Dataset, checkpoint: str | None
) -> PredictionOutput:
    """Trains the classifier, from a checkpoint if there is one, saves it together with its encoder, and tests it."""
    trainer.train(resume_from_checkpoint=checkpoint)
    model, trained_on = trainer.model, trainer.model.cola  # The encoder, or what stands in for it.
    # The model is saved before test clips are decoded, so that a damaged one does not cost the trained weights. As an
    # internal call this pushes nothing yet: the model card is still missing.
    model.cola = encoder
    trainer.save_model(_internal_call=True)
    model.cola = trained_on
    prediction = trainer.predict(test)
    model.cola = encoder
    return prediction


def describe_results(
    model_args: ModelArguments, data_args: DataArguments, clips: LabelledClips, test_metrics: dict[str, float]
) -> dict[str, Any]:
    """Collects the metrics on the test split, and the mode and the data that they belong to."""
    return {
        "mode": model_args.mode,
        "data": data_args.name,
        "num_classes": len(clips.classes),
        "num_train": len(clips.train),
        "num_validation": len(clips.validation),
        "num_test": len(clips.test),
        **{name: test_metrics[f"test_{name}"] for name in METRICS if f"test_{name}" in test_metrics},
    }


def write_results(trainer: ClassificationTrainer, prediction: PredictionOutput, classes: list[str]) -> None:
    """Writes `results.json`, the plots and the model card beside the saved model, and pushes all of it if asked to."""
    if trainer.is_world_process_zero():
        output_dir = Path(trainer.args.output_dir)
        (output_dir / "results.json").write_text(json.dumps(trainer.results, indent=2))
        plot_metrics(prediction.predictions, prediction.label_ids, classes, output_dir)
    trainer.create_model_card()
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
