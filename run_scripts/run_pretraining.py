"""
Pre-trains COLA on any audio, without labels.

    accelerate launch run_scripts/run_pretraining.py --dataset_name path/to/audio --output_dir cola-mine

`--dataset_name` is a folder of audio files, a folder or glob of Parquet, or a data set on the Hub. `--recipe` names a
set of values for the model, the optimiser and the augmentation, each of which is an argument too; the default is the
paper's. A run that was stopped resumes with the same command and `--resume_from_checkpoint`.
"""

import logging
from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.recipes import ModelSettings, TrainingSettings


def main(argv: list[str] | None = None) -> Path:
    """Runs the script with the arguments of a command line; returns and raises what `pretraining.train.train` does."""
    parser = ArgumentParser((PretrainingArguments, DataArguments, ModelSettings, TrainingSettings))
    args, data_args, model_settings, training_settings = parser.parse(argv)
    # Only now, so that --help and a wrong argument are quick.
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.quiet import quiet_libraries
    from run_scripts.pretraining.train import train

    logging.basicConfig(format="%(message)s")
    logging.getLogger("run_scripts").setLevel(logging.INFO)
    tune_cpu()
    with quiet_libraries():
        return train(args, data_args, model_settings, training_settings)


def run() -> None:
    """The console script `cola-pretrain`."""
    run_script(main)


if __name__ == "__main__":
    run()
