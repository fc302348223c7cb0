"""The training loop of pre-training."""

import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from timm.optim import create_optimizer_v2
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import get_scheduler

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAForPreTrainingOutput, COLAPreTrainedModel
from run_scripts.common.errors import DivergenceError, UserError
from run_scripts.common.signals import catching_signals
from run_scripts.common.skipped import SkippedClips
from run_scripts.pretraining.arguments import PretrainingArguments
from run_scripts.pretraining.augmentation import make_features
from run_scripts.pretraining.checkpointing import (
    RESUME,
    RunState,
    load_best_weights,
    read_best_step,
    save_best_weights,
    save_checkpoint,
)
from run_scripts.pretraining.recipes import TrainingSettings
from run_scripts.pretraining.synthetic_pairs import SyntheticPairs
from run_scripts.pretraining.validation import (
    HeldOutPairs,
    LinearProbe,
    inputs_of,
    validate,
    warn_if_degenerate,
)


logger = logging.getLogger(__name__)

# Fewer clips than this say nothing about the share of bad ones.
MIN_CLIPS_TO_JUDGE = 200
# The clips of a corrupt shard are lost together, so that it takes more clips than so many shards have.
MIN_SHARDS_TO_JUDGE = 20

# PyTorch's own optimisers, which can update all weights in one kernel.
FUSED_OPTIMIZERS = ("adam", "adamw")


