"""
Linear evaluation of frozen encoders on labelled data sets.

    python run_scripts/run_benchmark.py --checkpoints cola-mine --tasks_dir path/to/tasks --output_dir results

Each folder in `--tasks_dir` is a task: Parquet or audio files with the splits `train` and `test` and a label. On each,
logistic regression is trained on the training clips' vectors and measured on the test clips: vectors of log-mel
statistics, of each checkpoint's encoder with random weights, and of the checkpoint.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from cpu import tune_cpu
from datasets import ClassLabel, Dataset, DatasetDict
from plots import plot_accuracy_bars
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm
from transformers import HfArgumentParser, set_seed

from feature_extraction import COLAFeatureExtractor, find_audio_column, load_audio, load_audio_dataset, undecoded
from modeling_cola import COLAConfig, COLAModel


LOG_MEL = "log-mel statistics"
Embedder = Callable[[list[np.ndarray]], np.ndarray]


@dataclass
class BenchmarkArguments:
    tasks_dir: str = field(metadata={"help": "A folder with one folder for each task."})
    output_dir: str = field(metadata={"help": "Where the table and the chart go."})
    checkpoints: list[str] = field(default_factory=list, metadata={"help": "Folders or Hub names of checkpoints."})
    tasks: list[str] | None = field(default=None, metadata={"help": "Names of tasks. Defaults to all in tasks_dir."})
    seed: int = field(default=0, metadata={"help": "Of the random encoders."})


def log_mel_statistics(extractor: COLAFeatureExtractor) -> Embedder:
    """The baseline that needs no encoder: mean, standard deviation and maximum of each mel band over the clip."""

    def embed(waveforms: list[np.ndarray]) -> np.ndarray:
        features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        mask = features["attention_mask"][..., None]
        values, count = features["input_values"], mask.sum(1)
        mean = (values * mask).sum(1) / count
        std = (((values - mean[:, None]) * mask).square().sum(1) / count).sqrt()
        maximum = values.masked_fill(mask == 0, -torch.inf).amax(1)
        return torch.cat([mean, std, maximum], dim=1).numpy()

    return embed


def encoder_embedder(model: COLAModel, extractor: COLAFeatureExtractor) -> Embedder:
    """h averaged over the clip's windows."""
    device = model.device
    model.eval()

    @torch.inference_mode()
    def embed(waveforms: list[np.ndarray]) -> np.ndarray:
        features = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(device)
        return model(**features).pooler_output.float().cpu().numpy()

    return embed


def read_waveforms(dataset: Dataset, sampling_rate: int, description: str) -> list[np.ndarray]:
    """Decodes all of a data set's clips."""
    column = find_audio_column(dataset)
    rows = undecoded(dataset.select_columns([column]), column)
    return [load_audio(row[column], sampling_rate) for row in tqdm(rows, desc=description, leave=False)]


