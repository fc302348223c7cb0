"""
Pre-trains COLA in a few minutes on this machine and shows what it has learnt: `make quickstart`.

Without `--data` it synthesises a small labelled corpus, pre-trains on it without the labels, and compares how well a
linear classifier tells held-out clips apart by log-mel statistics, by an encoder with random weights and by the
pre-trained one. With `--data path/to/audio` it pre-trains on your own files, and makes the same comparison if they lie
in a sub-folder for each class.
"""

import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import HfArgumentParser

from feature_extraction import COLAFeatureExtractor, load_audio_dataset
from run_scripts.common.command_line import run_job
from run_scripts.common.cpu import tune_cpu
from run_scripts.common.plots import plot_accuracy_bars, plot_embedding_map
from run_scripts.common.synthetic_audio import write_corpus
from run_scripts.evaluation.embedders import LOG_MEL, embed_clips, load_encoders, log_mel_statistics
from run_scripts.evaluation.probes import linear_evaluation
from run_scripts.evaluation.results import format_table
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.job import train
from run_scripts.pretraining.recipes import ModelSettings


MIN_CLIPS = 20


@dataclass
class QuickstartArguments:
    data: str | None = field(default=None, metadata={"help": "A folder of audio files. Defaults to synthetic ones."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for all results. Defaults to one in outputs/, named after the data."}
    )
    max_steps: int = field(default=300, metadata={"help": "Steps of pre-training."})
    seed: int = field(default=0, metadata={"help": "Seed of the corpus, the weights and the order."})


def split_clips(splits: DatasetDict, seed: int) -> tuple[Dataset, Dataset | None]:
    """
    Splits a data set into clips to train on and clips to test on, which are the split `test` or else a fifth of each
    class. Without labels there are none to test on.
    """
    train = splits["train"] if "train" in splits else next(iter(splits.values()))
    if "label" not in train.features:
        print("No labels (there is one folder, or none): pre-training and plots only.")
        return train, None
    if "test" in splits:
        return train, splits["test"]
    try:
        halves = train.train_test_split(0.2, seed=seed, stratify_by_column="label")
    except ValueError as error:
        print(f"Too few clips of a class to hold some out ({error}): pre-training and plots only.")
        return train, None
    return halves["train"], halves["test"]


def pretrain(train_clips: Dataset, args: QuickstartArguments, data: str, output_dir: Path) -> None:
    """Pre-trains the compact encoder on the clips, whose labels are not used."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("run_scripts").setLevel(logging.INFO)
    train(
        PretrainingArguments(
            output_dir=str(output_dir),
            recipe="modern",
            # Some clips are held out, and some may be damaged: a batch of a few recordings needs some to spare.
            per_device_train_batch_size=min(64, len(train_clips) * 3 // 4),
            max_steps=args.max_steps,
            seed=args.seed,
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
    embedders = {LOG_MEL: log_mel_statistics(COLAFeatureExtractor())} | load_encoders([str(output_dir)], seed)
    embedders["COLA, frozen"] = embedders.pop(output_dir.name)
    (train_vectors, _), (test_vectors, _) = (
        embed_clips(embedders, clips, name) for clips in (train_clips, test_clips)
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
    print(format_table({name: results}))
    plot_accuracy_bars({name: results}, output_dir / "comparison.png")
    (output_dir / "results.json").write_text(json.dumps(results, indent=2))
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


def main(argv: list[str] | None = None) -> dict[str, float] | None:
    """
    Runs all of it.

    Returns:
        The accuracy of each method in %, if there are labels.

    Raises:
        `ValueError`: if there are too few recordings.
    """
    (args,) = HfArgumentParser(QuickstartArguments).parse_args_into_dataclasses(argv)
    tune_cpu()
    data, name = args.data, "synthetic"
    if data is None:
        data = f"outputs/synthetic-audio-seed{args.seed}"
        write_corpus(data, seed=args.seed)
    else:
        name = re.sub(r"\W+", "-", Path(data).resolve().name)
    output_dir = Path(args.output_dir or f"outputs/quickstart-{name}-seed{args.seed}")

    train_clips, test_clips = split_clips(load_audio_dataset(data), args.seed)
    if len(train_clips) < MIN_CLIPS:
        raise ValueError(f"{data} has {len(train_clips)} recordings to train on: at least {MIN_CLIPS} are needed.")
    pretrain(train_clips, args, data, output_dir)
    results = None
    if test_clips is not None:
        results = compare(train_clips, test_clips, args.seed, name, output_dir)
    print_next_steps(output_dir)
    return results


if __name__ == "__main__":
    run_job(main)
