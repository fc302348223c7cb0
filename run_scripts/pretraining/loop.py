"""The training loop of pre-training."""

import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import get_scheduler

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAForPreTrainingOutput, COLAPreTrainedModel
from run_scripts.common.errors import UserError
from run_scripts.pretraining.arguments import PretrainingArguments
from run_scripts.pretraining.augmentation import make_features
from run_scripts.pretraining.checkpointing import (
    Progress,
    StopSignal,
    catching_signals,
    load_best_weights,
    save_best_weights,
    save_checkpoint,
)
from run_scripts.pretraining.optimizer import build_optimizer
from run_scripts.pretraining.recipes import TrainingSettings
from run_scripts.pretraining.skipped_clips import SkippedClips, check_bad_fraction
from run_scripts.pretraining.validation import HeldOutPairs, LinearProbe, validate, warn_if_degenerate


logger = logging.getLogger(__name__)

# Steps after which several processes ask each other whether one of them was told to stop.
AGREE_STEPS = 5


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
        loader (`DataLoader`):
            Endless batches from `SegmentPairs`, which start where `progress` stands.
        held_out (`HeldOutPairs`):
            What to validate on.
        probe (`LinearProbe`, *optional*):
            Linear evaluation at each validation.
        progress (`Progress`):
            Where to start: a new one, or that of the checkpoint to resume from.
        fixed_arguments (`dict`):
            The arguments that a resumed run has to share, which are saved with each checkpoint.
        max_bad_fraction (`float`):
            The share of clips that may be skipped.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: COLAPreTrainedModel,
        extractor: COLAFeatureExtractor,
        settings: TrainingSettings,
        args: PretrainingArguments,
        loader: DataLoader,
        held_out: HeldOutPairs,
        probe: LinearProbe | None,
        progress: Progress,
        fixed_arguments: dict[str, Any],
        max_bad_fraction: float,
    ):
        self.accelerator = accelerator
        self.extractor = extractor
        self.settings = settings
        self.args = args
        self.output_dir = Path(args.output_dir)
        self.loader = loader
        self.held_out = held_out
        self.probe = probe
        self.progress = progress
        self.fixed_arguments = fixed_arguments
        self.max_bad_fraction = max_bad_fraction
        self.num_candidates = args.per_device_train_batch_size * accelerator.num_processes
        self.skipped_clips = SkippedClips(self.output_dir / f"skipped_{accelerator.process_index}.tsv")
        self._prepare(model)

    def _prepare(self, model: COLAPreTrainedModel) -> None:
        if self.args.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            # With statistics of its own on each GPU, BatchNorm would reveal which positives are on the anchor's GPU.
            model = convert_sync_batchnorm(model)
        model = model.train().to(memory_format=torch.channels_last)  # faster convolutions, on CPUs too
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
        return self.accelerator.unwrap_model(self.model)

    def train(self, checkpoint: Path | None = None) -> None:
        """
        Trains up to `args.max_steps`.

        Args:
            checkpoint (`Path`, *optional*):
                The checkpoint that `progress` is of, whose weights, optimiser and random states are loaded.

        Raises:
            `FloatingPointError`: if the loss is not finite.
            `ValueError`: if too many clips cannot be used.
            `OSError`: if a checkpoint cannot be written.
            `SystemExit`: with 128 plus its number, after a checkpoint, if SIGTERM or SIGINT came.
        """
        batches = iter(self.loader)
        if checkpoint:
            self.scheduler.load_state_dict(self.progress.scheduler)
            self.accelerator.load_state(str(checkpoint))  # last, so that nothing moves the random states after it
        self.sums = torch.tensor(self.progress.sums, device=self.accelerator.device)
        self._start_timing()
        total, is_main = self.args.max_steps, self.accelerator.is_main_process
        self.bar = tqdm(desc="Pre-training", total=total, initial=self.progress.step, disable=not is_main)
        with self.bar, logging_redirect_tqdm(), catching_signals() as stop_signal:
            for step in range(self.progress.step + 1, self.args.max_steps + 1):
                batch = self._next_batch(batches)
                outputs = self._training_step(batch)
                self._record(step, batch, outputs)

                is_last = step == self.args.max_steps
                is_stopped = self._is_stopped(stop_signal)
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
                    self._exit(stop_signal)
                if is_logged:
                    self._start_timing()

    def _start_timing(self) -> None:
        """Starts the interval that the next entry of the log gives the speed of."""
        self.timed_from, self.waited, self.started = self.progress.step, 0.0, time.perf_counter()

    def _next_batch(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        asked = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - asked
        return batch

    def _training_step(self, batch: dict[str, Any]) -> COLAForPreTrainingOutput:
        outputs = self.model(**make_features(batch, self.extractor, self.settings, self.accelerator.device))
        self.accelerator.backward(outputs.loss)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return outputs

    def _record(self, step: int, batch: dict[str, Any], outputs: COLAForPreTrainingOutput) -> None:
        """Adds a step to the progress."""
        loss, progress = outputs.loss.detach(), self.progress
        self.sums += torch.stack([loss, torch.zeros_like(loss) if outputs.accuracy is None else outputs.accuracy])
        states = batch["state"]
        worker = states[0].worker
        progress.step = step
        progress.readers[worker] = states
        progress.next_worker = (worker + 1) % max(self.args.dataloader_num_workers, 1)
        progress.add_clips(len(batch["gaps"]), batch["notes"])
        self.skipped_clips.add(batch["notes"])
        self.bar.update()

    def _is_stopped(self, stop_signal: StopSignal) -> bool:
        """Whether a signal came. Processes agree on it, or those that went on would wait for the others for ever."""
        if self.accelerator.num_processes == 1:
            return stop_signal.number is not None
        if stop_signal.number is not None:
            self.accelerator.set_trigger()
        return self.progress.step % AGREE_STEPS == 0 and self.accelerator.check_trigger()

    def _check_loss(self) -> None:
        # Over all processes, so that each of them ends by this error.
        if not self.accelerator.reduce(self.sums).isfinite().all():
            raise FloatingPointError(
                f"The loss is not finite at step {self.progress.step}: lower --learning_rate. Earlier checkpoints are "
                "kept."
            )

    def _summarize(self, outputs: COLAForPreTrainingOutput) -> dict[str, float]:
        """The entry of the log for the steps since the last one, over all processes."""
        progress, elapsed = self.progress, time.perf_counter() - self.started
        counts = torch.tensor([[progress.num_clips, progress.num_bad, progress.largest_loss]])
        counts = self.accelerator.gather(counts.to(self.accelerator.device))
        (num_clips, num_bad), largest_loss = counts[:, :2].sum(0).tolist(), counts[:, 2].max().item()
        check_bad_fraction(num_clips, num_bad, largest_loss, self.max_bad_fraction, self.output_dir)
        loss, accuracy = (self.accelerator.reduce(self.sums, "mean") / self.args.logging_steps).tolist()
        self.sums.zero_()
        entry = {"loss": loss} if outputs.accuracy is None else {"loss": loss, "accuracy": accuracy}
        entry |= {
            "learning_rate": self.scheduler.get_last_lr()[0],
            "segments_per_second": 2 * self.num_candidates * (progress.step - self.timed_from) / elapsed,
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
        parts += [f"{number} {kind}" for kind, number in sorted(self.progress.notes.items())]
        return ", ".join(parts)

    def _validate(self) -> dict[str, float]:
        entry = {}
        if len(self.held_out) > 1:
            entry |= validate(self.unwrapped_model, self.held_out, self.args.per_device_train_batch_size)
        if self.probe and self.accelerator.is_main_process:
            entry["probe_accuracy"] = self.probe.accuracy(self.unwrapped_model.cola)
            logger.info(f"Step {self.progress.step}: the accuracy of the probe is {entry['probe_accuracy']:.1f} %.")
        if self.args.load_best_model_at_end and self.accelerator.is_main_process:
            self._keep_best(entry)
        return entry

    @property
    def metric_for_best_model(self) -> str:
        return self.args.metric_for_best_model or ("probe_accuracy" if self.probe else "validation_loss")

    def _keep_best(self, entry: dict[str, float]) -> None:
        name, best = self.metric_for_best_model, self.progress.best_metric
        if name not in entry:
            raise UserError(
                f"--metric_for_best_model {name} is not among the metrics of this run, {', '.join(entry) or 'none'}."
            )
        is_better = best is None or (entry[name] < best if name.endswith("loss") else entry[name] > best)
        if is_better:
            self.progress.best_step, self.progress.best_metric = self.progress.step, entry[name]
            save_best_weights(self.unwrapped_model, self.progress.step, self.output_dir)

    def load_best(self) -> None:
        """Loads the weights of the best validation."""
        progress = self.progress
        load_best_weights(self.unwrapped_model, progress.best_step, self.output_dir)
        logger.info(
            f"Loaded the weights of step {progress.best_step}, whose {self.metric_for_best_model} of "
            f"{progress.best_metric:.4g} is the best."
        )

    def _log(self, entry: dict[str, float]) -> None:
        if entry:
            self.accelerator.log(entry, step=self.progress.step)
            self.progress.history.append({"step": self.progress.step} | entry)
            warn_if_degenerate(self.progress.history[-1], self.num_candidates)

    def _save(self) -> None:
        self.progress.sums = tuple(self.sums.tolist())
        self.progress.scheduler = self.scheduler.state_dict()
        save_checkpoint(self.accelerator, self.model, self.progress, self.fixed_arguments, self.args)

    def _exit(self, stop_signal: StopSignal) -> None:
        number = stop_signal.number or signal.SIGTERM  # which another process may have received
        logger.warning(
            f"Stopped by {signal.Signals(number).name} after step {self.progress.step}, which is saved: the same "
            "command with --resume_from_checkpoint resumes the run."
        )
        self.accelerator.end_training()
        raise SystemExit(128 + number)
