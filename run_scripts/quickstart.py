"""
Pre-trains COLA in a few minutes on this machine and shows what it learnt: `make quickstart`.

Without `--data` it synthesises a small labelled corpus, pre-trains on it without the labels, and compares on held-out
clips what a linear classifier makes of log-mel statistics, of the random encoder and of the pre-trained one. With
`--data path/to/audio` it does the same on your own files, the comparison if they lie in a sub-folder for each class.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, DatasetDict
from transformers import HfArgumentParser

from feature_extraction import COLAFeatureExtractor, load_audio_dataset
from run_scripts import run_pretraining
from run_scripts.common.cpu import tune_cpu
from run_scripts.common.plots import plot_accuracy_bars
from run_scripts.common.synthetic_audio import write_corpus
from run_scripts.evaluation.embedders import LOG_MEL, load_encoders, log_mel_statistics
from run_scripts.evaluation.probes import evaluate_task
from run_scripts.run_benchmark import format_table


MIN_CLIPS = 20


@dataclass
class QuickstartArguments:
    data: str | None = field(default=None, metadata={"help": "A folder of audio files. Defaults to synthetic ones."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Where everything goes. Defaults to a folder in outputs/, one for each data."}
    )
    max_steps: int = field(default=300, metadata={"help": "Steps of pre-training."})
    seed: int = field(default=0, metadata={"help": "Of the corpus, the weights and the order."})


def split_clips(splits: DatasetDict, seed: int) -> tuple[Dataset, Dataset | None]:
    """Clips to train on, and those to test on: the split `test`, else a fifth of each class; none without labels."""
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


def main(argv: list[str] | None = None) -> dict[str, float] | None:
    """Runs it all and returns the accuracy of each method in %, if there are labels."""
    (args,) = HfArgumentParser(QuickstartArguments).parse_args_into_dataclasses(argv)
    tune_cpu()
    data, name = args.data, "synthetic"
    if data is None:
        data = f"outputs/synthetic-audio-seed{args.seed}"
        write_corpus(data, seed=args.seed)
    else:
        name = re.sub(r"\W+", "-", Path(data).resolve().name)
    output_dir = Path(args.output_dir or f"outputs/quickstart-{name}-seed{args.seed}")

    train, test = split_clips(load_audio_dataset(data), args.seed)
    if len(train) < MIN_CLIPS:
        raise ValueError(f"{data} has {len(train)} recordings to train on: at least {MIN_CLIPS} are needed.")
    run_pretraining.main(
        [
            *("--dataset_name", data, "--output_dir", str(output_dir), "--seed", str(args.seed)),
            *("--encoder", "compact", "--similarity", "cosine", "--temperature", "0.1", "--recipe", "modern"),
            # Some clips are held out, and some may be damaged: a batch of a few recordings needs some to spare.
            *("--per_device_train_batch_size", str(min(64, len(train) * 3 // 4))),
            *("--max_steps", str(args.max_steps), "--eval_steps", "50", "--logging_steps", "10"),
            *("--save_steps", "100", "--save_total_limit", "1", "--resume"),
        ],
        dataset=DatasetDict({"train": train}),
    )

    results = None
    if test is not None:
        embedders = {LOG_MEL: log_mel_statistics(COLAFeatureExtractor())} | load_encoders([str(output_dir)], args.seed)
        results = evaluate_task(train, test, embedders, "linear evaluation")
        results["COLA, frozen"] = results.pop(output_dir.name)
        num_classes = train.features["label"].num_classes
        print(f"\nLinear evaluation on {len(test)} held-out clips of {num_classes} classes, accuracy in %:\n")
        print(format_table({name: results}))
        plot_accuracy_bars({name: results}, output_dir / "comparison.png")
        (output_dir / "results.json").write_text(json.dumps(results, indent=2))

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
    return results


if __name__ == "__main__":
    main()
