"""
Finds out when each sound occurs in recordings of any length, with a classifier. It writes a table of events and, for
each recording, a label track for Audacity and a plot of the labels' scores over time.

    python run_scripts/run_detection.py --dataset_name garden.wav --model_name_or_path my-classifier \
        --output_dir timeline
    python run_scripts/run_detection.py --dataset_name path/to/recordings --model_name_or_path my-classifier \
        --output_dir timeline --threshold 0.7 --ignore_labels background

`run_classification.py` trains the classifier on short labelled clips. Each recording is cut into windows of 0.96 s, a
new one every `--hop` seconds. A label is present in a window if its score, the classifier's probability, reaches
`--threshold`. If the classifier gives a clip one label, only the most probable label can be present; if it may give
several, each is judged by itself. Neighbouring windows with the same label make an event, whose score is their mean.

The output folder receives `events.csv` and `events.parquet` with the columns file, start and end (in seconds), label
and score, a file for each recording in `labels/` and `plots/`, and `skipped.tsv`, which lists recordings that cannot
be used. The tables are written at the end of the run, and replace those of an earlier one.

Silence has no label, but any other sound that the classifier does not know may become an event of the label that is
most similar to it. To avoid this, train the classifier with a class of such sounds, and leave this class out with
`--ignore_labels`.
"""

from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script, start_logging
from run_scripts.detection.arguments import DetectionArguments, EventArguments


def main(argv: list[str] | None = None) -> Path:
    """Runs the script with command-line arguments and returns the path of the table of events."""
    args, event_args = ArgumentParser((DetectionArguments, EventArguments)).parse(argv)
    # Only now, so that --help and a wrong argument are quick.
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.lock import locked
    from run_scripts.detection.detect import detect_sounds

    start_logging()
    tune_cpu()
    with locked(args.output_path):
        return detect_sounds(args, event_args)


def run() -> None:
    """The console script `cola-detect`."""
    run_script(main)


if __name__ == "__main__":
    run()
