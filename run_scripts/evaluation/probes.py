"""What classifiers make of vectors."""

import warnings
from collections.abc import Iterable

import numpy as np
from datasets import Dataset
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from run_scripts.evaluation.embedders import Embedder, embed_clips


NEIGHBOURS = 5


def linear_evaluation(
    train_vectors: np.ndarray, train_labels: Iterable[int], test_vectors: np.ndarray, test_labels: Iterable[int]
) -> float:
    """Test accuracy in % of logistic regression on standardised vectors."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is not settled after 1,000 steps is good enough
        classifier.fit(train_vectors, list(train_labels))
    return 100 * classifier.score(test_vectors, list(test_labels))


def knn_evaluation(
    train_vectors: np.ndarray, train_labels: Iterable[int], test_vectors: np.ndarray, test_labels: Iterable[int]
) -> float:
    """Test accuracy in % of the vote of the nearest training vectors, by the cosine of standardised vectors."""
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(train_vectors)), metric="cosine")
    classifier = make_pipeline(StandardScaler(), neighbours).fit(train_vectors, list(train_labels))
    return 100 * classifier.score(test_vectors, list(test_labels))


def evaluate_task(train: Dataset, test: Dataset, embedders: dict[str, Embedder], name: str) -> dict[str, float]:
    """Accuracy in % of each embedder, by linear evaluation."""
    (train_vectors, _), (test_vectors, _) = (embed_clips(embedders, split, name) for split in (train, test))
    return {
        method: linear_evaluation(train_vectors[method], train["label"], test_vectors[method], test["label"])
        for method in embedders
    }


def split_folds(clips: Dataset, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Clips to train and to measure on, of each fold: classes even, and clips of one `group`, if known, together."""
    groups = [str(group) for group in clips["group"]] if "group" in clips.column_names else range(len(clips))
    folder = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return list(folder.split(np.zeros(len(clips)), clips["label"], list(groups)))
