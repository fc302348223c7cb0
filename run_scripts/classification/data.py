"""The clips that a classifier is trained on: loading them, and embedding or decoding them for the Trainer."""

import logging
from pathlib import Path

import torch
from datasets import Dataset

from feature_extraction import ClipDecoder, COLAFeatureExtractor, undecoded
from modeling_cola import COLAModel
from run_scripts.classification.arguments import DataArguments
from run_scripts.classification.bad_clips import drop_bad_clips
from run_scripts.classification.labels import LabelledClips, load_rows, prepare_clips
from run_scripts.classification.paper_tasks import TASKS
from run_scripts.classification.trainer import ClassificationArguments
from run_scripts.common.skipped import SKIPPED, count_kinds, write_skipped
from run_scripts.embedding.cache import embed_cached


logger = logging.getLogger(__name__)


def load_clips(data_args: DataArguments, args: ClassificationArguments) -> LabelledClips:
    """Loads the clips, leaves out and lists those that cannot be used if asked to, and splits them."""
    if data_args.task is not None:
        splits = TASKS[data_args.task].load(data_args.data_dir)
    else:
        splits = load_rows(
            data_args.dataset_name,
            data_args.dataset_config_name,
            data_args.allow_remote_audio,
            data_args.audio_column,
        )
    if data_args.skip_bad_clips:
        splits, notes = drop_bad_clips(
            splits, data_args.audio_column, args.dataloader_num_workers, name=data_args.name
        )
        if notes:
            logger.warning(f"Skipped: {count_kinds(notes)}; {args.output_dir}/{SKIPPED} lists them.")
        if args.process_index == 0:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            write_skipped(Path(args.output_dir), notes)
    return prepare_clips(splits, data_args.label_column, args.seed, data_args.audio_column)


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


def prepare_splits(
    extractor: COLAFeatureExtractor, clips: LabelledClips, window_size: int
) -> tuple[Dataset, Dataset, Dataset]:
    """
    Prepares the training, validation and test clips to be decoded as they are needed: training clips when they are
    accessed, as random segments of `window_size` frames, and the others by a [`ClipCollator`].
    """
    columns = clips.audio_column, clips.label_column
    train, validation, test = (
        undecoded(split.select_columns(list(columns)), clips.audio_column)
        for split in (clips.train, clips.validation, clips.test)
    )
    return train.with_transform(ClipDecoder(extractor, *columns, num_frames=window_size)), validation, test
