"""
Pre-trains COLA on any audio, without labels.

    accelerate launch run_scripts/run_pretraining.py --dataset_name path/to/audio --output_dir cola-mine

`--dataset_name` is a folder of audio files, a folder or glob of Parquet, or a data set on the Hub. The
defaults are the paper's recipe. A run that was stopped goes on with the same command and `--resume`.
"""

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import set_seed
from datasets import DatasetDict, IterableDataset
from timm.layers import convert_sync_batchnorm
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import HfArgumentParser, get_scheduler

from feature_extraction import (
    AudioDecodingError,
    COLAFeatureExtractor,
    SegmentPairs,
    collate_segment_pairs,
    find_audio_column,
    load_audio_dataset,
    random_segments,
    undecoded,
)
from modeling_cola import (
    COLAConfig,
    COLAForPreTraining,
    COLAForPreTrainingOutput,
    COLAModel,
    COLAPreTrainedModel,
    contrastive_loss,
)
from run_scripts.common.cpu import tune_cpu
from run_scripts.common.plots import plot_embedding_map, plot_similarity_matrix, plot_training_curves
from run_scripts.evaluation.embedders import embed_all, encoder_embedder, read_waveforms
from run_scripts.evaluation.labels import load_labelled
from run_scripts.evaluation.probes import linear_evaluation
from run_scripts.pretraining.augmentation import add_noise, mix_background, random_equalizer, spec_augment
from run_scripts.pretraining.checkpointing import (
    Progress,
    check_arguments,
    find_checkpoints,
    find_whole_checkpoint,
    make_output_dir,
    save_checkpoint,
)
from run_scripts.pretraining.objectives import OBJECTIVES


logger = get_logger(__name__)


@dataclass
class Recipe:
    """How the encoder is trained: model, optimiser, schedule and augmentation of the positive."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    scheduler: str
    warmup_ratio: float
    model: dict[str, Any] = field(default_factory=dict)
    """Arguments of `COLAConfig`, whose defaults are the paper's model."""
    noise_ratio: float = 0.0
    """Level of the noise added to the positive, as a share of its own."""
    max_distance: float | None = None
    """Seconds from the anchor to the positive, at the most; anywhere in the recording if `None`."""
    mix_share: float = 0.0
    """Share of another clip in the background of the positive, at the most."""
    equalizer_std: float = 0.0
    """Random frequency response of the positive, in nepers."""
    mask_bands: int = 0
    """SpecAugment on the positive: mel bands masked at the most."""
    mask_frames: int = 0
    """SpecAugment on the positive: frames masked at the most."""


RECIPES = {
    # The paper's text and the authors' code: noise of 0.001 on a segment whose L2 norm is 1 (an RMS of 0.008).
    "paper": Recipe("adam", 1e-4, 0.0, "constant", 0.0, noise_ratio=0.125),
    # What later work found better and a small machine needs: faster steps, and a positive that does not sound like the
    # anchor's room.
    "modern": Recipe(
        "adamw", 1e-3, 0.05, "cosine", 0.05, mix_share=0.4, equalizer_std=0.7, mask_bands=16, mask_frames=24
    ),
    # What keeps most of what changes within a recording, and so transfers best: segments near enough to share what is
    # said or played, h before the layers that forget the rest, each band's course in time kept until there.
    "best": Recipe(
        *("adamw", 1e-3, 0.05, "cosine", 0.05),
        model={
            "encoder": "compact",
            "pooling": "statistics",
            # For another encoder or similarity, that neither starts slowly.
            "zero_init_residual": True,
            "bilinear_init_std": 1e-4,
            "bilinear_init_diagonal": 0.05,
            "projection_hidden_size": 1024,
            "similarity": "cosine",
            "temperature": 0.1,
        },
        max_distance=0.5,
        mix_share=0.4,
        equalizer_std=0.5,
        mask_bands=16,
        mask_frames=24,
    ),
}


