"""How well codes separate classes: k-NN, a linear probe, k-means. Definitions: docs/metrics.md.

All are fitted on codes of the training part and scored on codes of the test part, only on images whose class
occurs in the training part. They treat codes as points in space: translating, rotating or scaling all codes
together changes nothing. Single dimensions are not standardised, because that would give a dimension that carries
nothing the same weight as the others.
"""

import logging
import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from stages.autoencoder.scores.codes import clusters
from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score

NEIGHBOURS = 5
PROBE_TOLERANCE, PROBE_STEPS = 1e-3, 300  # of L-BFGS: seconds on 54,000 codes of 1,000 dimensions
ROUNDING = 1e-6  # relative to the largest entry: the precision of float32
log = logging.getLogger(__name__)


class LabelledCodes(NamedTuple):
    """Codes float32 (N, D) and the classes int64 (N,) of their images."""

    codes: np.ndarray
    labels: np.ndarray


def score_codes(train: LabelledCodes, test: LabelledCodes) -> dict[str, float]:
    """knn, probe, kmeans and nmi, as far as the data define them."""
    known = np.isin(test.labels, train.labels)
    test = LabelledCodes(test.codes[known], test.labels[known])
    table: dict[str, float] = {}
    with limit_threads():
        add_score(table, "knn", knn, train, test)
        add_score(table, "probe", probe, train, test)
        add_score(table, ("kmeans", "nmi"), clustering, train, test)
    return table


def knn(train: LabelledCodes, test: LabelledCodes) -> float:
    """Accuracy of the majority class of the 5 nearest training codes (Euclidean)."""
    _count_classes(train, test)
    check_variation(train.codes)
    if len(train.codes) < NEIGHBOURS:
        raise UndefinedScore(f"k-NN needs {NEIGHBOURS} training images, there are {len(train.codes)}")
    return float(KNeighborsClassifier(NEIGHBOURS).fit(*train).score(*test))


def probe(train: LabelledCodes, test: LabelledCodes) -> float:
    """Accuracy of a multinomial logistic regression (L2, C = 1) on the codes.

    The codes are centred and divided by one number, their standard deviation over all entries, so that penalty
    and tolerance mean the same for all codes. Stops after 300 steps of L-BFGS.
    """
    _count_classes(train, test)
    scale = check_variation(train.codes)
    mean = train.codes.mean(0, dtype=np.float64)
    model = LogisticRegression(tol=PROBE_TOLERANCE, max_iter=PROBE_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(((train.codes - mean) / scale).astype(np.float32), train.labels)
    if model.n_iter_.max() >= PROBE_STEPS:
        log.info("probe: stopped before convergence, after %d steps", PROBE_STEPS)
    return float(model.score(((test.codes - mean) / scale).astype(np.float32), test.labels))


def clustering(train: LabelledCodes, test: LabelledCodes) -> tuple[float, float]:
    """Accuracy and normalised mutual information of k-means clusters against the classes.

    As many clusters as the training part has classes, fitted to its codes; each test code goes to the nearest.
    """
    classes = _count_classes(train, test)
    check_variation(train.codes)
    return clusters.score_clusters(clusters.kmeans(train.codes, classes, test.codes), test.labels)


def _count_classes(train: LabelledCodes, test: LabelledCodes) -> int:
    """The number of classes in the training part. Raises UndefinedScore below two, and for an empty test part."""
    classes = len(np.unique(train.labels))
    if classes < 2:
        raise UndefinedScore("the training part has one class")
    if not len(test.labels):
        raise UndefinedScore("no test image is of a class of the training part")
    return classes


def check_variation(codes: np.ndarray) -> float:
    """The standard deviation of all entries about the mean code. Raises UndefinedScore if all codes are equal.

    Codes of the same image differ in their last bits with its place in the batch: these count as equal.
    """
    deviation = float((codes - codes.mean(0, dtype=np.float64)).std())
    if deviation <= ROUNDING * np.abs(codes).max():
        raise UndefinedScore("all codes of the training part are equal")
    return deviation
