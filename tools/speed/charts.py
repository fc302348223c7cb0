"""The charts of `measure_speed.py`."""

from pathlib import Path

from matplotlib.figure import Figure as Canvas

from tools.speed.figures import Figure
from tools.speed.growth import Growth


def plot_figures(results: list[tuple[Figure, dict[str, float]]], path: Path) -> None:
    """Draws a bar for the value of each subject, with a panel for each figure."""
    canvas = Canvas(figsize=(8, 0.6 + sum(0.6 + 0.3 * len(values) for _, values in results)), layout="constrained")
    axes = canvas.subplots(len(results), squeeze=False, height_ratios=[2 + len(values) for _, values in results])
    for axis, (figure, values) in zip(axes[:, 0], results):
        colours = ["C0", *["C7"] * (len(values) - 1)]
        bars = axis.barh(list(values), list(values.values()), color=colours)
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(f"{figure.title} ({figure.unit}; {'less' if figure.is_time else 'more'} is better)", fontsize=9)
        axis.tick_params(labelsize=8)
    canvas.savefig(path, dpi=120)


def plot_growth(growth: Growth, points: dict[int, tuple[float, float]], path: Path) -> None:
    """Draws time and memory over the size, on logarithmic axes, where what grows in proportion has the slope 1."""
    canvas = Canvas(figsize=(8, 3.2), layout="constrained")
    for axis, label, values in zip(canvas.subplots(1, 2), ("Seconds", "Added memory (MiB)"), zip(*points.values())):
        axis.plot(list(points), [max(value, 1e-3) for value in values], marker="o")
        axis.set(xlabel=growth.size.capitalize(), ylabel=label, xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    canvas.suptitle(growth.title, fontsize=10)
    canvas.savefig(path, dpi=120)
