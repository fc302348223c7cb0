"""The pictures that the jobs leave behind."""

from pathlib import Path

import matplotlib


matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.manifold import TSNE  # noqa: E402


def _save(figure: plt.Figure, path: str | Path) -> None:
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def plot_training_curves(history: list[dict[str, float]], path: str | Path, chance: dict[str, float]) -> None:
    """
    Loss over steps, and pretext accuracy and the probe's accuracy where there are any; `chance` is what guessing gives
    of `"loss"` and `"accuracy"`, where that is known.
    """
    probe = [(entry["step"], entry["probe_accuracy"]) for entry in history if "probe_accuracy" in entry]
    curves = [("loss", "Loss", 1), ("accuracy", "Pretext accuracy (%)", 100)]
    if not any("accuracy" in entry or "validation_accuracy" in entry for entry in history):
        del curves[1]
    panels = len(curves) + bool(probe)
    figure, axes = plt.subplots(1, panels, figsize=(1 + 5 * panels, 4), squeeze=False)
    if probe:
        axes[0, -1].plot(*zip(*probe), "o-", markersize=4, linewidth=1.2, color="tab:green")
        axes[0, -1].set(title="Linear evaluation of h on the probe (%)", xlabel="step")
        axes[0, -1].grid(alpha=0.3)
    for axis, (key, title, scale) in zip(axes[0], curves):
        for prefix, label, style in (("", "training", "-"), ("validation_", "held out, not augmented", "o-")):
            points = [(entry["step"], scale * entry[prefix + key]) for entry in history if prefix + key in entry]
            if points:
                axis.plot(*zip(*points), style, markersize=4, linewidth=1.2, label=label)
        if key in chance:
            axis.axhline(scale * chance[key], color="grey", linestyle=":", linewidth=1, label="chance")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    _save(figure, path)


def plot_similarity_matrix(logits: np.ndarray, path: str | Path) -> None:
    """Similarity of anchors (rows) and positives (columns) of held-out recordings; the diagonal is the task."""
    figure, axis = plt.subplots(figsize=(6, 5))
    image = axis.imshow(logits, cmap="magma", interpolation="nearest")
    accuracy = (logits.argmax(1) == np.arange(len(logits))).mean()
    axis.set(
        title=f"{len(logits)} held-out recordings, {100 * accuracy:.0f} % matched",
        xlabel="positive",
        ylabel="anchor",
    )
    figure.colorbar(image, label="similarity")
    _save(figure, path)


def plot_embedding_map(
    embeddings: np.ndarray, path: str | Path, labels: list[str] | None = None, pairs: bool = False, title: str = ""
) -> None:
    """
    A t-SNE map of embeddings `[N, D]`, coloured by label if there are any. With `pairs` the second half are the
    partners of the first, and lines join them: short lines are recordings whose segments lie together.
    """
    scaled = (embeddings - embeddings.mean(0)) / (embeddings.std(0) + 1e-8)
    perplexity = min(30.0, max(2.0, (len(scaled) - 1) / 4))
    points = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(scaled)
    figure, axis = plt.subplots(figsize=(8, 6))
    if pairs:
        half = len(points) // 2
        axis.plot(*np.stack([points[:half], points[half:]]).transpose(2, 0, 1), color="grey", alpha=0.5, linewidth=0.7)
    if labels is None:
        axis.scatter(*points.T, s=12, color="tab:blue")
    else:
        names = sorted(set(labels))
        colours = plt.get_cmap("tab20")(np.arange(len(names)) % 20)
        for name, colour in zip(names, colours):
            chosen = np.array([label == name for label in labels])
            axis.scatter(*points[chosen].T, s=12, color=colour, label=name)
        if len(names) <= 40:
            axis.legend(fontsize=8, markerscale=1.5, bbox_to_anchor=(1.01, 1), loc="upper left", borderaxespad=0)
    axis.set(title=title, xticks=[], yticks=[])
    _save(figure, path)


def plot_confusion_matrix(matrix: np.ndarray, names: list[str], path: str | Path) -> None:
    """Shares of each true class (row) by predicted class (column)."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = max(5.0, 0.4 * len(names) + 2)
    figure, axis = plt.subplots(figsize=(size + 1, size))
    image = axis.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= 20:
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                colour = "white" if share > 0.5 else "black"
                axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    accuracy = np.trace(matrix) / max(matrix.sum(), 1)
    axis.set(title=f"accuracy {100 * accuracy:.1f} %", xlabel="predicted", ylabel="true")
    figure.colorbar(image, label="% of the true class", shrink=0.8)
    _save(figure, path)


def plot_accuracy_bars(table: dict[str, dict[str, float]], path: str | Path, title: str | None = None) -> None:
    """Grouped bars of accuracies in %: `table[group][method]`."""
    groups, methods = list(table), list(next(iter(table.values())))
    figure, axis = plt.subplots(figsize=(max(6.0, 1.3 * len(groups) + 2), 4))
    width = 0.8 / len(methods)
    for i, method in enumerate(methods):
        positions = np.arange(len(groups)) + (i - (len(methods) - 1) / 2) * width
        bars = axis.bar(positions, [table[group][method] for group in groups], width, label=method)
        axis.bar_label(bars, fmt="%.0f", fontsize=7)
    axis.set_xticks(
        range(len(groups)), groups, rotation=20 if len(groups) > 3 else 0, ha="right" if len(groups) > 3 else "center"
    )
    axis.set(ylabel="accuracy (%)", ylim=(0, 105), title=title)
    axis.legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", borderaxespad=0)
    _save(figure, path)


MAX_CLASS_BARS = 60


def plot_class_bars(values: np.ndarray, names: list[str], path: str | Path, measure: str) -> None:
    """
    A bar in % for each class, best first, of very many the worst. Classes whose value `[num_labels]` is NaN, because
    they have no clips, are left out.
    """
    order = [i for i in np.argsort(-np.asarray(values), kind="stable") if not np.isnan(values[i])]
    shown = order[-MAX_CLASS_BARS:]
    figure, axis = plt.subplots(figsize=(7, max(2.5, 0.25 * len(shown) + 1)))
    bars = axis.barh([names[i] for i in shown], [100 * values[i] for i in shown], color="tab:blue")
    axis.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
    mean = 100 * np.nanmean(values)
    axis.axvline(mean, color="grey", linestyle=":", linewidth=1, label=f"mean of {len(order)} classes: {mean:.1f}")
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=8)
    axis.set(xlabel=f"{measure} (%)", xlim=(0, 108))
    axis.set_title(f"{measure} by class" + (f", the {len(shown)} worst" if len(shown) < len(order) else ""))
    axis.legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", borderaxespad=0)
    _save(figure, path)
