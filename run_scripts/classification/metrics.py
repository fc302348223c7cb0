"""
Metrics of classifiers, computed by scikit-learn.

They are classes of the library `evaluate`, which gathers predictions across processes. They are defined here because
`evaluate.load` would fetch them from the Hub.
"""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, f1_score


class ClassificationMetrics(evaluate.Metric):
    """Computes accuracy and macro F1 from predicted and true class indices."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy and macro F1, by scikit-learn.",
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int], **kwargs: Any) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }


class MultiLabelMetrics(evaluate.Metric):
    """
    Computes mean average precision (`map`) and macro F1 from logits `[N, num_labels]` and label vectors of 0 and 1.

    For F1, a class is predicted where its logit is above 0. Classes that occur in no clip are left out, because their
    average precision is undefined.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean average precision and macro F1, by scikit-learn.",
            citation="",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("int64")),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[list[int]], **kwargs: Any) -> dict[str, float]:
        predictions, references = np.array(predictions), np.array(references)
        present = references.any(0)
        if not present.any():
            return {"map": 0.0, "macro_f1": 0.0}
        predictions, references = predictions[:, present], references[:, present]
        return {
            "map": float(np.mean(average_precisions(predictions, references))),
            "macro_f1": float(f1_score(references, predictions > 0, average="macro", zero_division=0)),
        }


def average_precisions(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """
    Computes the average precision of each class, `[num_labels]`, and NaN for a class that occurs in no clip.

    Args:
        predictions (`np.ndarray` of shape `(N, num_labels)`):
            Logits.
        references (`np.ndarray` of shape `(N, num_labels)`):
            Label vectors of 0 and 1.
    """
    return np.array(
        [
            average_precision_score(truth, scores) if truth.any() else np.nan
            for scores, truth in zip(predictions.T, references.T)
        ]
    )


def class_f1(predictions: np.ndarray, references: np.ndarray, num_labels: int) -> np.ndarray:
    """Computes the F1 score of each class, `[num_labels]`, from predicted and true class indices `[N]`."""
    return f1_score(references, predictions, labels=range(num_labels), average=None, zero_division=0)
