"""Simple classifiers that are fitted on embeddings to evaluate them."""

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


NEIGHBOURS = 5


def linear_evaluation(
    train_vectors: np.ndarray, train_labels: Iterable[int], test_vectors: np.ndarray, test_labels: Iterable[int]
) -> float:
    """
    Fits logistic regression on standardised training vectors and returns its test accuracy in %.

    Args:
        train_vectors, test_vectors (`np.ndarray` of shape `(N, D)`):
            The embeddings of the training and test clips.
        train_labels, test_labels (`Iterable[int]`):
            The class index of each clip.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        # A fit that has not converged after 1,000 iterations is close enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train_vectors, list(train_labels))
    return 100 * classifier.score(test_vectors, list(test_labels))


def knn_evaluation(
    train_vectors: np.ndarray, train_labels: Iterable[int], test_vectors: np.ndarray, test_labels: Iterable[int]
) -> float:
    """
    Classifies each test clip by a vote of its nearest training clips and returns the test accuracy in %.

    The distance is the cosine distance of standardised vectors. The arguments are those of [`linear_evaluation`].
    """
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(train_vectors)), metric="cosine")
    classifier = make_pipeline(StandardScaler(), neighbours).fit(train_vectors, list(train_labels))
    return 100 * classifier.score(test_vectors, list(test_labels))


def split_folds(clips: Dataset, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Splits clips into folds for cross-validation.

    Each class is spread evenly over the folds. Clips with the same value in the column `group`, if there is one (a
    speaker, a recording), are in the same fold.

    Returns:
        `list[tuple[np.ndarray, np.ndarray]]`: For each fold the indices of the clips to fit on and of those held out.
    """
    groups = [str(group) for group in clips["group"]] if "group" in clips.column_names else range(len(clips))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(clips)), clips["label"], list(groups)))
