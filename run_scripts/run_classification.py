"""
Trains a classifier on labelled clips with the Trainer: linear evaluation of a checkpoint, or fine-tuning.

    python run_scripts/run_classification.py --model_name_or_path cola-mine --mode fine-tuned \
        --dataset_name path/to/clips --output_dir my-classifier
    python run_scripts/run_classification.py --model_name_or_path cola-mine --mode frozen \
        --task nsynth --data_dir path/to/nsynth --output_dir nsynth-frozen

`--dataset_name` is a folder of audio files in a sub-folder for each class, a folder of Parquet, or a data set on the
Hub; `--task` is one of the paper's nine, in the layout of its publishers. The defaults are the paper's protocol
(section 3, "downstream"): random 0.96 s segments in training, the mean of the windows' logits in testing, Adam 1e-3,
batches of 64, 100 epochs. All other arguments are the Trainer's. The split `validation` chooses the best epoch, or if
there is none a tenth of the training clips, unless they are too few to tell epochs apart; then the last is kept. The
split `test`, or a fifth of the training clips, gives the figures at the end.

A clip may have one label or several: then the labels are a list of classes, or a vector of 0 and 1.

A frozen encoder gives the same vectors in every epoch, so they are embedded once and kept on disk.
"""

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.constants import HF_HOME
from sklearn.metrics import confusion_matrix
from transformers import (
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.trainer_utils import HubStrategy

from feature_extraction import (
    ClipDecoder,
    COLADataCollator,
    COLAFeatureExtractor,
    find_audio_column,
    load_audio_dataset,
    undecoded,
)
from modeling_cola import COLAConfig, COLAForAudioClassification
from run_scripts.common.cpu import tune_cpu
from run_scripts.common.plots import plot_class_bars, plot_confusion_matrix
from run_scripts.evaluation.embedding_cache import CachedEncoder, embed_cached
from run_scripts.evaluation.labels import SPLITS, encode_labels, split_dataset
from run_scripts.evaluation.metrics import ClassificationMetrics, MultiLabelMetrics, average_precisions, class_f1
from run_scripts.paper_tasks import TASKS


logger = logging.getLogger(__name__)

MODES = {
    "frozen": "linear evaluation: the checkpoint's encoder as it is",
    "fine-tuned": "the checkpoint's encoder trained along",
    "random": "linear evaluation of random weights",
    "supervised": "random weights trained along",
}
# The figures' names, in tables and as the Hub calls them.
FIGURES = {"accuracy": ("accuracy", "accuracy"), "map": ("mAP", "mAP"), "macro_f1": ("macro F1", "f1")}
# By fewer clips the best epoch is one that had luck: on 128 clips of which 13 were held out, the last epoch was ten
# points better on the test split.
MIN_CLIPS_TO_CHOOSE = 100
# With more classes the picture of the confusion matrix is too large to look at.
MAX_CONFUSION_CLASSES = 100


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A checkpoint: its weights, or in the modes without them its architecture."}
    )
    encoder: str = field(default="efficientnet_b0", metadata={"help": "The encoder of a model without a checkpoint."})
    mode: str = field(
        default="fine-tuned", metadata={"help": "; ".join(f"{mode}: {text}" for mode, text in MODES.items())}
    )
    embedding_cache: str = field(
        default=str(Path(HF_HOME) / "cola"),
        metadata={"help": "A folder that keeps the vectors of frozen encoders, or 'off': embed in each epoch."},
    )

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"--mode must be one of {', '.join(MODES)}, got {self.mode!r}.")
        if self.mode in ("frozen", "fine-tuned") and self.model_name_or_path is None:
            raise ValueError(f"--mode {self.mode} needs a checkpoint: pass --model_name_or_path.")