def embed_all(embed: Embedder, waveforms: list[np.ndarray], description: str, batch_size: int = 32) -> np.ndarray:
    """Embeds clips in batches of similar length: `[N, D]`, in their order."""
    order = np.argsort([len(waveform) for waveform in waveforms], kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    vectors = [
        embed([waveforms[i] for i in batch]) for batch in tqdm(batches, desc=description, leave=False, unit="batch")
    ]
    return np.concatenate(vectors)[np.argsort(order)]


def linear_evaluation(
    train_vectors: np.ndarray, train_labels: Iterable[int], test_vectors: np.ndarray, test_labels: Iterable[int]
) -> float:
    """Test accuracy in % of logistic regression on standardised vectors."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is not settled after 1,000 steps is good enough
        classifier.fit(train_vectors, list(train_labels))
    return 100 * classifier.score(test_vectors, list(test_labels))


def find_tasks(tasks_dir: str, names: list[str] | None) -> list[Path]:
    """
    Raises:
        `FileNotFoundError`: if there is no such folder or task.
    """
    folders = sorted(path for path in Path(tasks_dir).expanduser().glob("*") if path.is_dir())
    if not folders:
        raise FileNotFoundError(f"{tasks_dir} holds no folders: each task is a folder with train and test clips.")
    missing = set(names or []) - {folder.name for folder in folders}
    if missing:
        found = ", ".join(folder.name for folder in folders)
        raise FileNotFoundError(f"No task {', '.join(sorted(missing))} in {tasks_dir}; there are {found}.")
    return [folder for folder in folders if names is None or folder.name in names]


def load_labelled(name: str) -> DatasetDict:
    """
    The splits `train` and `test` of a labelled data set.

    Raises:
        `ValueError`: if one is missing or has no labels.
    """
    splits = load_audio_dataset(name)
    for split in ("train", "test"):
        if split not in splits or not isinstance(splits[split].features.get("label"), ClassLabel):
            raise ValueError(f"{name} needs the splits train and test, each with a ClassLabel named 'label'.")
    return DatasetDict({split: splits[split] for split in ("train", "test")})


def evaluate_task(train: Dataset, test: Dataset, embedders: dict[str, Embedder], name: str) -> dict[str, float]:
    """Accuracy in % of each embedder."""
    extractor = COLAFeatureExtractor()
    waveforms = [read_waveforms(split, extractor.sampling_rate, f"{name}: decoding") for split in (train, test)]
    return {
        method: linear_evaluation(
            embed_all(embed, waveforms[0], f"{name}: {method}"),
            train["label"],
            embed_all(embed, waveforms[1], f"{name}: {method}"),
            test["label"],
        )
        for method, embed in embedders.items()
    }


def format_table(table: dict[str, dict[str, float]]) -> str:
    """A Markdown table: tasks are rows, methods columns, and the last row of several the mean."""
    methods = list(next(iter(table.values())))
    means = {method: float(np.mean([row[method] for row in table.values()])) for method in methods}
    lines = ["| task | " + " | ".join(methods) + " |", "| --- |" + " ---: |" * len(methods)]
    for name, row in [*table.items(), *([("mean", means)] if len(table) > 1 else [])]:
        lines.append(f"| {name} | " + " | ".join(f"{row[method]:.1f}" for method in methods) + " |")
    return "\n".join(lines)


def load_encoders(checkpoints: list[str], seed: int) -> dict[str, Embedder]:
    """For each checkpoint its encoder with random weights, once for each kind of encoder, and the encoder itself."""
    embedders = {}
    for checkpoint in checkpoints:
        extractor = COLAFeatureExtractor.from_pretrained(checkpoint)
        config = COLAConfig.from_pretrained(checkpoint)
        random_name = f"{config.encoder}, random"
        if random_name not in embedders:
            set_seed(seed)
            embedders[random_name] = encoder_embedder(COLAModel(config), extractor)
        embedders[Path(checkpoint).name] = encoder_embedder(COLAModel.from_pretrained(checkpoint), extractor)
    return embedders


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Runs the job and returns the table: accuracy in % by task and method."""
    (args,) = HfArgumentParser(BenchmarkArguments).parse_args_into_dataclasses(argv)
    tune_cpu()
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    embedders = {LOG_MEL: log_mel_statistics(COLAFeatureExtractor())} | load_encoders(args.checkpoints, args.seed)
    table = {}
    for folder in tqdm(find_tasks(args.tasks_dir, args.tasks), desc="Tasks"):
        started = time.perf_counter()
        splits = load_labelled(str(folder))
        table[folder.name] = evaluate_task(splits["train"], splits["test"], embedders, folder.name)
        row = ", ".join(f"{method} {accuracy:.1f}" for method, accuracy in table[folder.name].items())
        tqdm.write(f"{folder.name}: {row} ({time.perf_counter() - started:.0f} s)")
    (output_dir / "results.json").write_text(json.dumps(table, indent=2))
    (output_dir / "results.md").write_text(format_table(table) + "\n")
    plot_accuracy_bars(table, output_dir / "results.png")
    print(format_table(table))
    return table


if __name__ == "__main__":
    main()
