"""
Compares checkpoints on labelled tasks: how well can sounds be told apart by their embeddings?

    python run_scripts/run_benchmark.py --checkpoints cola-mine --tasks_dir path/to/tasks --output_dir results

Each folder in `--tasks_dir` is a task: Parquet or audio files with the splits `train` and `test` and the column
`label`. A folder with the name of one of the paper's tasks (such as `nsynth`) may also hold the data as published. For
such a task, the tables show the accuracies that the paper reports as well.

`--modes` are the methods to compare:

    log-mel       statistics of the log-mel spectrogram, without an encoder
    random        the checkpoint's encoder with random weights, frozen
    supervised    the encoder with random weights, trained on the task
    frozen        the checkpoint's encoder, frozen
    fine-tuned    the checkpoint's encoder, trained on the task

There are three tables. The first shows classifiers that are trained as in the paper and as run_classification.py
trains them: with Adam on random windows of 0.96 s, and tested on the mean of the logits of a clip's windows. In the
modes `random` and `frozen`, such a classifier is a linear layer. The other tables show logistic regression and nearest
neighbours, on standardised embeddings of whole clips.

The modes that train the encoder do so for 20 epochs, with batches of 64 clips and a constant learning rate as in the
paper. For a few hundred clips these are too few steps: `--batch_size 16 --lr_scheduler_type linear` takes four times
as many in the same time.

The results of each method on each task are kept in a file of their own. After an interruption, the same command
continues where it stopped; after a change, it evaluates only what the change affects.

Tasks that are not labelled clips are left out with a warning. If methods are missing from the tables because of a clip
that cannot be used or of a full disk, the other results are written and the exit status is not 0. `--skip_bad_clips`
leaves such clips out.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from run_scripts.benchmark.arguments import BenchmarkArguments
from run_scripts.common.command_line import ArgumentParser, run_script, start_logging


if TYPE_CHECKING:
    import pandas


def main(argv: list[str] | None = None) -> "dict[str, pandas.DataFrame]":
    """Runs the script with command-line arguments and returns what [`evaluate`] returns."""
    (args,) = ArgumentParser(BenchmarkArguments).parse(argv)
    # Only now, so that --help and a wrong argument are quick.
    from run_scripts.benchmark.evaluate import evaluate
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.lock import locked

    start_logging("run_scripts.benchmark.evaluate")
    tune_cpu()
    with locked(Path(args.output_dir)):
        return evaluate(args)


def run() -> None:
    """The console script `cola-benchmark`."""
    run_script(main)


if __name__ == "__main__":
    run()
