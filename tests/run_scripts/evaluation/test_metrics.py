"""The metrics of the classifier."""

import pytest

from run_scripts.evaluation.metrics import ClassificationMetrics


def test_metrics_work_offline_and_in_batches():
    metric = ClassificationMetrics()
    metric.add_batch(predictions=[0, 1], references=[0, 1])
    metric.add_batch(predictions=[1, 1], references=[2, 1])
    # F1 by class: 1, 2 * (2/3 * 1) / (2/3 + 1) = 0.8 and 0.
    assert metric.compute() == pytest.approx({"accuracy": 0.75, "macro_f1": 0.6})
