"""The plots that the scripts draw, each of which is saved as an image file."""

import logging
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE


logger = logging.getLogger(__name__)

MAX_CLASS_BARS = 60
# Longer names of classes are cut in the middle, since both ends may tell them apart.
NAME_CHARACTERS = 32
# A map tells so many labels apart: 20 colours with two markers. The points are smaller where there are more of them.
MAX_COLOURED_LABELS, POINTS_OF_FULL_SIZE = 40, 2000
LEGEND_CHARACTERS = 36
# Labels of more bars in a group are turned. A bar, with its share of the gaps, has at least this width in inches.
MAX_LEVEL_LABELS, BAR_WIDTH = 3, 0.2


def find_fonts(characters: str, plot: str) -> list[str]:
    """
    Finds the font families that together have all characters, the default one first.

    Characters that no installed font has are drawn as boxes, and a warning says so.
    """
    families = list(matplotlib.rcParams["font.family"])
    missing = {ord(character) for character in characters if character.isprintable()}
    missing -= _characters(findfont(FontProperties(family=families)))
    for font in fontManager.ttflist if missing else ():
        if "Last Resort" in font.name:
            continue  # It has a box for each character.
        if found := missing & _characters(font.fname):
            families.append(font.name)
            missing -= found
    if missing:
        shown = "".join(map(chr, sorted(missing)[:20]))
        logger.warning(
            f"{plot}: no installed font has the characters {shown}, which are drawn as boxes. Install a font that has "
            "them, such as Noto Sans CJK."
        )
    return families


@cache
def _characters(font_file: str) -> frozenset[int]:
    try:
        return frozenset(get_font(font_file).get_charmap())
    except (OSError, RuntimeError):  # a font that matplotlib cannot read
        return frozenset()


@contextmanager
def optional_plot(name: str | Path) -> Iterator[None]:
    """Makes an error in the block, which draws the plot of this name, a warning: the results do not depend on it."""
    try:
        yield
    except Exception as error:
        logger.warning(f"{name} could not be drawn: {type(error).__name__}: {error}")


