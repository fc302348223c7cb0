"""
Pre-trains a COLA encoder on any audio, without labels.

    accelerate launch run_scripts/run_pretraining.py --dataset_name path/to/audio --output_dir cola-mine
    python run_scripts/run_pretraining.py --recipe best --max_steps 1000 --output_dir cola-synthetic

`--dataset_name` is a folder of audio files, a data set on the Hub, or any other data that docs/data.md lists. Without
it, the encoder is trained on pairs of synthetic sounds. `--recipe` names a set of values for the model, the optimiser
and the augmentation: 'paper' has the paper's, and 'best' those for hours of audio and a small machine. Each value is
an argument as well. A run that was stopped resumes with the same command and `--resume_from_checkpoint`.

The output folder receives checkpoints, the model with its feature extractor, a model card, plots of the training, and
`skipped_<process>.tsv`, which lists clips that cannot be used.
"""

from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script, start_logging
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

    start_logging()
    tune_cpu()
    with quiet_libraries():
        return train(args, data_args, model_settings, training_settings)


def run() -> None:
    """The console script `cola-pretrain`."""
    run_script(main)


if __name__ == "__main__":
    run()
