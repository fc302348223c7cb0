"""Learning curves over the number of labelled clips."""

import numpy as np
import pandas as pd

from run_scripts.benchmark import learning_curves
from run_scripts.benchmark.learning_curves import CURVE, build_curves, learning_curve


def test_each_point_is_fitted_on_so_many_clips_of_each_class(monkeypatch):
    labels = np.repeat([0, 1, 2], [30, 30, 7])
    vectors = np.arange(len(labels), dtype=float)[:, None]
    fitted = []

    def note(train_vectors, train_labels, test_vectors, test_labels):
        assert len(test_vectors) == len(test_labels) == len(labels)
        assert (labels[train_vectors[:, 0].astype(int)] == train_labels).all()
        fitted.append((np.bincount(train_labels).tolist(), set(train_vectors[:, 0])))
        return float(len(fitted))

    monkeypatch.setattr(learning_curves, "linear_evaluation", note)
    curve = learning_curve(vectors, labels, vectors, labels)
    assert [counts for counts, _ in fitted[:3]] == [[5, 5, 5], [10, 10, 7], [20, 20, 7]]
    assert len(fitted) == 15 and len({frozenset(clips) for _, clips in fitted[::3]}) == 5  # other clips each time
    assert fitted[0][1] < fitted[1][1] < fitted[2][1]
    assert curve == {"logistic_5": 7.0, "logistic_10": 8.0, "logistic_20": 9.0}
    first = fitted.copy()
    learning_curve(vectors, labels, vectors, labels)
    assert fitted[15:] == first  # the same clips for the next encoder


def test_more_clips_help():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    vectors = rng.standard_normal((600, 30)) + 2 * np.eye(30)[labels]
    few, some, many = learning_curve(vectors[:300], labels[:300], vectors[300:], labels[300:]).values()
    assert 40 < few < some < many


def test_curves_are_means_over_the_tasks_of_complete_methods():
    values = dict.fromkeys((*CURVE, "logistic"), 50.0)
    rows = [{"task": "x", "method": "A", **values, "logistic_5": 10}]
    rows += [{"task": "y", "method": "A", **values, "logistic_5": 20}]
    rows += [{"task": "x", "method": "B", **values}, {"task": "y", "method": "paper, frozen", "accuracy": 90.0}]
    curves = build_curves(pd.DataFrame(rows))
    assert curves.to_dict("index") == {"A": {"5": 15.0, "10": 50.0, "20": 50.0, "all": 50.0}}
