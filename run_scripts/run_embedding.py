"""
Embeds audio, with a vector for each clip or for each window of 0.96 s, and finds clips that sound alike.

    python run_scripts/run_embedding.py --dataset_name path/to/audio --output_dir vectors
    python run_scripts/run_embedding.py --output_dir vectors --query dog.wav
    python run_scripts/run_embedding.py --output_dir vectors --map
    python run_scripts/run_embedding.py --output_dir vectors --push_to_hub

`--dataset_name` is a folder of audio files, a data set on the Hub, or any other data that docs/data.md lists. All of
its splits are embedded, to Parquet files `part-*.parquet` in the output folder, which have a row for each clip: its
number, path, length in seconds, label if it has one, and vector. With `--windows` they have a row for each window,
with its time. `datasets.load_dataset("parquet", data_dir=...)` reads them. A run that was stopped continues
with the same command. Clips that cannot be used are skipped and listed in `skipped.tsv`.

`--query` prints the clips, or the windows, that are most similar to a file; `--query file.wav@12.5` searches with the
window of the file at 12.5 s. `--map` writes `map.html`, a page that shows each clip as a point near those that sound
like it, and plays the clip that you click. `--push_to_hub` pushes the vectors to a data set on the Hub, which
`datasets.load_dataset` loads; paths are pushed relative to the folder of the data. None of these embeds the clips
again.
"""

from typing import Any

from run_scripts.common.command_line import ArgumentParser, run_script, start_logging
from run_scripts.embedding.arguments import EmbeddingArguments


def main(argv: list[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Runs the script with command-line arguments and returns what was found for each query."""
    (args,) = ArgumentParser(EmbeddingArguments).parse(argv)
    # Only now, so that --help and a wrong argument are quick.
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.hub import create_hub_repository
    from run_scripts.common.lock import locked
    from run_scripts.common.processes import joined_processes
    from run_scripts.embedding.embed import embed_dataset
    from run_scripts.embedding.map import write_map
    from run_scripts.embedding.parts import read_settings
    from run_scripts.embedding.search import search_all
    from run_scripts.embedding.sharing import push_vectors

    with joined_processes() as processes:
        start_logging(is_main_process=processes.is_main_process)
        tune_cpu()
        if args.dataset_name is None:
            read_settings(args.output_path)  # before a repository is created for a folder without vectors
        if args.push_to_hub and processes.is_main_process:
            repo_id = create_hub_repository(args.hub_dataset_id, args.output_path, "dataset")
        if args.dataset_name is not None:
            with locked(args.output_path, processes.is_main_process):
                embed_dataset(args)
    if not processes.is_main_process:
        return {}
    if args.push_to_hub:
        push_vectors(args.output_path, repo_id)
    if args.map:
        write_map(args)
    return search_all(args) if args.query else {}


def run() -> None:
    """The console script `cola-embed`."""
    run_script(main)


if __name__ == "__main__":
    run()
