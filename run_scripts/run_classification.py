"""
Trains a classifier on labelled clips with the Trainer: linear evaluation of a checkpoint, or fine-tuning.

    python run_scripts/run_classification.py --model_name_or_path cola-mine --mode fine-tuned \
        --dataset_name path/to/clips --output_dir my-classifier

`--dataset_name` is a folder of audio files in a sub-folder for each class, a folder of Parquet, or a data set on the
Hub. The defaults are the paper's protocol (section 3, "downstream"): random 0.96 s segments in training, the mean of
the windows' logits in testing, Adam 1e-3, batches of 64, 100 epochs. All other arguments are the Trainer's. Without a
split `validation` a tenth of the training clips is held out to choose the best epoch; without a split `test` a fifth
is, to measure on.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu import tune_cpu
from datasets import ClassLabel, Dataset, DatasetDict
from metrics import ClassificationMetrics
from plots import plot_confusion_matrix
from sklearn.metrics import confusion_matrix
from transformers import EvalPrediction, HfArgumentParser, Trainer, TrainingArguments, set_seed

from feature_extraction import (
    ClipDecoder,
    COLADataCollator,
    COLAFeatureExtractor,
    find_audio_column,
    load_audio_dataset,
    undecoded,
)
from modeling_cola import COLAConfig, COLAForAudioClassification


MODES = {
    "frozen": "linear evaluation: the checkpoint's encoder as it is",
    "fine-tuned": "the checkpoint's encoder trained along",
    "random": "linear evaluation of random weights",
    "supervised": "random weights trained along",
}


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A checkpoint: its weights, or in the modes without them its architecture."}
    )
    encoder: str = field(default="efficientnet_b0", metadata={"help": "The encoder of a model without a checkpoint."})
    mode: str = field(
        default="fine-tuned", metadata={"help": "; ".join(f"{mode}: {text}" for mode, text in MODES.items())}
    )

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"--mode must be one of {', '.join(MODES)}, got {self.mode!r}.")
        if self.mode in ("frozen", "fine-tuned") and self.model_name_or_path is None:
            raise ValueError(f"--mode {self.mode} needs a checkpoint: pass --model_name_or_path.")


@dataclass
class DataArguments:
    dataset_name: str = field(
        metadata={"help": "A folder of audio or Parquet, or a data set on the Hub, with labels."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub data set."})
    audio_column: str | None = field(default=None, metadata={"help": "Defaults to the only column of type Audio."})
    label_column: str = field(default="label", metadata={"help": "The column of class labels."})


@dataclass
class ClassificationArguments(TrainingArguments):
    """The Trainer's arguments, with the paper's values as defaults."""

    learning_rate: float = field(default=1e-3, metadata={"help": "The initial learning rate of Adam."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "The schedule."})
    num_train_epochs: float = field(default=100, metadata={"help": "Epochs of training."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Clips a step and process."})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Whole clips a step and process."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to validate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int = field(default=1, metadata={"help": "Checkpoints kept, the best among them."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best epoch's weights."})
    metric_for_best_model: str = field(default="accuracy", metadata={"help": "What best means."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep it off: clips are decoded lazily."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Faster copies to a GPU."}
    )
    report_to: str = field(default="none", metadata={"help": "Trackers to report to."})


def split_dataset(dataset: DatasetDict, label_column: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """
    Training, validation and test clips; what is missing is held out of the training clips, class by class.

    Raises:
        `ValueError`: if there is no split `train`, or its labels are not classes.
    """
    if "train" not in dataset:
        raise ValueError(f"The data set needs a split 'train'; there are {', '.join(dataset)}.")
    features = dataset["train"].features
    if label_column not in features:
        raise ValueError(f"The data set has no column {label_column!r}; its columns are {', '.join(features)}.")
    if not isinstance(features[label_column], ClassLabel):
        dataset = dataset.class_encode_column(label_column)
    splits = dict(dataset)
    for name, names, share in (("test", ("test", "eval"), 0.2), ("validation", ("validation", "valid", "val"), 0.1)):
        found = [splits[candidate] for candidate in names if candidate in splits]
        if found:
            splits[name] = found[0]
            continue
        try:
            halves = splits["train"].train_test_split(share, seed=seed, stratify_by_column=label_column)
        except ValueError as error:
            raise ValueError(f"There is no split '{name}', and none could be held out of 'train': {error}") from error
        splits["train"], splits[name] = halves["train"], halves["test"]
    return splits["train"], splits["validation"], splits["test"]


def build_model(
    arguments: ModelArguments, names: list[str]
) -> tuple[COLAForAudioClassification, COLAFeatureExtractor]:
    """The model that the mode asks for, and its feature extractor."""
    checkpoint = arguments.model_name_or_path
    labels = {"label2id": {name: i for i, name in enumerate(names)}, "id2label": dict(enumerate(names))}
    if arguments.mode in ("frozen", "fine-tuned"):
        # A checkpoint may have a classifier for other classes.
        model = COLAForAudioClassification.from_pretrained(checkpoint, ignore_mismatched_sizes=True, **labels)
    elif checkpoint is not None:
        model = COLAForAudioClassification(COLAConfig.from_pretrained(checkpoint, **labels))
    else:
        model = COLAForAudioClassification(COLAConfig(encoder=arguments.encoder, **labels))
    if arguments.mode in ("frozen", "random"):
        model.freeze_encoder()
    extractor = COLAFeatureExtractor.from_pretrained(checkpoint) if checkpoint else COLAFeatureExtractor()
    return model, extractor


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits = prediction.predictions
    return ClassificationMetrics().compute(predictions=logits.argmax(-1), references=prediction.label_ids)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the job and returns the test metrics."""
    parser = HfArgumentParser((ModelArguments, DataArguments, ClassificationArguments))
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    tune_cpu()
    set_seed(args.seed)
    output_dir = Path(args.output_dir)

    dataset = load_audio_dataset(data_args.dataset_name, data_args.dataset_config_name)
    train, validation, test = split_dataset(dataset, data_args.label_column, args.seed)
    column = find_audio_column(train, data_args.audio_column)
    names = train.features[data_args.label_column].names
    model, extractor = build_model(model_args, names)

    def decoded(split: Dataset, num_frames: int | None = None) -> Dataset:
        split = undecoded(split.select_columns([column, data_args.label_column]), column)
        return split.with_transform(ClipDecoder(extractor, column, data_args.label_column, num_frames))

    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=decoded(train, model.config.window_size),
        eval_dataset=decoded(validation),
        data_collator=COLADataCollator(extractor),
        compute_metrics=compute_metrics,
        processing_class=extractor,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    prediction = trainer.predict(decoded(test))
    results = {
        "mode": model_args.mode,
        "num_train": len(train),
        "num_test": len(test),
        "accuracy": prediction.metrics["test_accuracy"],
        "macro_f1": prediction.metrics["test_macro_f1"],
    }
    if trainer.is_world_process_zero():
        (output_dir / "results.json").write_text(json.dumps(results, indent=2))
        predicted = np.argmax(prediction.predictions, axis=-1)
        matrix = confusion_matrix(prediction.label_ids, predicted, labels=range(len(names)))
        plot_confusion_matrix(matrix, names, output_dir / "confusion_matrix.png")
        print(json.dumps(results, indent=2))
    if args.push_to_hub:
        trainer.push_to_hub()
    return results


if __name__ == "__main__":
    main()
