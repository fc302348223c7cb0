"""
Measures the speed of this project on this machine, and compares it with other libraries that do the same.

    python -m tools.measure_speed --output_dir outputs/speed
    python -m tools.measure_speed --output_dir outputs/speed --figures log_mel embedding

Everything that is compared has a process of its own, and the processes run one after another in rounds, so that other
load on the machine affects all of them alike; the table has the medians. Libraries that are not installed are left
out. The tables are printed and saved as `speed.md`, with `speed.png` and a chart of time and memory for each input
that grows.
"""

import os
import platform
import statistics
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script
from tools.speed.comparisons import COMPARISONS, Comparison
from tools.speed.growth import GROWTHS, Growth


NAMES = [*COMPARISONS, *GROWTHS]


@dataclass
class SpeedArguments:
    output_dir: str = field(metadata={"help": "Folder of the tables and the charts."})
    figures: list[str] = field(
        default_factory=lambda: NAMES, metadata={"help": f"What to measure: {', '.join(NAMES)}. Defaults to all."}
    )
    rounds: int = field(default=5, metadata={"help": "How many times everything runs."})
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


def comparison_rows(comparison: Comparison, values: dict[str, float]) -> list[str]:
    """The rows of a comparison: each value, and how many times as fast the first one, this project, is."""
    first = next(iter(values.values()))
    rows = []
    for name, value in values.items():
        ratio = value / first if comparison.is_time else first / value
        rows.append(f"| {comparison.title} | {name} | {value:.3g} {comparison.unit} | {ratio:.2f} |")
    return rows


def growth_rows(growth: Growth, points: dict[int, tuple[float, float]]) -> list[str]:
    """The rows of a task whose input grows."""
    return [
        f"| {growth.title} | {size:,} {growth.size} | {seconds:.3g} | {memory:.0f} |"
        for size, (seconds, memory) in points.items()
    ]


def format_tables(rows: list[str], grown_rows: list[str], notes: list[str]) -> str:
    """The tables as Markdown, those without rows left out."""
    text = [machine(), ""]
    if rows:
        text += ["| task | library | median | speed-up of this project |", "| --- | --- | ---: | ---: |", *rows, ""]
    if grown_rows:
        text += ["| task | input | seconds | added memory in MiB |", "| --- | --- | ---: | ---: |", *grown_rows, ""]
    return "\n".join([*text, *notes]).rstrip() + "\n"


def plot_comparisons(results: list[tuple[Comparison, dict[str, float]]], path: Path) -> None:
    """Draws a bar for the value of each subject, with a panel for each comparison."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 + sum(0.6 + 0.3 * len(values) for _, values in results)), layout="constrained")
    axes = figure.subplots(len(results), squeeze=False, height_ratios=[2 + len(values) for _, values in results])
    for axis, (comparison, values) in zip(axes[:, 0], results):
        colours = ["C0", *["C7"] * (len(values) - 1)]
        bars = axis.barh(list(values), list(values.values()), color=colours)
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(
            f"{comparison.title} ({comparison.unit}; {'less' if comparison.is_time else 'more'} is better)", fontsize=9
        )
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)


def plot_growth(growth: Growth, points: dict[int, tuple[float, float]], path: Path) -> None:
    """Draws time and memory over the size, on logarithmic axes, where what grows in proportion has the slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axis, label, values in zip(figure.subplots(1, 2), ("Seconds", "Added memory (MiB)"), zip(*points.values())):
        axis.plot(list(points), [max(value, 1e-3) for value in values], marker="o")
        axis.set(xlabel=growth.size.capitalize(), ylabel=label, xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    figure.suptitle(growth.title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> Path:
    """Runs the script with command-line arguments and returns its folder."""
    (args,) = ArgumentParser(SpeedArguments).parse(argv)
    # Only now, so that --help is quick.
    from tqdm.auto import tqdm

    from tools.speed import growth, rounds

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results, rows, grown_rows, notes = [], [], [], []
    for name in tqdm(args.figures, desc="Measuring"):
        if name in GROWTHS:
            points = growth.measure(GROWTHS[name], args.quick)
            grown_rows += growth_rows(GROWTHS[name], points)
            plot_growth(GROWTHS[name], points, folder / f"growth_{name}.png")
        else:
            seconds, left_out = rounds.measure(COMPARISONS[name], args.rounds)
            values = {subject: COMPARISONS[name].value(statistics.median(times)) for subject, times in seconds.items()}
            results.append((COMPARISONS[name], values))
            rows += comparison_rows(COMPARISONS[name], values)
            notes += left_out
            plot_comparisons(results, folder / "speed.png")
        # After each figure, since all of them take a while.
        (folder / "speed.md").write_text(format_tables(rows, grown_rows, notes))
    print((folder / "speed.md").read_text(), end="")
    return folder


if __name__ == "__main__":
    run_script(main)