@contextmanager
def saved_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Creates a figure, with its size in inches, and saves it at the end of the block."""
    # Names are shown as they are written: matplotlib would take what stands between two `$` as a formula.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        # Characters that no font has are reported once for all.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure = Figure(figsize=(width, height))
        yield figure
        figure.draw_without_rendering()  # which creates the labels of the axes
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        families = find_fonts("".join(text.get_text() for text in texts), Path(path).name)
        for text in texts:
            text.set_fontfamily(families)
        figure.savefig(path, dpi=120, bbox_inches="tight")


def _legend_outside(axis: Axes, columns: int = 1) -> None:
    """Places the legend to the right of the plot, with long names in several lines."""
    handles, names = axis.get_legend_handles_labels()
    names = [textwrap.fill(name, LEGEND_CHARACTERS) for name in names]
    place = {"bbox_to_anchor": (1.01, 1), "loc": "upper left", "borderaxespad": 0}
    axis.legend(handles, names, fontsize=8, markerscale=1.5, ncols=columns, **place)


def _shorten(name: str) -> str:
    half = NAME_CHARACTERS // 2
    return name if len(name) <= NAME_CHARACTERS else f"{name[:half].rstrip()}…{name[1 - half :].lstrip()}"


def _colours(count: int) -> list:
    """Colours that differ as far as there are so many."""
    palette = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
    return [palette(i % palette.N) for i in range(count)]


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True)


def _label_steps(axis: Axes, label: str) -> None:
    """Labels a plot over training steps."""
    axis.set(xlabel="Step", ylabel=label)
    axis.xaxis.set_major_locator(_whole_numbers())
    axis.grid(alpha=0.3)


def plot_training_curves(
    history: list[dict[str, float]], path: str | Path, chance: dict[str, float], title: str = ""
) -> None:
    """
    Plots the loss over the steps of pre-training and, if they were logged, the pretext accuracy and the accuracy of
    the probe.

    Args:
        history (`list[dict[str, float]]`):
            The log. Each entry has its `step`, and any of `loss`, `accuracy`, `validation_loss`, `validation_accuracy`
            and `probe_accuracy`. The last one is in %; the other accuracies are between 0 and 1.
        chance (`dict[str, float]`):
            The values of `loss` and `accuracy` that guessing gives, as far as they are known.
    """
    has_accuracy = any("accuracy" in entry or "validation_accuracy" in entry for entry in history)
    probe = [(entry["step"], entry["probe_accuracy"]) for entry in history if "probe_accuracy" in entry]
    num_plots = 1 + has_accuracy + bool(probe)
    with saved_figure(path, width=1 + 5 * num_plots, height=4) as figure:
        axes = list(figure.subplots(1, num_plots, squeeze=False)[0])
        _plot_curves(axes[0], history, "loss", chance)
        _label_steps(axes[0], "Loss")
        if has_accuracy:
            _plot_curves(axes[1], history, "accuracy", chance, scale=100)
            _label_steps(axes[1], "Pretext accuracy (%)")
        if probe:
            steps, accuracies = zip(*probe)
            axes[-1].plot(steps, accuracies, "o-", markersize=4, linewidth=1.2, color="tab:green")
            _label_steps(axes[-1], "Linear probe accuracy (%)")
        figure.suptitle(title, fontsize=10)
        figure.tight_layout()


def _plot_curves(
    axis: Axes, history: list[dict[str, float]], key: str, chance: dict[str, float], scale: float = 1.0
) -> None:
    """Plots a metric of training and of validation, and its value by chance, all multiplied by `scale`."""
    for name, label, style in ((key, "training", "-"), (f"validation_{key}", "validation (not augmented)", "o-")):
        entries = [entry for entry in history if name in entry]
        if entries:
            steps, values = [entry["step"] for entry in entries], [scale * entry[name] for entry in entries]
            axis.plot(steps, values, style, markersize=4, linewidth=1.2, label=label)
    if key in chance:
        axis.axhline(scale * chance[key], color="grey", linestyle=":", linewidth=1, label="chance")
    axis.legend(fontsize=8)


def plot_similarity_matrix(logits: np.ndarray, path: str | Path, kind: str = "recordings") -> None:
    """
    Plots the similarity `[num_pairs, num_pairs]` of each anchor (row) to each positive (column) of held-out pairs of
    this kind. Those of a pair are on the diagonal.
    """
    accuracy = (logits.argmax(1) == np.arange(len(logits))).mean()
    with saved_figure(path, width=6, height=5) as figure:
        axis = figure.subplots()
        image = axis.imshow(logits, cmap="magma", interpolation="nearest")
        axis.set(
            title=f"{len(logits)} held-out pairs of {kind}, {100 * accuracy:.0f} % matched",
            xlabel="Positive (pair)",
            ylabel="Anchor (pair)",
        )
        axis.xaxis.set_major_locator(_whole_numbers())
        axis.yaxis.set_major_locator(_whole_numbers())
        figure.colorbar(image, label="Similarity")


def place_by_tsne(embeddings: np.ndarray) -> np.ndarray:
    """
    Places at least three embeddings `[num_embeddings, hidden_size]` in a plane by t-SNE, `[num_embeddings, 2]`. They
    are standardised first, and reduced to 50 dimensions.
    """
    scaled = (embeddings - embeddings.mean(0)) / (embeddings.std(0) + 1e-8)
    if not scaled.any():  # all embeddings are the same, in which no direction can be told from another
        return np.zeros((len(scaled), 2))
    reduced = PCA(min(50, *scaled.shape), random_state=0).fit_transform(scaled)
    perplexity = min(30.0, (len(scaled) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(reduced)


def plot_embedding_map(
    embeddings: np.ndarray, path: str | Path, labels: list[str] | None = None, pairs: bool = False, title: str = ""
) -> None:
    """
    Plots a t-SNE map of embeddings `[num_embeddings, hidden_size]`.

    Args:
        labels (`list[str]`, *optional*):
            The label of each embedding, shown by its colour. If there are more than 40, those with the fewest
            embeddings are grey.
        pairs (`bool`, *optional*, defaults to `False`):
            Whether the second half of the embeddings are the partners of the first half, in the same order. If so,
            lines join them: short lines mean that segments of the same recording are close to each other.
    """
    points = place_by_tsne(embeddings)
    with saved_figure(path, width=8, height=6) as figure:
        axis = figure.subplots()
        if pairs:
            first, second = np.split(points, 2)
            ends = np.stack([first, second])  # [2, num_pairs, 2]
            axis.plot(ends[:, :, 0], ends[:, :, 1], color="grey", alpha=0.5, linewidth=0.7)
        if labels is None:
            axis.scatter(points[:, 0], points[:, 1], s=12, color="tab:blue")
        else:
            _scatter_labels(axis, points, labels)
        axis.set(title=title, xlabel="t-SNE dimension 1", ylabel="t-SNE dimension 2", xticks=[], yticks=[])


def _scatter_labels(axis: Axes, points: np.ndarray, labels: list[str]) -> None:
    """
    Plots the points `(num_points, 2)` of each label in a colour of its own; after 20 labels the marker changes. If
    there are more labels than colours, those of the fewest points are grey.
    """
    labels, counts = np.asarray(labels), Counter(labels)
    coloured = sorted(name for name, _ in counts.most_common(MAX_COLOURED_LABELS))
    size = 12 * min(1.0, POINTS_OF_FULL_SIZE / len(points)) ** 0.5
    if len(counts) > len(coloured):
        others = points[~np.isin(labels, coloured)]
        title = f"{len(counts) - len(coloured)} other labels"
        axis.scatter(others[:, 0], others[:, 1], s=size, color="lightgrey", marker=".", label=title)
    for i, name in enumerate(coloured):
        chosen = points[labels == name]
        colour, marker = matplotlib.colormaps["tab20"](i % 20), "o^"[i // 20]
        axis.scatter(chosen[:, 0], chosen[:, 1], s=size, color=[colour], marker=marker, label=_shorten(name))
    _legend_outside(axis, columns=1 if len(coloured) <= 24 else 2)
    for handle in axis.get_legend().legend_handles:
        handle.set_sizes([27])


def plot_confusion_matrix(matrix: np.ndarray, names: list[str], path: str | Path) -> None:
    """
    Plots the number of clips of each true class (row) and predicted class (column), `[num_classes, num_classes]`, in %
    of the clips of each true class with the number below. Classes that no clip has and that are never predicted are
    left out.
    """
    occurs = (matrix.sum(0) + matrix.sum(1)) > 0
    matrix, names = matrix[np.ix_(occurs, occurs)], [name for name, is_shown in zip(names, occurs) if is_shown]
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    accuracy = np.trace(matrix) / max(matrix.sum(), 1)
    has_numbers = len(names) <= 20
    size = max(5.0, (0.4 if has_numbers else 0.2) * len(names) + 2)
    with saved_figure(path, width=size + 1, height=size) as figure:
        axis = figure.subplots()
        # Without numbers, a scale that is steeper at its start shows the confusions, most of which are rare.
        norm = Normalize(0, 100) if has_numbers else PowerNorm(0.5, 0, 100)
        image = axis.imshow(100 * shares, cmap="Blues", norm=norm)
        labels, fontsize = [_shorten(name) for name in names], 8 if has_numbers else 6
        axis.set_xticks(range(len(names)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=fontsize)
        axis.set_yticks(range(len(names)), labels, fontsize=fontsize)
        if has_numbers:
            size = 8 if len(names) <= 8 else 6
            for row in np.flatnonzero(matrix.sum(1) == 0):
                axis.text((len(names) - 1) / 2, row, "no clips", ha="center", va="center", fontsize=size, color="grey")
            for (row, column), share in np.ndenumerate(shares):
                if share > 0:
                    colour = "white" if share > 0.5 else "black"
                    label = f"{100 * share:.0f} %\n{matrix[row, column]:,}"
                    axis.text(column, row, label, ha="center", va="center", fontsize=size, color=colour)
        axis.set(title=f"Accuracy: {100 * accuracy:.1f} %", xlabel="Predicted class", ylabel="True class")
        figure.colorbar(image, label="Share of the true class (%)", fraction=0.046, pad=0.03)


def plot_accuracy_bars(table: dict[str, dict[str, float]], path: str | Path, title: str | None = None) -> None:
    """
    Plots the accuracy in % of each method (inner key) in each group (outer key) as grouped bars. All groups have the
    same methods; bars that are missing, which are NaN, leave no gap.
    """
    groups, methods = list(table), list(next(iter(table.values())))
    width = 0.8 / len(methods)
    group_width = max(1.3, BAR_WIDTH * len(methods))
    with saved_figure(path, width=max(6.0, group_width * len(groups) + 2), height=4) as figure:
        axis = figure.subplots()
        for method, colour in zip(methods, _colours(len(methods))):
            positions, accuracies = [], []
            for number, row in enumerate(table.values()):
                present = [name for name in methods if not np.isnan(row[name])]
                if method in present:
                    positions.append(number + (present.index(method) - (len(present) - 1) / 2) * width)
                    accuracies.append(row[method])
            if not positions:
                continue
            bars = axis.bar(positions, accuracies, width, color=colour, label=method)
            axis.bar_label(bars, fmt="%.0f", fontsize=7, padding=1, rotation=90 * (len(methods) > MAX_LEVEL_LABELS))
        tilt = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if len(groups) > 3 else {}
        axis.set_xticks(range(len(groups)), groups, **tilt)
        axis.set(ylabel="Accuracy (%)", ylim=(0, 110), yticks=range(0, 101, 20), title=title)
        _legend_outside(axis)


def plot_learning_curves(curves: dict[str, dict[str, float]], path: str | Path, title: str) -> None:
    """
    Plots the accuracy in % of each method (outer key) over the number of labelled clips of each class (inner key).
    """
    with saved_figure(path, width=6, height=4) as figure:
        axis = figure.subplots()
        for (method, curve), colour in zip(curves.items(), _colours(len(curves))):
            axis.plot(list(curve), list(curve.values()), "o-", markersize=4, color=colour, label=method)
        axis.set(xlabel="Labelled clips of each class", ylabel="Accuracy (%)", title=title)
        axis.grid(alpha=0.3)
        _legend_outside(axis)


def plot_class_bars(values: np.ndarray, names: list[str], path: str | Path, metric: str) -> None:
    """
    Plots a metric of each class, between 0 and 1, as bars, from the best class to the worst. Of more than 60 classes,
    it shows the 60 worst. Classes that are NaN, because they have no clips, are left out.
    """
    order = [i for i in np.argsort(-np.asarray(values), kind="stable") if not np.isnan(values[i])]
    shown = order[-MAX_CLASS_BARS:]
    mean = 100 * np.nanmean(values)
    metric = metric[0].upper() + metric[1:]
    title = f"{metric} by class"
    if len(shown) < len(order):
        title += f" (the {len(shown)} worst of {len(order)})"
    with saved_figure(path, width=7, height=max(2.5, 0.25 * len(shown) + 1)) as figure:
        axis = figure.subplots()
        bars = axis.barh(range(len(shown)), [100 * values[i] for i in shown], color="tab:blue")
        axis.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
        axis.axvline(mean, color="grey", linestyle=":", linewidth=1, label=f"mean of {len(order)} classes: {mean:.1f}")
        axis.set_yticks(range(len(shown)), [_shorten(names[i]) for i in shown], fontsize=8)
        axis.set(title=title, xlabel=f"{metric} (%)", xlim=(0, 108), xticks=range(0, 101, 20))
        axis.set_ylim(len(shown) - 0.4, -0.6)  # the best class is at the top
        _legend_outside(axis)