def build_optimizer(model: COLAPreTrainedModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    """
    Builds the optimiser that the settings name. Norms and biases do not decay. It is a [`UserError`] if timm has no
    such optimiser.
    """
    options = {"fused": True} if settings.optim in FUSED_OPTIMIZERS else {}
    try:
        return create_optimizer_v2(
            model, opt=settings.optim, lr=settings.learning_rate, weight_decay=settings.weight_decay, **options
        )
    except ValueError as error:
        raise UserError(f"--optim {settings.optim}: {error}.") from error


def check_compiler(device: torch.device) -> None:
    """
    Checks that PyTorch can compile for a device.

    Raises:
        [`UserError`]: If there is no C++ compiler, which a CPU needs.
    """
    compilers = (os.environ.get("CXX"), "g++", "clang++")
    if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
        raise UserError("--torch_compile needs a C++ compiler: install g++, or name another one in CXX.")


def check_bad_fraction(
    num_clips: int, num_bad: int, largest_loss: int, max_bad_fraction: float, output_dir: Path
) -> None:
    """
    Checks that few enough of the clips read so far had to be skipped. `largest_loss` is how many of them were skipped
    together at most, in a corrupt shard. The error says which folder has the lists.
    """
    is_enough = num_clips >= max(MIN_CLIPS_TO_JUDGE, MIN_SHARDS_TO_JUDGE * largest_loss)
    if is_enough and num_bad > max_bad_fraction * num_clips:
        raise UserError(
            f"{num_bad} of {num_clips} clips cannot be used, more than --max_bad_fraction {max_bad_fraction}: "
            f"{output_dir}/skipped_*.tsv lists them. Earlier checkpoints are kept."
        )


class PretrainingTrainer:
    """
    Trains an objective on a stream of segment pairs, and logs, validates and saves it on the way.

    Args:
        accelerator (`Accelerator`):
            The processes and their devices.
        model (`COLAPreTrainedModel`):
            One of `OBJECTIVES`.
        extractor ([`COLAFeatureExtractor`]):
            Computes the features.
        settings (`TrainingSettings`):
            Optimisation and augmentation.
        args (`PretrainingArguments`):
            The run.
        loader (`Iterable`):
            Endless batches from `build_loader`, which start where `state` stands.
        held_out (`HeldOutPairs`):
            What to validate on.
        probe (`LinearProbe`, *optional*):
            Linear evaluation at each validation.
        state (`RunState`):
            Where to start: a new one, or that of the checkpoint to resume from.
        fixed_arguments (`dict`):
            The arguments that a resumed run has to share, which are saved with each checkpoint.
        max_bad_fraction (`float`):
            The share of clips that may be skipped.
        synthetic (`SyntheticPairs`, *optional*):
            The synthetic pairs of each batch.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: COLAPreTrainedModel,
        extractor: COLAFeatureExtractor,
        settings: TrainingSettings,
        args: PretrainingArguments,
        loader: Iterable[dict[str, Any]],
        held_out: HeldOutPairs,
        probe: LinearProbe | None,
        state: RunState,
        fixed_arguments: dict[str, Any],
        max_bad_fraction: float,
        synthetic: SyntheticPairs | None = None,
    ):
        self.accelerator = accelerator
        self.extractor = extractor
        self.settings = settings
        self.args = args
        self.output_dir = Path(args.output_dir)
        self.loader = loader
        self.held_out = held_out
        self.probe = probe
        self.state = state
        self.fixed_arguments = fixed_arguments
        self.max_bad_fraction = max_bad_fraction
        self.synthetic = synthetic
        self.num_candidates = args.per_device_train_batch_size * accelerator.num_processes
        self.skipped_clips = SkippedClips(self.output_dir / f"skipped_{accelerator.process_index}.tsv", RESUME)
        self._prepare(model)

    def _prepare(self, model: COLAPreTrainedModel) -> None:
        if self.args.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            # With statistics of its own on each GPU, BatchNorm would reveal which positives are on the anchor's GPU.
            model = convert_sync_batchnorm(model)
        model = model.train().to(memory_format=model.memory_format)  # faster convolutions, on CPUs too
        if self.args.torch_compile:
            # In place, so that the names of the weights stay as they are. It takes nearly all of a step, and what is
            # left out depends on masks and on other processes.
            check_compiler(self.accelerator.device)
            model.cola.encoder.compile()
        optimizer = build_optimizer(model, self.settings)
        # Not prepared by accelerate, which would step it once for each process.
        self.scheduler = get_scheduler(
            self.settings.lr_scheduler_type,
            optimizer,
            num_warmup_steps=round(self.settings.warmup_ratio * self.args.max_steps),
            num_training_steps=self.args.max_steps,
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    @property
    def unwrapped_model(self) -> COLAPreTrainedModel:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def train(self, checkpoint: Path | None = None) -> None:
        """
        Trains up to `args.max_steps`.

        Args:
            checkpoint (`Path`, *optional*):
                The checkpoint that `state` is of, whose weights, optimiser and random states are loaded.

        Raises:
            `FloatingPointError`: if the loss is not finite.
            `ValueError`: if too many clips cannot be used.
            `OSError`: if a checkpoint cannot be written.
            `SystemExit`: with 128 plus its number, after a checkpoint, if SIGTERM or SIGINT came.
        """
        batches = iter(self.loader)
        if checkpoint:
            self._check_best()
            self.scheduler.load_state_dict(self.state.scheduler)
            self.accelerator.load_state(str(checkpoint))  # last, so that nothing moves the random states after it
        self.sums = torch.tensor(self.state.sums, device=self.accelerator.device)
        self._start_timing()
        self.bar = tqdm(
            desc="Pre-training",
            total=self.args.max_steps,
            initial=self.state.step,
            disable=not self.accelerator.is_main_process,
        )
        with self.bar, logging_redirect_tqdm(), catching_signals() as stop_signal:
            for step in range(self.state.step + 1, self.args.max_steps + 1):
                batch = self._next_batch(batches)
                outputs = self._training_step(batch)
                self._record(step, batch, outputs)

                is_last = step == self.args.max_steps
                is_stopped = stop_signal.has_come(self.accelerator, step)
                is_logged = step % self.args.logging_steps == 0
                is_saved = step % self.args.save_steps == 0 or is_last or is_stopped
                if is_logged or is_saved:
                    self._check_loss()
                entry = self._summarize(outputs) if is_logged else {}
                if step % self.args.eval_steps == 0 or is_last:
                    entry |= self._validate()
                self._log(entry)
                if is_saved:
                    self._save()
                if is_stopped:
                    self.accelerator.end_training()
                    stop_signal.exit(step)
                if is_logged:
                    self._start_timing()

    def _start_timing(self) -> None:
        """Starts the interval that the next entry of the log gives the speed of."""
        self.timed_from, self.waited, self.started = self.state.step, 0.0, time.perf_counter()

    def _next_batch(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        asked = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - asked
        return batch

    def _training_step(self, batch: dict[str, Any]) -> COLAForPreTrainingOutput:
        if self.synthetic:
            batch = self.synthetic.join(batch)
        features = make_features(batch, self.extractor, self.settings, self.accelerator.device)
        outputs = self.model(**inputs_of(self.unwrapped_model, features))
        self.accelerator.backward(outputs.loss)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return outputs

    def _record(self, step: int, batch: dict[str, Any], outputs: COLAForPreTrainingOutput) -> None:
        """Adds a step to the state of the run."""
        loss, state = outputs.loss.detach(), self.state
        accuracy = torch.zeros_like(loss) if outputs.accuracy is None else outputs.accuracy
        self.sums += torch.stack([loss, accuracy])
        state.step = step
        if states := batch["state"]:  # empty if nothing is read
            worker = states[0].worker
            state.readers[worker] = states
            state.next_worker = (worker + 1) % max(self.args.dataloader_num_workers, 1)
        state.add_clips(len(batch["gaps"]), batch["notes"])
        self.skipped_clips.add(batch["notes"])
        self.bar.update()

    def _check_loss(self) -> None:
        # Over all processes, so that each of them ends by this error.
        if not self.accelerator.reduce(self.sums).isfinite().all():
            raise DivergenceError(
                f"The loss is not finite at step {self.state.step}: lower --learning_rate. Earlier checkpoints are "
                "kept."
            )

    def _summarize(self, outputs: COLAForPreTrainingOutput) -> dict[str, float]:
        """The entry of the log for the steps since the last one, over all processes."""
        state, elapsed = self.state, time.perf_counter() - self.started
        counts = torch.tensor([[state.num_clips, state.num_bad, state.largest_loss]])
        counts = self.accelerator.gather(counts.to(self.accelerator.device))
        (num_clips, num_bad), largest_loss = counts[:, :2].sum(0).tolist(), counts[:, 2].max().item()
        check_bad_fraction(num_clips, num_bad, largest_loss, self.max_bad_fraction, self.output_dir)
        loss, accuracy = (self.accelerator.reduce(self.sums, "mean") / self.args.logging_steps).tolist()
        self.sums.zero_()
        entry = {"loss": loss}
        if outputs.accuracy is not None:
            entry["accuracy"] = accuracy
        entry |= {
            "learning_rate": self.scheduler.get_last_lr()[0],
            "segments_per_second": 2 * self.num_candidates * (state.step - self.timed_from) / elapsed,
            "data_wait": self.waited / elapsed,
        }
        self.bar.set_postfix_str(self._format_entry(entry))
        return entry

    def _format_entry(self, entry: dict[str, float]) -> str:
        parts = [f"loss {entry['loss']:.3f}"]
        if "accuracy" in entry:
            parts.append(f"accuracy {100 * entry['accuracy']:.1f} %")
        parts.append(f"data wait {100 * entry['data_wait']:.0f} %")
        parts.append(f"{entry['segments_per_second']:.0f} segments/s")
        if self.synthetic:
            parts.append(f"{self.synthetic.num_pairs} of {self.args.per_device_train_batch_size} pairs synthetic")
        parts += [f"{number} {kind}" for kind, number in sorted(self.state.notes.items())]
        return ", ".join(parts)

    def _validate(self) -> dict[str, float]:
        entry = {}
        if len(self.held_out) > 1:
            entry |= validate(self.unwrapped_model, self.held_out, self.args.per_device_train_batch_size)
        if self.probe and self.accelerator.is_main_process:
            entry["probe_accuracy"] = self.probe.accuracy(self.unwrapped_model.cola)
            logger.info(f"Step {self.state.step}: the accuracy of the probe is {entry['probe_accuracy']:.1f} %.")
        if self.args.load_best_model_at_end and self.accelerator.is_main_process:
            self._keep_best(entry)
        return entry

    @property
    def metric_for_best_model(self) -> str:
        return self.args.metric_for_best_model or ("probe_accuracy" if self.probe else "validation_loss")

    def _keep_best(self, entry: dict[str, float]) -> None:
        name, best = self.metric_for_best_model, self.state.best_metric
        if name not in entry:
            raise UserError(
                f"--metric_for_best_model {name} is not among the metrics of this run, {', '.join(entry) or 'none'}."
            )
        if best is None:
            is_better = True
        elif name == "validation_loss":
            is_better = entry[name] < best
        else:
            is_better = entry[name] > best
        if is_better:
            self.state.best_step, self.state.best_metric = self.state.step, entry[name]
            self.state.best_metric_name = name
            save_best_weights(self.unwrapped_model, self.state.step, self.output_dir)

    def _check_best(self) -> None:
        """Forgets the best validation so far if it was by another metric, or if its weights are not there any more."""
        state = self.state
        if not self.args.load_best_model_at_end or state.best_step is None:
            return
        saved, name = read_best_step(self.output_dir), self.metric_for_best_model
        if saved != state.best_step or state.best_metric_name not in (None, name):
            logger.warning(
                f"The weights of step {state.best_step}, the best so far, were chosen by another metric or are not in "
                f"{self.output_dir} any more: the best ones are chosen among those that follow, by {name}."
            )
            state.best_step = state.best_metric = None

    def load_best(self) -> None:
        """Loads the weights of the best validation."""
        state = self.state
        load_best_weights(self.unwrapped_model, state.best_step, self.output_dir)
        logger.info(
            f"Loaded the weights of step {state.best_step}, whose {self.metric_for_best_model} of "
            f"{state.best_metric:.4g} is the best."
        )

    def _log(self, entry: dict[str, float]) -> None:
        if entry:
            self.accelerator.log(entry, step=self.state.step)
            self.state.history.append({"step": self.state.step} | entry)
            warn_if_degenerate(self.state.history[-1], self.num_candidates)

    def _save(self) -> None:
        self.state.sums = tuple(self.sums.tolist())
        self.state.scheduler = self.scheduler.state_dict()
        if self.synthetic:
            self.state.synthesizer = self.synthetic.state
        save_checkpoint(self.accelerator, self.model, self.state, self.fixed_arguments, self.args)
