"""The quickstart from start to end: `run_scripts/quickstart.py` runs it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict

from feature_extraction import COLAFeatureExtractor, load_audio_dataset
from run_scripts.benchmark.probes import linear_evaluation
from run_scripts.benchmark.tables import format_table
from run_scripts.common.checkpoints import load_encoder
from run_scripts.common.errors import UserError
from run_scripts.common.files import make_output_dir, write_json
from run_scripts.common.plots import plot_accuracy_bars, plot_embedding_map
from run_scripts.embedding.embedders import LOG_MEL, encoder_embedder, log_mel_statistics, name_kind
from run_scripts.embedding.encode import embed_split
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.recipes import ModelSettings
from run_scripts.pretraining.train import train


MIN_CLIPS = 20


def write_synthetic_corpus(folder: str, seed: int) -> None:
    """
    Writes the labelled synthetic clips of the quickstart, which only a clone of the repository can make.

    Raises:
        `UserError`: if the code that makes them is not there.
    """
    try:
        from tools.synthesis.corpus import write_corpus
    except ModuleNotFoundError as error:
        raise UserError(
            "The synthetic clips are made by the repository, not by the installed package: run `make quickstart`, or "
            "`python -m run_scripts.quickstart` in a clone, or name a folder of audio with --data."
        ) from error
    write_corpus(folder, seed=seed)


def split_clips(splits: DatasetDict, seed: int) -> tuple[Dataset, Dataset | None]:
    """
    Splits a data set into clips to train on and clips to test on, which are the split `test` or else a fifth of each
    class. Without labels there are none to test on.
    """
    train = splits["train"] if "train" in splits else next(iter(splits.values()))
    if "label" not in train.features:
        print("There are no labels, as all files lie in one folder: the quickstart only pre-trains and draws plots.")
        return train, None
    if "test" in splits:
        return train, splits["test"]
    try:
        halves = train.train_test_split(0.2, seed=seed, stratify_by_column="label")
    except ValueError as error:
        print(f"A class has too few clips to hold some out ({error}): the quickstart only pre-trains and draws plots.")
        return train, None
    return halves["train"], halves["test"]


def pretrain(train_clips: Dataset, data: str, output_dir: Path, max_steps: int, seed: int) -> None:
    """Pre-trains the compact encoder on the clips, whose labels are not used."""
    train(
        PretrainingArguments(
            output_dir=str(output_dir),
            recipe="modern",
            # Some clips are held out, and some may be damaged: a batch of a few recordings needs some to spare.
            per_device_train_batch_size=min(64, len(train_clips) * 3 // 4),
            max_steps=max_steps,
            seed=seed,
            logging_steps=10,
            eval_steps=50,
            save_steps=100,
            save_total_limit=1,
            resume_from_checkpoint="latest",
        ),
        DataArguments(dataset_name=[data]),
        ModelSettings(encoder="compact", similarity="cosine", temperature=0.1),
        dataset=DatasetDict({"train": train_clips}),
    )


def compare(train_clips: Dataset, test_clips: Dataset, seed: int, name: str, output_dir: Path) -> dict[str, float]:
    """
    Prints, draws and returns the accuracy in % of linear evaluation of each method on the test clips, and draws a map
    of the embeddings of all clips.
    """
    checkpoint = str(output_dir)
    embedders = {
        LOG_MEL: log_mel_statistics(COLAFeatureExtractor()),
        f"{name_kind(checkpoint)}, random": encoder_embedder(*load_encoder(checkpoint, seed)),
        "COLA, frozen": encoder_embedder(*load_encoder(checkpoint)),
    }
    (train_vectors, _), (test_vectors, _) = (
        embed_split(embedders, clips, name) for clips in (train_clips, test_clips)
    )
    results = {
        method: linear_evaluation(
            train_vectors[method], train_clips["label"], test_vectors[method], test_clips["label"]
        )
        for method in embedders
    }
    classes = train_clips.features["label"].names
    plot_embedding_map(
        np.concatenate([train_vectors["COLA, frozen"], test_vectors["COLA, frozen"]]),
        output_dir / "clip_map.png",
        [classes[label] for clips in (train_clips, test_clips) for label in clips["label"]],
        title="Embeddings of all clips (t-SNE of h)",
    )
    print(f"\nLinear evaluation on {len(test_clips)} held-out clips of {len(classes)} classes, accuracy in %:\n")
    print(format_table(pd.DataFrame.from_dict({name: results}, orient="index")))
    plot_accuracy_bars({name: results}, output_dir / "comparison.png")
    write_json(output_dir / "results.json", results)
    return results


def print_next_steps(output_dir: Path) -> None:
    plots = ", ".join(sorted(path.name for path in output_dir.glob("*.png")))
    print(
        f"""
Plots in {output_dir}: {plots}

Load the checkpoint and embed audio:

    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained("{output_dir}", trust_remote_code=True)
    model = AutoModel.from_pretrained("{output_dir}", trust_remote_code=True)
    embedding = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).pooler_output  # [1, 1280]
"""
    )


def run_quickstart(data: str | None, output_dir: str | None, max_steps: int, seed: int) -> dict[str, float] | None:
    """
    Pre-trains on recordings, and compares the encoder with others if they have labels.

    Args:
        data (`str`, *optional*):
            A folder of audio files. Defaults to synthetic ones.
        output_dir (`str`, *optional*):
            The folder for all results. Defaults to one in `outputs/`, named after the data.
        max_steps (`int`):
            Steps of pre-training.
        seed (`int`):
            Seed of the corpus, the weights and the order.

    Returns:
        The accuracy of each method in %, if there are labels.

    Raises:
        `ValueError`: if there are too few recordings.
    """
    name = "synthetic" if data is None else re.sub(r"\W+", "-", Path(data).resolve().name)
    folder = Path(output_dir or f"outputs/quickstart-{name}-seed{seed}")
    make_output_dir(folder)
    if data is None:
        data = f"outputs/synthetic-audio-seed{seed}"
        write_synthetic_corpus(data, seed)

    train_clips, test_clips = split_clips(load_audio_dataset(data), seed)
    if len(train_clips) < MIN_CLIPS:
        raise UserError(f"{data} has {len(train_clips)} recordings to train on: at least {MIN_CLIPS} are needed.")
    pretrain(train_clips, data, folder, max_steps, seed)
    results = None
    if test_clips is not None:
        results = compare(train_clips, test_clips, seed, name, folder)
    print_next_steps(folder)
    return results
