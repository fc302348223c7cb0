"""
Pre-trains COLA on any audio, without labels.

    accelerate launch run_scripts/run_pretraining.py --dataset_name path/to/audio --output_dir cola-mine

`--dataset_name` is a folder of audio files, a folder or glob of Parquet, or a data set on the Hub. The
defaults are the paper's recipe. A run that was stopped goes on with the same command and `--resume`.
"""

import json
import logging
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import set_seed
from augmentation import add_noise, mix_background, random_equalizer, spec_augment
from cpu import tune_cpu
from datasets import Audio, DatasetDict
from plots import plot_embedding_map, plot_similarity_matrix, plot_training_curves
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
)
from modeling_cola import COLAConfig, COLAForPreTraining, contrastive_loss


logger = get_logger(__name__)


@dataclass
class Recipe:
    """How the encoder is trained: optimiser, schedule and augmentation of the positive."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    scheduler: str
    warmup_ratio: float
    noise_ratio: float = 0.0
    """Level of the noise added to the positive, as a share of its own."""
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
    # What later work found better and a small machine needs: faster steps and a harder positive.
    "modern": Recipe(
        "adamw", 1e-3, 0.05, "cosine", 0.05, mix_share=0.4, equalizer_std=0.7, mask_bands=16, mask_frames=24
    ),
}


@dataclass
class ModelArguments:
    encoder: str = field(
        default="efficientnet_b0", metadata={"help": "A timm convolutional network, or 'compact' for ours."}
    )
    similarity: str = field(default="bilinear", metadata={"help": "'bilinear' or 'cosine'."})
    temperature: float = field(default=0.2, metadata={"help": "Of the cosine similarity."})
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
        default=256, metadata={"help": "Recordings held out to measure on; at most a tenth of the data."}
    )


@dataclass
class PretrainingArguments:
    output_dir: str = field(metadata={"help": "Where checkpoints, plots and the model go."})
    recipe: str = field(default="paper", metadata={"help": f"One of {', '.join(RECIPES)}."})
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
    resume: bool = field(default=False, metadata={"help": "Go on from the newest checkpoint in output_dir."})

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ValueError(f"--recipe must be one of {', '.join(RECIPES)}, got {self.recipe!r}.")
        for name in ("per_device_train_batch_size", "max_steps", "logging_steps", "eval_steps", "save_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")


@dataclass
class Progress:
    """Where a run stands; a checkpoint keeps one per process."""

    step: int = 0
    next_worker: int = 0
    readers: dict[int, tuple[int, int]] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    sums: tuple[float, float] = (0.0, 0.0)
    """Loss and pretext accuracy since the last entry of the log."""
    num_skipped: int = 0

    @classmethod
    def load(cls, path: Path) -> "Progress":
        values = json.loads(path.read_text())
        values["sums"] = tuple(values["sums"])
        values["readers"] = {int(worker): tuple(place) for worker, place in values["readers"].items()}
        return cls(**values)


def build_optimizer(model: torch.nn.Module, recipe: Recipe, learning_rate: float) -> torch.optim.Optimizer:
    """Adam or AdamW, without weight decay on norms and biases."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return cls(groups, lr=learning_rate)


