"""What is left beside a classifier."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from run_scripts.classification.report import plot_metrics


def bars(figure: Figure) -> dict[str, float]:
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    return {name: round(bar.get_width(), 1) for name, bar in zip(names, axis.patches)}


def test_the_plots_of_one_label_are_f1_and_confusions(tmp_path: Path, figures: list[Figure]):
    logits, labels = np.eye(4)[[0, 1, 1, 1]], np.array([0, 1, 2, 1])
    plot_metrics(logits, labels, ["a", "b", "c", "d"], tmp_path)  # no clip of class d
    per_class, confusions = figures
    assert bars(per_class) == {"a": 100.0, "b": 80.0, "c": 0.0}
    assert per_class.axes[0].get_title() == "F1 by class"
    drawn = {(text.get_position(), text.get_text()) for text in confusions.axes[0].texts}
    assert drawn == {((0, 0), "100 %\n1"), ((1, 1), "100 %\n2"), ((1, 2), "100 %\n1")}
    assert {path.name for path in tmp_path.iterdir()} == {"per_class.png", "confusion_matrix.png"}


def test_the_plot_of_several_labels_is_average_precision(tmp_path: Path, figures: list[Figure]):
    logits = np.array([[2.0, 1.0, 5.0], [1.0, -1.0, 5.0], [-1.0, -2.0, 5.0]])
    plot_metrics(logits, np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]]), ["a", "b", "c"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["per_class.png"]
    assert bars(figures[0]) == {"a": 83.3, "b": 58.3}
