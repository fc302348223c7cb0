"""Learning curves: how accurate a classifier of embeddings is with a few labelled clips of each class."""

import numpy as np
import pandas as pd

from run_scripts.benchmark.probes import linear_evaluation


# The metrics, and how many clips of each class they are computed from.
CURVE = {f"logistic_{count}": count for count in (5, 10, 20)}
DRAWS = 5


def learning_curve(
    train_vectors: np.ndarray, train_labels: np.ndarray, test_vectors: np.ndarray, test_labels: np.ndarray
) -> dict[str, float]:
    """
    Computes the test accuracy in % of logistic regression that is fitted on a few training clips of each class, for
    each metric of `CURVE`. The arguments are those of [`linear_evaluation`].

    The clips are drawn five times, the same ones for all encoders, and the accuracy is the mean. A class with fewer
    clips gives all that it has.
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


def build_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """
    Averages the accuracies over the tasks, for methods that have them for each task.

    The rows have a `task` and a `method` each, with the metrics of `CURVE` and `logistic`, NaN where they are unknown.
    The table has the accuracy in % of each method (row) for each number of clips of each class, the last of which is
    `"all"` (column).
    """
    groups = rows.dropna(subset=list(CURVE)).groupby("method", sort=False)
    curves = groups[[*CURVE, "logistic"]].mean()[groups.size() == rows["task"].nunique()]
    return curves.set_axis([*map(str, CURVE.values()), "all"], axis=1).rename_axis(index="clips of each class")