def hold_out(dataset: Any, num_clips: int, batch_size: int, seed: int) -> tuple[Any, Any]:
    """Splits off recordings to validate on; of a data set with random access a tenth at the most."""
    if not hasattr(dataset, "__len__"):
        return dataset.skip(num_clips), dataset.take(num_clips)
    num_clips = min(num_clips, len(dataset) // 10)
    if len(dataset) - num_clips < batch_size:
        raise ValueError(
            f"The data set has {len(dataset)} clips, of which {num_clips} are held out: that is less than a batch of "
            f"{batch_size}. Lower --per_device_train_batch_size or add clips."
        )
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.select(np.sort(order[num_clips:])), dataset.select(np.sort(order[:num_clips]))


def read_validation(
    dataset: Any, audio_column: str | None, extractor: COLAFeatureExtractor, num_samples: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, list[str] | None]:
    """Features `[N, T, bands]` of one segment pair of each held-out recording, and its label if it has one."""
    column = find_audio_column(dataset, audio_column)
    pairs, labels = [], []
    names = getattr((dataset.features or {}).get("label"), "names", None)
    for i, row in enumerate(dataset.cast_column(column, Audio(decode=False))):
        try:
            rng = np.random.default_rng([seed, i])
            pairs.append(random_segments(row[column], num_samples, rng, 2, extractor.sampling_rate))
        except (AudioDecodingError, FileNotFoundError):
            continue
        labels.append(names[row["label"]] if names else None)
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    if not pairs:
        return torch.empty(0), torch.empty(0), None
    anchors, positives = (
        extractor(side, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"] for side in sides
    )
    return anchors, positives, labels if names else None


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
def encode(
    model: COLAForPreTraining, anchors: torch.Tensor, positives: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """h `[2N, D]` of held-out anchors and positives, and z `[N, projection_size]` of each."""
    was_training = model.training
    model.eval()
    h = model.cola(torch.cat([anchors, positives]).to(model.device)).pooler_output
    z = model.projection(h)
    model.train(was_training)
    return h, *z.chunk(2)


def validate(
    model: COLAForPreTraining, anchors: torch.Tensor, positives: torch.Tensor, batch_size: int
) -> dict[str, float]:
    """Loss and pretext accuracy on held-out recordings, and the mean cosine of the z of different recordings."""
    # Each process does it for itself: the model's own forward would gather the same recordings from all of them.
    _, z, z_positive = encode(model, anchors, positives)
    total, loss, accuracy = len(z), 0.0, 0.0
    for batch in torch.arange(total, device=z.device).split(batch_size):
        with torch.no_grad():
            batch_loss, batch_accuracy = contrastive_loss(model.similarity(z[batch], z_positive[batch]))
        loss += batch_loss.item() * len(batch) / total
        accuracy += batch_accuracy.item() * len(batch) / total
    unit = torch.nn.functional.normalize(z, dim=-1)
    cosine = (unit.sum(0).square().sum() - total) / (total * (total - 1))
    return {"validation_loss": loss, "validation_accuracy": accuracy, "validation_cosine": cosine.item()}


def save_checkpoint(accelerator: Accelerator, progress: Progress, output_dir: Path, limit: int) -> None:
    """Writes `checkpoint-<step>` under a temporary name, renames it, and removes the oldest beyond `limit`."""
    final = output_dir / f"checkpoint-{progress.step}"
    temporary = output_dir / f".checkpoint-{progress.step}.tmp"
    accelerator.save_state(str(temporary))
    (temporary / f"progress_{accelerator.process_index}.json").write_text(json.dumps(asdict(progress)))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        for old in find_checkpoints(output_dir)[:-limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def find_checkpoints(output_dir: Path) -> list[Path]:
    """The whole checkpoints, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def report_skipped(skipped: list[tuple[str, str]], progress: Progress, output_dir: Path, process_index: int) -> None:
    """Counts clips that could not be read, and lists them with the reason."""
    if skipped:
        progress.num_skipped += len(skipped)
        with open(output_dir / f"skipped_{process_index}.tsv", "a") as file:
            file.writelines(f"{name}\t{' '.join(reason.split())}\n" for name, reason in skipped)


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
    model: COLAForPreTraining,
    anchors: torch.Tensor,
    positives: torch.Tensor,
    labels: list[str] | None,
    progress: Progress,
    num_candidates: int,
    output_dir: Path,
) -> None:
    plot_training_curves(progress.history, output_dir / "training_curves.png", num_candidates)
    if len(anchors) < 8:
        return
    h, z, z_positive = encode(model, anchors, positives)
    with torch.no_grad():
        logits = model.similarity(z[:64], z_positive[:64])
    plot_similarity_matrix(logits.float().cpu().numpy(), output_dir / "similarity_matrix.png")
    plot_embedding_map(
        h.float().cpu().numpy(),
        output_dir / "embedding_map.png",
        labels and labels * 2,
        pairs=True,
        title="Two segments of each held-out recording, joined (t-SNE of h)",
    )


def write_model_card(output_dir: Path, arguments: dict[str, Any], recipe: Recipe, progress: Progress) -> None:
    final = {}
    for entry in progress.history:
        final |= entry
    rows = "\n".join(f"| {key} | {value:.4g} |" for key, value in final.items())
    settings = "\n".join(f"| {key} | {value} |" for key, value in (arguments | asdict(recipe)).items())
    (output_dir / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: feature-extraction
tags: [audio, cola, contrastive-learning]
---

# COLA pre-trained on {Path(arguments["dataset_name"]).name}

An audio encoder pre-trained without labels by COLA ([arXiv 2010.10915](https://arxiv.org/abs/2010.10915)).

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

The accuracies are of the pretext task, on batches of {arguments["per_device_train_batch_size"]} pairs a process.
"""
    )


def main(argv: list[str] | None = None, dataset: DatasetDict | None = None) -> Path:
    """Runs the job, on `dataset` if it is loaded already, and returns the folder that holds the model."""
    parser = HfArgumentParser((ModelArguments, DataArguments, PretrainingArguments))
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    logging.basicConfig(format="%(message)s")
    logger.logger.setLevel(logging.INFO)
    tune_cpu()
    accelerator = Accelerator()
    set_seed(args.seed)
    recipe = RECIPES[args.recipe]
    learning_rate = recipe.learning_rate if args.learning_rate is None else args.learning_rate
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    checkpoints = find_checkpoints(output_dir)
    if checkpoints and not args.resume:
        raise ValueError(f"{output_dir} holds {checkpoints[-1].name}: pass --resume, or another --output_dir.")

    # Data
    splits = dataset or load_audio_dataset(data_args.dataset_name, data_args.dataset_config_name, data_args.streaming)
    if data_args.dataset_split not in splits:
        raise ValueError(f"There is no split {data_args.dataset_split!r}; there are {', '.join(splits)}.")
    batch_size = args.per_device_train_batch_size
    num_candidates = batch_size * accelerator.num_processes
    training, held_out = hold_out(
        splits[data_args.dataset_split], data_args.validation_clips, num_candidates, args.seed
    )

    # Model
    if model_args.model_name_or_path:
        model = COLAForPreTraining.from_pretrained(model_args.model_name_or_path)
        extractor = COLAFeatureExtractor.from_pretrained(model_args.model_name_or_path)
    else:
        config = COLAConfig(
            encoder=model_args.encoder, similarity=model_args.similarity, temperature=model_args.temperature
        )
        model, extractor = COLAForPreTraining(config), COLAFeatureExtractor()
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    num_samples = extractor.num_samples(model.config.window_size)
    optimizer = build_optimizer(model, recipe, learning_rate)
    # Not prepared by accelerate, which would step it once per process.
    scheduler = get_scheduler(recipe.scheduler, optimizer, round(recipe.warmup_ratio * args.max_steps), args.max_steps)
    model = model.to(memory_format=torch.channels_last)  # faster convolutions, on CPUs too
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(scheduler)

    held_out_anchors, held_out_positives, labels = read_validation(
        held_out, data_args.audio_column, extractor, num_samples, args.seed
    )

    # Where to begin
    progress = Progress()
    if checkpoints:
        progress = Progress.load(checkpoints[-1] / f"progress_{accelerator.process_index}.json")
        logger.info(f"Going on from {checkpoints[-1]}.")
    loader = DataLoader(
        SegmentPairs(
            training,
            num_samples,
            extractor.sampling_rate,
            data_args.audio_column,
            seed=args.seed,
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
    batches = iter(loader)
    if checkpoints:
        accelerator.load_state(str(checkpoints[-1]))  # last, so that nothing moves the random state after it

    # Training
    bar = tqdm(
        total=args.max_steps, initial=progress.step, disable=not accelerator.is_main_process, desc="Pre-training"
    )
    sums = torch.tensor(progress.sums, device=accelerator.device)
    timed_from, waited, since = progress.step, 0.0, time.perf_counter()
    with bar, logging_redirect_tqdm():
        for step in range(progress.step + 1, args.max_steps + 1):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked

            anchors, positives = make_features(batch, extractor, recipe, accelerator.device)
            outputs = model(anchors, positives)
            accelerator.backward(outputs.loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

            sums += torch.stack([outputs.loss.detach(), outputs.accuracy])
            worker, *place = batch["state"]
            progress.step = step
            progress.readers[worker] = tuple(place)
            progress.next_worker = (worker + 1) % max(args.dataloader_num_workers, 1)
            report_skipped(batch["skipped"], progress, output_dir, accelerator.process_index)
            bar.update()

            entry = {"step": step}
            if step % args.logging_steps == 0:
                elapsed = time.perf_counter() - since
                loss, accuracy = (accelerator.reduce(sums, "mean") / args.logging_steps).tolist()
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"The loss is {loss} at step {step}: lower --learning_rate. Earlier checkpoints are kept."
                    )
                entry |= {
                    "loss": loss,
                    "accuracy": accuracy,
                    "learning_rate": scheduler.get_last_lr()[0],
                    "segments_per_second": 2 * num_candidates * (step - timed_from) / elapsed,
                    "data_wait": waited / elapsed,
                }
                bar.set_postfix_str(
                    f"loss {loss:.3f}, accuracy {100 * accuracy:.1f} %, data wait {100 * entry['data_wait']:.0f} %, "
                    f"{entry['segments_per_second']:.0f} segments/s, skipped {progress.num_skipped}"
                )
                sums.zero_()
            if len(held_out_anchors) > 1 and (step % args.eval_steps == 0 or step == args.max_steps):
                entry |= validate(accelerator.unwrap_model(model), held_out_anchors, held_out_positives, batch_size)
            if len(entry) > 1:
                progress.history.append(entry)
                warn_if_degenerate(entry, num_candidates)
            if step % args.save_steps == 0 or step == args.max_steps:
                progress.sums = tuple(sums.tolist())
                save_checkpoint(accelerator, progress, output_dir, args.save_total_limit)
            if step % args.logging_steps == 0:
                timed_from, waited, since = step, 0.0, time.perf_counter()

    # Results
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(model)
        model.save_pretrained(output_dir)
        extractor.save_pretrained(output_dir)
        arguments = asdict(model_args) | asdict(data_args) | asdict(args) | {"learning_rate": learning_rate}
        (output_dir / "training_state.json").write_text(
            json.dumps({"arguments": arguments, "recipe": asdict(recipe), "history": progress.history}, indent=2)
        )
        write_model_card(output_dir, arguments, recipe, progress)
        write_pictures(model, held_out_anchors, held_out_positives, labels, progress, num_candidates, output_dir)
        logger.info(f"Saved the model, its plots and its card in {output_dir}.")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output_dir


if __name__ == "__main__":
    main()