@dataclass
class DataArguments:
    dataset_name: str | None = field(
        default=None, metadata={"help": "A folder of audio or Parquet, or a data set on the Hub, with labels."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub data set."})
    task: str | None = field(default=None, metadata={"help": f"One of the paper's tasks: {', '.join(TASKS)}."})
    data_dir: str | None = field(default=None, metadata={"help": "The folder that holds the task's data."})
    audio_column: str | None = field(default=None, metadata={"help": "Defaults to the only column of type Audio."})
    label_column: str = field(default="label", metadata={"help": "The column of class labels."})

    def __post_init__(self) -> None:
        if (self.dataset_name is None) == (self.task is None):
            raise ValueError("Say what to train on: pass either --dataset_name, or --task with --data_dir.")
        if self.task is not None and self.task not in TASKS:
            raise ValueError(f"--task must be one of {', '.join(TASKS)}, got {self.task!r}.")
        if (self.task is None) != (self.data_dir is None):
            raise ValueError("--task and --data_dir go together: the data of the task lies in that folder.")

    def load(self) -> DatasetDict:
        if self.task is not None:
            return TASKS[self.task].load(self.data_dir)
        return load_audio_dataset(self.dataset_name, self.dataset_config_name)


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
    metric_for_best_model: str = field(
        default="accuracy", metadata={"help": "What best means: accuracy, macro_f1, loss, or map of several labels."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep it off: clips are decoded lazily."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Faster copies to a GPU."}
    )
    report_to: str = field(default="none", metadata={"help": "Trackers to report to."})


def build_model(
    arguments: ModelArguments, names: list[str], multi_label: bool = False
) -> tuple[COLAForAudioClassification, COLAFeatureExtractor]:
    """The model that the mode asks for, and its feature extractor."""
    checkpoint = arguments.model_name_or_path
    labels = {
        "label2id": {name: i for i, name in enumerate(names)},
        "id2label": dict(enumerate(names)),
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }
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
    logits, labels = prediction.predictions, prediction.label_ids
    if labels.ndim == 2:
        return MultiLabelMetrics(keep_in_memory=True).compute(predictions=logits, references=labels.astype(int))
    return ClassificationMetrics(keep_in_memory=True).compute(predictions=logits.argmax(-1), references=labels)


def draw_figures(logits: np.ndarray, labels: np.ndarray, names: list[str], output_dir: Path) -> None:
    """The bars of all classes, and of single labels the confusion matrix."""
    bars = output_dir / "per_class.png"
    if labels.ndim == 2:
        plot_class_bars(average_precisions(logits, labels), names, bars, "average precision")
        return
    predicted = logits.argmax(-1)
    f1 = class_f1(predicted, labels, len(names))
    f1[~np.isin(range(len(names)), labels)] = np.nan  # classes without test clips
    plot_class_bars(f1, names, bars, "F1")
    if len(names) <= MAX_CONFUSION_CLASSES:
        matrix = confusion_matrix(labels, predicted, labels=range(len(names)))
        plot_confusion_matrix(matrix, names, output_dir / "confusion_matrix.png")


class ClassificationTrainer(Trainer):
    """The Trainer, whose `push_to_hub` writes our model card in place of its own."""

    results: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None

    def create_model_card(self, **kwargs: Any) -> None:
        if self.is_world_process_zero() and self.results is not None:
            card = format_model_card(Path(self.args.output_dir).name, self.results, self.recipe)
            (Path(self.args.output_dir) / "README.md").write_text(card, encoding="utf-8")


def format_model_card(name: str, results: dict[str, Any], recipe: dict[str, Any]) -> str:
    figures = {key: value for key, value in results.items() if key in FIGURES}
    data = results["data"]
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["audio", "cola"],
        metrics=[FIGURES[key][1] for key in figures],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="audio-classification",
                dataset_type=data,
                dataset_name=data,
                dataset_split="test",
                metric_type=FIGURES[key][1],
                metric_name=FIGURES[key][0],
                metric_value=round(value, 4),
            )
            for key, value in figures.items()
        ],
    )
    counts = "\n".join(f"| {split} | {results[f'num_{split}']} |" for split in ("train", "validation", "test"))
    measured = "\n".join(f"| {FIGURES[key][0]} | {100 * value:.1f} |" for key, value in figures.items())
    settings = "\n".join(f"| {key} | {value} |" for key, value in recipe.items())
    several = "map" in results
    pictures = "per_class.png has" if several else "per_class.png and confusion_matrix.png have"
    return f"""---
{header}
---

# {name}

An audio classifier on COLA ([arXiv 2010.10915](https://arxiv.org/abs/2010.10915)), mode `{results["mode"]}`:
{MODES[results["mode"]]}.

```python
from transformers import pipeline

classify = pipeline("audio-classification", model="{name}", trust_remote_code=True)
classify(waveform)  # mono, 16 kHz
```

## Data

{data}, {results["num_classes"]} classes{", of which a clip may have several" if several else ""}.

| split | clips |
| --- | ---: |
{counts}

## Figures

On the test split, in %, with the weights of {recipe["weights of"]}; {pictures} them by class.

| measure | value |
| --- | ---: |
{measured}

## Recipe

| setting | value |
| --- | --- |
{settings}
"""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """
    Runs the job and returns the figures on the test split.

    Raises:
        `ValueError`, `OSError`: if an argument or the data will not do; the message says which.
    """
    parser = HfArgumentParser((ModelArguments, DataArguments, ClassificationArguments))
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    tune_cpu()
    set_seed(args.seed)
    output_dir = Path(args.output_dir)

    dataset, names, multi_label = encode_labels(data_args.load(), data_args.label_column)
    train, validation, test = split_dataset(dataset, data_args.label_column, args.seed)
    column = find_audio_column(train, data_args.audio_column)
    model, extractor = build_model(model_args, names, multi_label)
    if multi_label and args.metric_for_best_model == "accuracy":
        args.metric_for_best_model = "map"
    is_given = any(name in dataset for name in SPLITS["validation"][0])
    if args.load_best_model_at_end and not is_given and len(validation) < MIN_CLIPS_TO_CHOOSE:
        logger.warning(
            f"There is no split 'validation', and the {len(validation)} clips held out of 'train' are too few to "
            "choose an epoch by: the weights of the last one are kept."
        )
        args.load_best_model_at_end, args.metric_for_best_model = False, None
    chosen = f"the epoch of the best validation {args.metric_for_best_model}"

    # Either clips, decoded when they are asked for, or the vectors of all of them.
    encoder = model.cola
    is_cached = model.encoder_frozen and model_args.embedding_cache != "off"
    started = time.perf_counter()
    if is_cached:
        settings = {"label_column": data_args.label_column, "cache_dir": model_args.embedding_cache}
        settings |= {"num_workers": args.dataloader_num_workers}
        encoder.to(args.device)
        with args.main_process_first(local=False, desc="embedding"):
            train_data = embed_cached(encoder, extractor, train, column, random_windows=True, **settings)
            validation_data, test_data = (
                embed_cached(encoder, extractor, split, column, **settings) for split in (validation, test)
            )
        model.cola = CachedEncoder()
        args.hub_strategy = HubStrategy.END  # checkpoints have no encoder until the end
    else:

        def decoded(split: Dataset, num_frames: int | None = None) -> Dataset:
            split = undecoded(split.select_columns([column, data_args.label_column]), column)
            return split.with_transform(ClipDecoder(extractor, column, data_args.label_column, num_frames))

        train_data = decoded(train, model.config.window_size)
        validation_data, test_data = decoded(validation), decoded(test)

    trainer = ClassificationTrainer(
        model=model,
        args=args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=default_data_collator if is_cached else COLADataCollator(extractor),
        compute_metrics=compute_metrics,
        processing_class=extractor,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    prediction = trainer.predict(test_data)
    model.cola = encoder

    trainer.results = {
        "mode": model_args.mode,
        "data": data_args.task or Path(data_args.dataset_name).name,
        "num_classes": len(names),
        "num_train": len(train),
        "num_validation": len(validation),
        "num_test": len(test),
        **{key: prediction.metrics[f"test_{key}"] for key in FIGURES if f"test_{key}" in prediction.metrics},
        "seed": args.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    trainer.recipe = {
        "checkpoint": Path(model_args.model_name_or_path).name if model_args.model_name_or_path else "none",
        "encoder": model.config.encoder,
        "mode": model_args.mode,
        "epochs": f"{args.num_train_epochs:g}",
        "weights of": chosen if args.load_best_model_at_end else "the last epoch",
        "batch size": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "optimiser": f"{args.optim.value}, weight decay {args.weight_decay:g}",
        "learning rate": f"{args.learning_rate:g}, {args.lr_scheduler_type.value}",
        "training segments": f"random, {model.config.window_size} frames",
        "seed": args.seed,
    }
    if trainer.is_world_process_zero():
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "results.json").write_text(json.dumps(trainer.results, indent=2))
        draw_figures(prediction.predictions, prediction.label_ids, names, output_dir)
        print(json.dumps(trainer.results, indent=2))
    trainer.create_model_card()
    trainer.save_model()
    if args.push_to_hub:
        trainer.push_to_hub()
    return trainer.results


if __name__ == "__main__":
    main()
