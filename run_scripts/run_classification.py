"""
Trains a classifier on labelled clips, by linear evaluation of a checkpoint or by fine-tuning it.

    python run_scripts/run_classification.py --model_name_or_path cola-mine --mode fine-tuned \
        --dataset_name path/to/clips --output_dir my-classifier
    python run_scripts/run_classification.py --model_name_or_path cola-mine --mode frozen \
        --task nsynth --data_dir path/to/nsynth --output_dir nsynth-frozen

`--dataset_name` is a folder of audio files with a sub-folder for each class, a folder of Parquet files, or a data set
on the Hub. `--task` is one of the paper's nine tasks, read as its publisher lays it out. A clip has one label, or
several; in that case its label is a list of classes or a vector of 0 and 1. Clips with the same value in a column
`group`, such as a speaker, stay together when clips are held out. `--skip_bad_clips` leaves out clips that cannot be
used; without it the first one is an error.

The defaults are the paper's protocol (arXiv 2010.10915, section 3, "downstream"): training on random segments of
0.96 s, testing on the mean of the logits of a clip's windows, Adam with a learning rate of 1e-3, batches of 64, and
100 epochs. All other arguments of the Trainer are taken as well.

The split `validation` decides which epoch's weights are kept. Without it, a tenth of the training clips is held out
for this; if those are too few, the last epoch's weights are kept. The final metrics are those on the
split `test` or, without one, on a fifth of the training clips, which is held out first.

A frozen encoder gives the same vectors in every epoch, so clips are embedded once and the vectors are kept on disk
(`--embedding_cache`). A run that was interrupted continues from its newest checkpoint with `--resume_from_checkpoint`,
and `--overwrite_output_dir` replaces an earlier run in the folder.

The output folder receives the model, its feature extractor, a model card, `results.json`, and plots of the metrics by
class. The exit status is not 0 if one of these is missing or has no metrics, except for the plots: if they cannot be
drawn, a warning says why.
"""

import json
import sys
from pathlib import Path
from typing import Any

from run_scripts.classification.arguments import DataArguments, ModelArguments, ProtocolArguments
from run_scripts.common.command_line import ArgumentParser, run_script, start_logging


TRAINER_PAGE = "https://huggingface.co/docs/transformers/main_classes/trainer"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the script with command-line arguments and returns what [`train_classifier`] returns."""
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(argv):  # which need not wait for the libraries, nor list the Trainer's 100 arguments
        epilog = f"All other arguments of the Trainer are taken as well: {TRAINER_PAGE}"
        ArgumentParser((ModelArguments, DataArguments, ProtocolArguments), epilog=epilog).parse_args(["--help"])
    from run_scripts.classification.train import train_classifier
    from run_scripts.classification.trainer import ClassificationArguments
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.lock import locked
    from run_scripts.common.quiet import quiet_libraries

    parser = ArgumentParser((ModelArguments, DataArguments, ClassificationArguments), allow_abbrev=False)
    model_args, data_args, args = parser.parse(argv)
    start_logging(is_main_process=args.process_index == 0)
    tune_cpu()
    with locked(Path(args.output_dir), args.process_index == 0), quiet_libraries():
        results = train_classifier(model_args, data_args, args)
    if args.process_index == 0:
        print(json.dumps(results, indent=2))
    return results


def run() -> None:
    """The console script `cola-classify`."""
    run_script(main)


if __name__ == "__main__":
    run()