@dataclass
class ModelArguments:
    """What is not given is the recipe's, and else the paper's."""

    encoder: str | None = field(
        default=None, metadata={"help": "A timm convolutional network, or 'compact' for ours. Paper: efficientnet_b0."}
    )
    encoder_stride: int | None = field(
        default=None, metadata={"help": "End a timm encoder with its last stage of at most this stride."}
    )
    pooling: str | None = field(
        default=None, metadata={"help": "max (the paper's), mean, mean_max, dense or statistics: see COLAConfig."}
    )
    similarity: str | None = field(default=None, metadata={"help": "'bilinear' (the paper's) or 'cosine'."})
    temperature: float | None = field(default=None, metadata={"help": "Of the cosine similarity. Paper: 0.2."})
    decorrelation_weight: float | None = field(
        default=None, metadata={"help": "Of the penalty on correlated numbers of h; 0.02 suits EfficientNet-B0."}
    )
    drop_path_rate: float | None = field(default=None, metadata={"help": "Stochastic depth of a timm encoder."})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A checkpoint to start from, in place of random weights."}
    )


@dataclass
class DataArguments:
    dataset_name: str = field(
        metadata={"help": "A folder of audio, a folder or glob of Parquet, or a data set on the Hub."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub data set."})
    dataset_split: str = field(default="train", metadata={"help": "The split to train on."})
    audio_column: str | None = field(default=None, metadata={"help": "Defaults to the only column of type Audio."})
    streaming: bool = field(default=False, metadata={"help": "Read as a stream, without a local copy."})
    validation_clips: int = field(
        default=256,
        metadata={"help": "Recordings held out to measure on: a tenth of the data at most, or a stream's first."},
    )
    max_bad_fraction: float = field(
        default=0.2, metadata={"help": "Stop when more than this share of the clips cannot be used."}
    )
    probe_data: str | None = field(
        default=None,
        metadata={"help": "A small labelled data set, of folders or Parquet, to measure h on at each validation."},
    )


@dataclass
class PretrainingArguments:
    output_dir: str = field(metadata={"help": "Where checkpoints, plots and the model go."})
    recipe: str = field(default="paper", metadata={"help": f"One of {', '.join(RECIPES)}."})
    objective: str = field(
        default="contrastive",
        metadata={"help": f"COLA's, or another that the paper compares it with: {', '.join(OBJECTIVES)}."},
    )
    per_device_train_batch_size: int = field(
        default=64,
        metadata={"help": "Pairs a step and process. Every positive of the step is a candidate for every anchor."},
    )
    max_steps: int = field(default=10_000, metadata={"help": "Steps of training."})
    learning_rate: float | None = field(default=None, metadata={"help": "Defaults to the recipe's."})
    seed: int = field(default=0, metadata={"help": "Of weights, order, segments and augmentation."})
    dataloader_num_workers: int = field(default=1, metadata={"help": "Processes that decode audio."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Less memory for slower steps."})
    logging_steps: int = field(default=20, metadata={"help": "Steps between two entries of the log."})
    eval_steps: int = field(default=250, metadata={"help": "Steps between two validations."})
    save_steps: int = field(default=500, metadata={"help": "Steps between two checkpoints."})
    save_total_limit: int = field(default=2, metadata={"help": "Checkpoints kept."})
    resume: bool = field(default=False, metadata={"help": "Go on from the newest whole checkpoint in output_dir."})
    report_to: str | None = field(
        default=None, metadata={"help": "A tracker that accelerate knows: tensorboard, trackio, wandb ..."}
    )

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ValueError(f"--recipe must be one of {', '.join(RECIPES)}, got {self.recipe!r}.")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"--objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}.")
        for name in ("per_device_train_batch_size", "max_steps", "logging_steps", "eval_steps", "save_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")


# What may differ in a run that is resumed.
FREE_ARGUMENTS = {
    *("output_dir", "resume", "eval_steps", "save_steps", "save_total_limit", "report_to", "probe_data"),
    *("gradient_checkpointing", "max_bad_fraction"),
}
# Clips read before their share of bad ones says anything.
MIN_CLIPS_TO_JUDGE = 200
# Steps after which several processes ask each other whether one was told to stop.
AGREE_STEPS = 5


def build_optimizer(model: torch.nn.Module, recipe: Recipe, learning_rate: float) -> torch.optim.Optimizer:
    """Adam or AdamW, without weight decay on norms and biases."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return cls(groups, lr=learning_rate)


def hold_out(
    dataset: Any, num_clips: int, batch_size: int, seed: int
) -> tuple[Any, list[dict[str, Any]], dict[int, int]]:
    """
    Splits off recordings to validate on: of a data set with random access a tenth at the most, of a stream the first.

    Returns:
        The data to train on, the rows held out, and by shard of a stream how many of its first rows these are.
    """
    if isinstance(dataset, IterableDataset):
        rows, by_shard = [], {}
        for shard in range(dataset.num_shards):
            if len(rows) == num_clips:
                break
            rows_of_shard = list(dataset.shard(dataset.num_shards, shard).take(num_clips - len(rows)))
            by_shard[shard] = len(rows_of_shard)
            rows += rows_of_shard
        if len(rows) < num_clips:
            raise ValueError(f"The stream has {len(rows)} clips: lower --validation_clips, which is {num_clips}.")
        return dataset, rows, by_shard
    num_clips = min(num_clips, len(dataset) // 10)
    if len(dataset) - num_clips < batch_size:
        raise ValueError(
            f"The data set has {len(dataset)} clips, of which {num_clips} are held out: that is less than a batch of "
            f"{batch_size}. Lower --per_device_train_batch_size or add clips."
        )
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.select(np.sort(order[num_clips:])), list(dataset.select(np.sort(order[:num_clips]))), {}


def read_validation(
    rows: list[dict[str, Any]],
    column: str,
    names: list[str] | None,
    extractor: COLAFeatureExtractor,
    num_samples: int,
    max_distance: int | None,
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], list[str] | None]:
    """
    Features `[N, T, bands]` of anchor and positive of one segment pair of each held-out recording, drawn as in
    training, the pairs' gaps `[N]`, and the labels if there are any.
    """
    pairs, gaps, labels = [], [], []
    for i, row in enumerate(rows):
        try:
            pair, (_, gap) = random_segments(
                *(row[column], num_samples, np.random.default_rng(i), 2, extractor.sampling_rate, max_distance),
                return_gaps=True,
            )
        except (AudioDecodingError, FileNotFoundError):
            continue
        pairs.append(pair)
        gaps.append(gap)
        labels.append(names[row["label"]] if names else None)
    if not pairs:
        return (torch.empty(0), torch.empty(0), torch.empty(0)), None
    anchors, positives = (
        extractor([pair[side] for pair in pairs], sampling_rate=extractor.sampling_rate, return_tensors="pt")
        for side in (0, 1)
    )
    return (anchors["input_values"], positives["input_values"], torch.tensor(gaps)), labels if names else None


def make_features(
    batch: dict[str, Any], extractor: COLAFeatureExtractor, recipe: Recipe, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Anchors and positives `[B, T, bands]` of a batch of segments; only the positives are augmented."""
    waveforms = batch["waveforms"].to(device, non_blocking=True)
    lengths = batch["lengths"].to(device, non_blocking=True)
    half = len(waveforms) // 2
    noisy = add_noise(waveforms[half:], lengths[half:], recipe.noise_ratio)
    anchors, positives = extractor.log_mel(torch.cat([waveforms[:half], noisy]), lengths)[0].chunk(2)
    if recipe.mix_share:
        positives = mix_background(positives, recipe.mix_share)
    if recipe.equalizer_std:
        positives = random_equalizer(positives, recipe.equalizer_std, extractor.padding_value)
    return anchors, spec_augment(positives, recipe.mask_bands, recipe.mask_frames, extractor.padding_value)


@torch.no_grad()
def score(model: COLAPreTrainedModel, *inputs: torch.Tensor) -> COLAForPreTrainingOutput:
    """The objective on held-out recordings."""
    was_training = model.training
    model.eval()
    inputs = [values.to(model.device) for values in inputs]
    if isinstance(model, COLAForPreTraining):
        # Each process does it for itself: the model's own forward would gather the same recordings from all of them.
        z, z_positive = model.projection(model.cola(torch.cat(inputs)).pooler_output).chunk(2)
        logits = model.similarity(z, z_positive)
        loss, accuracy = contrastive_loss(logits)
        outputs = COLAForPreTrainingOutput(loss, logits, accuracy, z, z_positive)
    else:
        outputs = model(*inputs)
    model.train(was_training)
    return outputs


def validate(model: COLAPreTrainedModel, inputs: tuple[torch.Tensor, ...], batch_size: int) -> dict[str, float]:
    """
    Loss on held-out recordings, and of an objective that compares them pretext accuracy, and the mean cosine of the z
    of different recordings.
    """
    total, entry, z = len(inputs[0]), {}, []
    for batch in zip(*(values.split(batch_size) for values in inputs)):
        outputs = score(model, *batch)
        for name in ("loss", "accuracy"):
            if outputs.get(name) is not None:
                share = outputs[name].item() * len(batch[0]) / total
                entry[f"validation_{name}"] = entry.get(f"validation_{name}", 0.0) + share
        if outputs.anchor_embeds is not None:
            z.append(outputs.anchor_embeds)
    if z:
        unit = torch.nn.functional.normalize(torch.cat(z), dim=-1)
        entry["validation_cosine"] = ((unit.sum(0).square().sum() - total) / (total * (total - 1))).item()
    return entry


class NoteFile:
    """The clips that were skipped, or are short, each listed once with its kind and the reason."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self.listed = {tuple(line.split("\t")[:2]) for line in lines}

    def add(self, notes: list[tuple[str, str, str]]) -> None:
        new = {(kind, name): reason for kind, name, reason in notes if (kind, name) not in self.listed}
        if new:
            self.listed |= set(new)
            with open(self.path, "a") as file:
                file.writelines(
                    f"{kind}\t{name}\t{' '.join(reason.split())}\n" for (kind, name), reason in new.items()
                )


def check_clips(num_clips: int, num_bad: int, max_bad_fraction: float, output_dir: Path) -> None:
    """
    Raises:
        `ValueError`: if too many clips cannot be used.
    """
    if num_clips >= MIN_CLIPS_TO_JUDGE and num_bad > max_bad_fraction * num_clips:
        raise ValueError(
            f"{num_bad} of {num_clips} clips cannot be used, more than --max_bad_fraction {max_bad_fraction}: "
            f"{output_dir}/skipped_*.tsv lists them. Earlier checkpoints are kept."
        )


@contextmanager
def catching_signals() -> Iterator[Callable[[], int | None]]:
    """Lets a step end before SIGTERM or SIGINT ends the run. Gives what tells which of them came."""
    caught = []

    def handle(number: int, frame: Any) -> None:
        caught.append(number)
        signal.signal(number, earlier[number])  # a second one ends it at once

    try:
        earlier = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread, where signals do not come
        earlier = {}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def warn_if_degenerate(entry: dict[str, float], num_candidates: int) -> None:
    """Says so when the task has become too easy to teach anything, or the embedding has collapsed."""
    if entry["step"] < 100:
        return  # too early to tell
    if entry.get("accuracy", 0) > 0.99 and num_candidates > 1:
        logger.warning(
            f"Step {entry['step']}: the pretext accuracy is {100 * entry['accuracy']:.1f} %. The task is solved, so "
            "the encoder learns little more: add recordings or longer ones, or raise the batch size."
        )
    if entry.get("validation_cosine", 0) > 0.95:
        logger.warning(
            f"Step {entry['step']}: the embeddings of different recordings have a mean cosine of "
            f"{entry['validation_cosine']:.2f}: they have collapsed. Lower the learning rate."
        )


def write_pictures(
    model: COLAPreTrainedModel,
    inputs: tuple[torch.Tensor, ...],
    labels: list[str] | None,
    progress: Progress,
    chance: dict[str, float],
    output_dir: Path,
) -> None:
    plot_training_curves(progress.history, output_dir / "training_curves.png", chance)
    if len(inputs[0]) < 8:
        return
    logits = score(model, *(values[:64] for values in inputs)).logits
    if logits is not None:
        plot_similarity_matrix(logits.float().cpu().numpy(), output_dir / "similarity_matrix.png")
    with torch.no_grad():
        h = model.eval().cola(torch.cat(inputs[:2]).to(model.device)).pooler_output
    plot_embedding_map(
        h.float().cpu().numpy(),
        output_dir / "embedding_map.png",
        labels and labels * 2,
        pairs=True,
        title="Two segments of each held-out recording, joined (t-SNE of h)",
    )


def write_model_card(
    output_dir: Path, arguments: dict[str, Any], recipe: Recipe, config: COLAConfig, progress: Progress
) -> None:
    final = {}
    for entry in progress.history:
        final |= entry
    rows = "\n".join(f"| {key} | {value:.4g} |" for key, value in final.items())
    # What was in force: an argument or a checkpoint may have taken the place of the recipe's value.
    in_force = asdict(recipe)
    in_force |= {name: getattr(config, name) for name in in_force.pop("model")} | arguments
    settings = "\n".join(f"| {key} | {value} |" for key, value in in_force.items())
    source, tags, note = "by COLA", "audio, cola, contrastive-learning", ""
    if arguments["objective"] != "contrastive":
        source, tags = f"by the objective `{arguments['objective']}`, which COLA is compared with", "audio, cola"
    if "accuracy" in final:
        batch_size = arguments["per_device_train_batch_size"]
        note = f"The accuracies are of the pretext task, on batches of {batch_size} pairs a process.\n"
    (output_dir / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: feature-extraction
tags: [{tags}]
---

# COLA pre-trained on {Path(arguments["dataset_name"]).name}

An audio encoder pre-trained without labels {source} ([arXiv 2010.10915](https://arxiv.org/abs/2010.10915)).

```python
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("{output_dir.name}", trust_remote_code=True)
model = AutoModel.from_pretrained("{output_dir.name}", trust_remote_code=True).eval()
embedding = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).pooler_output
```

## How it was trained

| setting | value |
| --- | --- |
{settings}

## Where training ended

| measure | value |
| --- | --- |
{rows}

{note}"""
    )


def build_model(
    model_args: ModelArguments, recipe: Recipe, objective: type[COLAPreTrainedModel] = COLAForPreTraining
) -> tuple[COLAPreTrainedModel, COLAFeatureExtractor]:
    """
    Raises:
        `ValueError`: if the arguments describe a model beside a checkpoint, or a loss other than the objective's.
    """
    given = {name: value for name, value in asdict(model_args).items() if value is not None}
    checkpoint = given.pop("model_name_or_path", None)
    contrastive = [name for name in given if name in ("similarity", "temperature", "decorrelation_weight")]
    if contrastive and objective is not COLAForPreTraining:
        raise ValueError(f"--{', --'.join(contrastive)}: only of --objective contrastive.")
    if checkpoint is None:
        return objective(COLAConfig(**recipe.model | given)), COLAFeatureExtractor()
    if given:
        raise ValueError(
            f"--model_name_or_path {checkpoint} has a model of its own: leave out --{', --'.join(given)}."
        )
    return objective.from_pretrained(checkpoint), COLAFeatureExtractor.from_pretrained(checkpoint)


def build_probe(name: str, extractor: COLAFeatureExtractor) -> Callable[[COLAModel], float]:
    """What gives the test accuracy (%) of linear evaluation on a small labelled data set."""
    splits = load_labelled(name)
    waveforms = [
        read_waveforms(split, extractor.sampling_rate, "Decoding the probe's clips") for split in splits.values()
    ]
    labels = [split["label"] for split in splits.values()]

    def probe(model: COLAModel) -> float:
        was_training = model.training
        embed = encoder_embedder(model, extractor)
        train, test = (embed_all(embed, clips, "Probing") for clips in waveforms)
        model.train(was_training)
        return linear_evaluation(train, labels[0], test, labels[1])

    return probe


def main(argv: list[str] | None = None, dataset: DatasetDict | None = None) -> Path:
    """
    Runs the job, on `dataset` if it is loaded already, and returns the folder that holds the model.

    Raises:
        `ValueError`, `OSError`: if an argument, the data or the output folder will not do; the message says which.
        `FloatingPointError`: if the loss is not finite.
        `SystemExit`: with 128 and its number, after a checkpoint, if SIGTERM or SIGINT came.
    """
    parser = HfArgumentParser((ModelArguments, DataArguments, PretrainingArguments))
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    logging.basicConfig(format="%(message)s")
    logger.logger.setLevel(logging.INFO)
    tune_cpu()
    output_dir = Path(args.output_dir)
    accelerator = Accelerator(log_with=args.report_to, project_dir=output_dir)
    set_seed(args.seed)
    recipe = RECIPES[args.recipe]
    learning_rate = recipe.learning_rate if args.learning_rate is None else args.learning_rate
    model, extractor = build_model(model_args, recipe, OBJECTIVES[args.objective])
    takes_gaps = getattr(model, "takes_gaps", False)
    make_output_dir(output_dir, model, args.save_total_limit)

    # Where to begin
    arguments = asdict(model_args) | asdict(data_args) | asdict(args) | {"learning_rate": learning_rate}
    arguments |= {name: value for name, value in model.config.to_dict().items() if name in arguments}
    fixed = {name: value for name, value in arguments.items() if name not in FREE_ARGUMENTS}
    fixed |= {"num_processes": accelerator.num_processes}
    if recipe.scheduler == "constant":
        del fixed["max_steps"]  # such a run can be made longer
    if not args.resume and find_checkpoints(output_dir):
        raise ValueError(f"{output_dir} holds checkpoints: pass --resume, or another --output_dir.")
    checkpoint = find_whole_checkpoint(output_dir) if args.resume else None
    progress = Progress()
    if checkpoint:
        check_arguments(checkpoint, fixed)
        progress = Progress.load(checkpoint / f"progress_{accelerator.process_index}.json")
        logger.info(f"Going on from {checkpoint}.")

    # Data
    splits = dataset or load_audio_dataset(data_args.dataset_name, data_args.dataset_config_name, data_args.streaming)
    if data_args.dataset_split not in splits:
        raise ValueError(f"There is no split {data_args.dataset_split!r}; there are {', '.join(splits)}.")
    data = splits[data_args.dataset_split]
    column = find_audio_column(data, data_args.audio_column)
    names = getattr((data.features or {}).get("label"), "names", None)
    batch_size = args.per_device_train_batch_size
    num_candidates = batch_size * accelerator.num_processes
    training, rows, held_out = hold_out(undecoded(data, column), data_args.validation_clips, num_candidates, args.seed)
    num_samples = extractor.num_samples(model.config.window_size * getattr(model, "num_windows", 1))
    max_distance = recipe.max_distance and round(recipe.max_distance * extractor.sampling_rate)
    held_out_inputs, labels = read_validation(rows, column, names, extractor, num_samples, max_distance)
    held_out_inputs = held_out_inputs if takes_gaps else held_out_inputs[:2]
    probe = build_probe(data_args.probe_data, extractor) if data_args.probe_data else None
    loader = DataLoader(
        SegmentPairs(
            training,
            num_samples,
            extractor.sampling_rate,
            column,
            max_distance=max_distance,
            seed=args.seed,
            held_out=held_out,
            min_clips=batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            state=progress.readers,
            first_worker=progress.next_worker,
        ),
        batch_size=batch_size,
        collate_fn=collate_segment_pairs,
        num_workers=args.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator().manual_seed(args.seed),
    )

    # Model
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        # With statistics of its own on each GPU, BatchNorm tells an anchor's positive from those of other GPUs.
        model = convert_sync_batchnorm(model)
    model = model.train().to(memory_format=torch.channels_last)  # faster convolutions, on CPUs too
    optimizer = build_optimizer(model, recipe, learning_rate)
    # Not prepared by accelerate, which would step it once per process.
    scheduler = get_scheduler(recipe.scheduler, optimizer, round(recipe.warmup_ratio * args.max_steps), args.max_steps)
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(scheduler)
    accelerator.init_trackers("cola", config={name: str(value) for name, value in arguments.items()})
    if args.report_to and accelerator.is_main_process and not accelerator.trackers:
        raise ValueError(f"--report_to {args.report_to}: that tracker's package is not installed.")
    batches = iter(loader)
    if checkpoint:
        accelerator.load_state(str(checkpoint))  # last, so that nothing moves the random state after it

    # Training
    note_file = NoteFile(output_dir / f"skipped_{accelerator.process_index}.tsv")
    bar = tqdm(
        total=args.max_steps, initial=progress.step, disable=not accelerator.is_main_process, desc="Pre-training"
    )
    sums = torch.tensor(progress.sums, device=accelerator.device)
    timed_from, waited, since = progress.step, 0.0, time.perf_counter()
    with bar, logging_redirect_tqdm(), catching_signals() as signal_caught:
        for step in range(progress.step + 1, args.max_steps + 1):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked

            inputs = make_features(batch, extractor, recipe, accelerator.device)
            if takes_gaps:
                inputs += (batch["gaps"].to(accelerator.device),)
            outputs = model(*inputs)
            accelerator.backward(outputs.loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

            loss = outputs.loss.detach()
            sums += torch.stack([loss, torch.zeros_like(loss) if outputs.accuracy is None else outputs.accuracy])
            worker, *place = batch["state"]
            progress.step = step
            progress.readers[worker] = tuple(place)
            progress.next_worker = (worker + 1) % max(args.dataloader_num_workers, 1)
            progress.num_clips += batch_size + sum(kind != "short" for kind, *_ in batch["notes"])
            for kind, *_ in batch["notes"]:
                progress.notes[kind] = progress.notes.get(kind, 0) + 1
            note_file.add(batch["notes"])
            bar.update()

            stopped_by = signal_caught()
            if accelerator.num_processes > 1 and step % AGREE_STEPS == 0:
                # All stop at the same step, or those that go on would wait for the others for ever.
                signals = accelerator.reduce(torch.tensor(stopped_by or 0, device=accelerator.device), "sum")
                stopped_by = int(signals) and signal.SIGTERM
            elif accelerator.num_processes > 1:
                stopped_by = None
            is_logged, is_last = step % args.logging_steps == 0, step == args.max_steps or bool(stopped_by)
            if (is_logged or is_last or step % args.save_steps == 0) and not sums.isfinite().all():
                raise FloatingPointError(
                    f"The loss is not finite at step {step}: lower --learning_rate. Earlier checkpoints are kept."
                )
            entry = {"step": step}
            if is_logged:
                elapsed = time.perf_counter() - since
                counts = torch.tensor([progress.num_clips, progress.num_bad], device=accelerator.device)
                num_clips, num_bad = accelerator.reduce(counts, "sum").tolist()
                check_clips(num_clips, num_bad, data_args.max_bad_fraction, output_dir)
                loss, accuracy = (accelerator.reduce(sums, "mean") / args.logging_steps).tolist()
                entry |= {"loss": loss} if outputs.accuracy is None else {"loss": loss, "accuracy": accuracy}
                entry |= {
                    "learning_rate": scheduler.get_last_lr()[0],
                    "segments_per_second": 2 * num_candidates * (step - timed_from) / elapsed,
                    "data_wait": waited / elapsed,
                }
                told = "".join(f", {number} {kind}" for kind, number in sorted(progress.notes.items()))
                matched = "" if outputs.accuracy is None else f"accuracy {100 * accuracy:.1f} %, "
                bar.set_postfix_str(
                    f"loss {loss:.3f}, {matched}data wait {100 * entry['data_wait']:.0f} %, "
                    f"{entry['segments_per_second']:.0f} segments/s{told}"
                )
                sums.zero_()
            if step % args.eval_steps == 0 or step == args.max_steps:
                unwrapped = accelerator.unwrap_model(model)
                if len(held_out_inputs[0]) > 1:
                    entry |= validate(unwrapped, held_out_inputs, batch_size)
                if probe and accelerator.is_main_process:
                    entry["probe_accuracy"] = probe(unwrapped.cola)
                    logger.info(f"Step {step}: the probe's accuracy is {entry['probe_accuracy']:.1f} %.")
            if len(entry) > 1:
                progress.history.append(entry)
                accelerator.log({name: value for name, value in entry.items() if name != "step"}, step=step)
                warn_if_degenerate(entry, num_candidates)
            if step % args.save_steps == 0 or is_last:
                progress.sums = tuple(sums.tolist())
                save_checkpoint(accelerator, progress, fixed, output_dir, args.save_total_limit)
            if stopped_by:
                logger.warning(
                    f"Stopped by {signal.Signals(stopped_by).name} after step {step}, which is saved: the same "
                    "command with --resume goes on."
                )
                accelerator.end_training()
                raise SystemExit(128 + stopped_by)
            if is_logged:
                timed_from, waited, since = step, 0.0, time.perf_counter()

    # Results
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(model)
        is_contrastive = isinstance(model, COLAForPreTraining)
        (model if is_contrastive else model.cola).save_pretrained(output_dir)
        extractor.save_pretrained(output_dir)
        (output_dir / "training_state.json").write_text(
            json.dumps({"arguments": arguments, "recipe": asdict(recipe), "history": progress.history}, indent=2)
        )
        write_model_card(output_dir, arguments, recipe, model.config, progress)
        chance = {"accuracy": 1 / batch_size}
        if is_contrastive:
            chance = {"loss": np.log(num_candidates), "accuracy": 1 / num_candidates}
        write_pictures(model, held_out_inputs, labels, progress, chance, output_dir)
        logger.info(f"Saved the model, its plots and its card in {output_dir}.")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output_dir


if __name__ == "__main__":
    main()
