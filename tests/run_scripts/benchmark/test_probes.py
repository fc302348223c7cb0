"""The probes of embeddings, and the folds for cross-validation."""

import numpy as np
from datasets import Dataset

from run_scripts.benchmark.probes import knn_evaluation, linear_evaluation, split_folds


def test_folds_keep_groups_together():
    groups = [f"recording{i // 3}" for i in range(36)]
    clips = Dataset.from_dict({"label": [i // 3 % 2 for i in range(36)], "group": groups})
    folds = split_folds(clips, 3)
    assert sorted(i for _, held in folds for i in held) == list(range(36))
    for fit, held in folds:
        assert not {groups[i] for i in fit} & {groups[i] for i in held}
        assert sum(clips["label"][int(i)] for i in held) == 6


def test_linear_evaluation_separates_what_a_line_separates():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    vectors = rng.standard_normal((200, 5)) + 6 * labels[:, None] * np.eye(5)[0]
    assert linear_evaluation(vectors[:100], labels[:100], vectors[100:], labels[100:]) > 95
    assert linear_evaluation(vectors[:100, 1:], labels[:100], vectors[100:, 1:], labels[100:]) < 75


def test_neighbours_vote_by_direction():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    vectors = (0.1 * rng.standard_normal((60, 5)) + np.eye(5)[labels]) * rng.uniform(0.5, 2, (60, 1))
    assert knn_evaluation(vectors[:40], labels[:40], vectors[40:], labels[40:]) > 95
    assert knn_evaluation(vectors[:2], labels[:2], vectors[40:], labels[40:]) == 50  # fewer than five to ask
