"""
Decodes audio once and writes it to shards of 16 kHz mono clips, from which pre-training reads segments fast.

    python run_scripts/prepare_audio.py --dataset_name path/to/audio --output_dir prepared
    python run_scripts/run_pretraining.py --dataset_name prepared --streaming --output_dir cola-mine

`--dataset_name` is a folder of audio files, a data set on the Hub, or any other data that docs/data.md lists. The
shards are Parquet files and keep all other columns. A run that was stopped continues with the same
command. Clips that cannot be used are listed in `skipped.tsv` (kind, name, reason), and `report.json` has the
totals.
"""

from typing import Any

from run_scripts.common.command_line import ArgumentParser, run_script, start_logging
from run_scripts.common.source_arguments import SourceArguments
from run_scripts.preparation.arguments import PreparationArguments


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the script with command-line arguments and returns its report."""
    source, args = ArgumentParser((SourceArguments, PreparationArguments)).parse(argv)
    # Only now, so that --help and a wrong argument are quick.
    from run_scripts.common.processes import joined_processes
    from run_scripts.common.quiet import quiet_libraries
    from run_scripts.preparation.prepare import prepare

    with joined_processes(cpu=True) as processes, quiet_libraries():
        start_logging(is_main_process=processes.is_main_process)
        return prepare(source, args)


if __name__ == "__main__":
    run_script(main)
