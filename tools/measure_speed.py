"""
Measures the speed of this project on this machine, beside what people would use in its place.

    python -m tools.measure_speed --output_dir outputs/speed
    python -m tools.measure_speed --output_dir outputs/speed --figures log_mel embedding

Everything that is compared has a process of its own, and the processes take turns, so that other load on the machine
affects all of them alike; the table has the medians. Libraries that are not installed are left out. The tables are
printed and saved as `speed.md`, with `speed.png` and a chart of time and memory for each input that grows.
"""

import os
import platform
import statistics
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from transformers import HfArgumentParser

from run_scripts.common.command_line import run_script
from tools.speed.figures import FIGURES, Figure
from tools.speed.growth import GROWTHS, Growth


NAMES = [*FIGURES, *GROWTHS]


@dataclass
class SpeedArguments:
    output_dir: str = field(metadata={"help": "Folder of the tables and the charts."})
    figures: list[str] = field(
        default_factory=lambda: NAMES, metadata={"help": f"What to measure: {', '.join(NAMES)}. Defaults to all."}
    )
    rounds: int = field(default=5, metadata={"help": "How many turns everything has."})
    quick: bool = field(default=False, metadata={"help": "Measure growth on small sizes only."})

    def __post_init__(self) -> None:
        if unknown := [name for name in self.figures if name not in NAMES]:
            raise ValueError(f"--figures must be among {', '.join(NAMES)}, got {', '.join(unknown)}.")
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}.")


def machine() -> str:
    """The processor, the number of its cores and threads that PyTorch uses, and the date."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    return f"{(names or [platform.machine()])[0]}, {threads} of {os.cpu_count()} cores, {date.today()}."


def figure_rows(figure: Figure, values: dict[str, float]) -> list[str]:
    """The rows of a figure: each value, and how many times as good the first one is."""
    first = next(iter(values.values()))
    rows = []
    for name, value in values.items():
        ratio = value / first if figure.is_time else first / value
        rows.append(f"| {figure.title} | {name} | {value:.3g} {figure.unit} | {ratio:.2f} |")
    return rows


def growth_rows(growth: Growth, points: dict[int, tuple[float, float]]) -> list[str]:
    """The rows of what grows."""
    return [
        f"| {growth.title} | {size:,} {growth.size} | {seconds:.3g} | {memory:.0f} |"
        for size, (seconds, memory) in points.items()
    ]


def format_tables(rows: list[str], grown_rows: list[str], notes: list[str]) -> str:
    """The tables as Markdown, those without rows left out."""
    text = [machine(), ""]
    if rows:
        text += ["| figure | measured | median | the first is better by |", "| --- | --- | ---: | ---: |", *rows, ""]
    if grown_rows:
        text += ["| growth | size | seconds | added MiB |", "| --- | --- | ---: | ---: |", *grown_rows, ""]
    return "\n".join([*text, *notes]).rstrip() + "\n"


def main(argv: list[str] | None = None) -> Path:
    """Runs the job with the arguments of a command line, by default those of the process, and returns its folder."""
    (args,) = HfArgumentParser(SpeedArguments).parse_args_into_dataclasses(argv)
    # Only now, so that --help is quick.
    from tqdm.auto import tqdm

    from tools.speed import charts, growth, turns

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results, rows, grown_rows, notes = [], [], [], []
    for name in tqdm(args.figures, desc="Measuring"):
        if name in GROWTHS:
            points = growth.measure(GROWTHS[name], args.quick)
            grown_rows += growth_rows(GROWTHS[name], points)
            charts.plot_growth(GROWTHS[name], points, folder / f"growth_{name}.png")
        else:
            seconds, left_out = turns.measure(FIGURES[name], args.rounds)
            values = {subject: FIGURES[name].value(statistics.median(times)) for subject, times in seconds.items()}
            results.append((FIGURES[name], values))
            rows += figure_rows(FIGURES[name], values)
            notes += left_out
            charts.plot_figures(results, folder / "speed.png")
        # After each figure, since all of them take a while.
        (folder / "speed.md").write_text(format_tables(rows, grown_rows, notes))
    print((folder / "speed.md").read_text(), end="")
    return folder


if __name__ == "__main__":
    run_script(main)
