"""Learning curves: how accurate a classifier of embeddings is with a few labelled clips of each class."""

from typing import Any

import numpy as np

from run_scripts.benchmark.probes import linear_evaluation


# The metrics, and how many clips of each class they are computed from.
CURVE = {f"logistic_{count}": count for count in (5, 10, 20)}
DRAWS = 5


def learning_curve(
    train_vectors: np.ndarray, train_labels: np.ndarray, test_vectors: np.ndarray, test_labels: np.ndarray
) -> dict[str, float]:
    """
    Computes the test accuracy in % of logistic regression that is fitted on a few training clips of each class.

    The clips are drawn five times, the same ones for all encoders, and the accuracy is the mean. A class with fewer
    clips gives all that it has.

    Args:
        train_vectors, test_vectors (`np.ndarray` of shape `(N, D)`):
            The embeddings of the training and test clips.
        train_labels, test_labels (`np.ndarray` of shape `(N,)`):
            The class index of each clip.

    Returns:
        `dict[str, float]`: The accuracy for each metric of `CURVE`.
    """
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(train_labels)) for _ in range(DRAWS)]
    accuracies = {metric: [] for metric in CURVE}
    for order in orders:
        classes = [order[train_labels[order] == label] for label in np.unique(train_labels)]
        for metric, count in CURVE.items():
            few = np.concatenate([clips[:count] for clips in classes])
            accuracy = linear_evaluation(train_vectors[few], train_labels[few], test_vectors, test_labels)
            accuracies[metric].append(accuracy)
    return {metric: float(np.mean(values)) for metric, values in accuracies.items()}


def build_curves(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """
    Averages the accuracies over the tasks, for methods that have them for each task.

    Args:
        rows (`list[dict[str, Any]]`):
            A row for each task and method, with the metrics of `CURVE` and `logistic`, as far as they are known.

    Returns:
        `dict[str, dict[str, float]]`: `curves[method][count]`, where `count` is the number of clips of each class, or
        `"all"`.
    """
    num_tasks = len({row["task"] for row in rows})
    methods: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if all(row.get(metric) is not None for metric in CURVE):
            methods.setdefault(row["method"], []).append(row)
    columns = {str(count): metric for metric, count in CURVE.items()} | {"all": "logistic"}
    return {
        method: {count: float(np.mean([row[metric] for row in group])) for count, metric in columns.items()}
        for method, group in methods.items()
        if len(group) == num_tasks
    }


def format_curves(curves: dict[str, dict[str, float]]) -> str:
    """Formats learning curves in Markdown, with a row for each method."""
    counts = list(next(iter(curves.values())))
    lines = [f"| clips of each class | {' | '.join(counts)} |", "| --- |" + " ---: |" * len(counts)]
    lines += [
        f"| {method} | {' | '.join(f'{value:.1f}' for value in curve.values())} |" for method, curve in curves.items()
    ]
    return "\n".join(lines)
