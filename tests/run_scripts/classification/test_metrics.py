"""The metrics of the classifier."""

import numpy as np
import pytest

from run_scripts.classification.metrics import ClassificationMetrics, MultiLabelMetrics, average_precisions


def test_metrics_work_offline_and_in_batches():
    metric = ClassificationMetrics()
    metric.add_batch(predictions=[0, 1], references=[0, 1])
    metric.add_batch(predictions=[1, 1], references=[2, 1])
    # F1 by class: 1, 2 * (2/3 * 1) / (2/3 + 1) = 0.8 and 0.
    assert metric.compute() == pytest.approx({"accuracy": 0.75, "macro_f1": 0.6})


def test_mean_average_precision_leaves_out_classes_without_clips():
    logits = np.array([[2.0, 1.0, 5.0], [1.0, -1.0, 5.0], [-1.0, -2.0, 5.0]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    # Average precision: (1 + 2/3) / 2, and (1/2 + 2/3) / 2. F1: of the first two predicted, one; of the first, none.
    assert average_precisions(logits, labels)[:2] == pytest.approx([5 / 6, 7 / 12])
    assert np.isnan(average_precisions(logits, labels)[2])
    metrics = MultiLabelMetrics(keep_in_memory=True).compute(predictions=logits, references=labels)
    assert metrics == pytest.approx({"map": (5 / 6 + 7 / 12) / 2, "macro_f1": 0.25})
