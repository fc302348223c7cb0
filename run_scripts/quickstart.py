"""
Pre-trains COLA in a few minutes on this machine and shows what it has learnt: `make quickstart`.

Without `--data` it synthesises a small labelled corpus, pre-trains on it without the labels, and compares how well a
linear classifier tells held-out clips apart by log-mel statistics, by an encoder with random weights and by the
pre-trained one. With `--data path/to/audio` it pre-trains on your own files, and makes the same comparison if they lie
in a sub-folder for each class.
"""

from dataclasses import dataclass, field

from run_scripts.common.command_line import ArgumentParser, run_script, start_logging
from run_scripts.common.errors import UserError
from run_scripts.pretraining.arguments import check_seed


@dataclass
class QuickstartArguments:
    data: str | None = field(default=None, metadata={"help": "A folder of audio files. Defaults to synthetic ones."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for all results. Defaults to one in outputs/, named after the data."}
    )
    max_steps: int = field(default=300, metadata={"help": "Steps of pre-training."})
    seed: int = field(default=0, metadata={"help": "Seed of the corpus, the weights and the order."})

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise UserError(f"--max_steps must be at least 1, got {self.max_steps}.")
        check_seed(self.seed)


def main(argv: list[str] | None = None) -> dict[str, float] | None:
    """Runs the script with the arguments of a command line; returns and raises what `run_quickstart` does."""
    (args,) = ArgumentParser(QuickstartArguments).parse(argv)
    # Only now, so that --help and a wrong argument are quick.
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.quiet import quiet_libraries
    from run_scripts.demo.quickstart import run_quickstart

    start_logging()
    tune_cpu()
    with quiet_libraries():
        return run_quickstart(args.data, args.output_dir, args.max_steps, args.seed)


if __name__ == "__main__":
    run_script(main)
