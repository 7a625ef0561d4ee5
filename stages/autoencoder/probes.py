"""What codes tell about classes: k-NN, a linear probe, k-means. Definitions: docs/metrics.md.

All are fitted on codes of the training part and scored on codes of the test part, on those images alone whose
class the training part has. They see codes as points in space: shifting, turning or scaling a code as a whole
changes nothing. Single dimensions are not standardised, since that would give a dimension that carries
nothing the weight of the others.
"""

import logging
import warnings
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier

from stages.autoencoder import threads
from stages.autoencoder.undefined import Undefined, offer

NEIGHBOURS = 5
STARTS = 10  # of k-means; the best by inertia is taken
TOLERANCE, STEPS = 1e-3, 300  # of the probe's L-BFGS: on 54,000 codes of 1,000 dimensions it takes seconds
ROUNDING = 1e-6  # of the largest entry: what float32 leaves
log = logging.getLogger(__name__)


class Coded(NamedTuple):
    """Codes float32 (N, D) and the classes int64 (N,) of their images."""

    codes: np.ndarray
    labels: np.ndarray


def scores(train: Coded, test: Coded) -> dict[str, float]:
    """knn, probe, kmeans and nmi, without those that the data do not define."""
    known = np.isin(test.labels, train.labels)
    test = Coded(test.codes[known], test.labels[known])
    table: dict[str, float] = {}
    with threads.few():
        offer(table, "knn", knn, train, test)
        offer(table, "probe", probe, train, test)
        offer(table, ("kmeans", "nmi"), clustering, train, test)
    return table


def knn(train: Coded, test: Coded) -> float:
    """Share of test images whose class the majority of the 5 nearest training codes has (Euclidean)."""
    _need_classes(train, test)
    _need_spread(train.codes)
    if len(train.codes) < NEIGHBOURS:
        raise Undefined(f"k-NN needs {NEIGHBOURS} training images, there are {len(train.codes)}")
    return float(KNeighborsClassifier(NEIGHBOURS).fit(*train).score(*test))


def probe(train: Coded, test: Coded) -> float:
    """Share of test images whose class a multinomial logistic regression (L2, C = 1) tells from the code.

    The codes are centred and divided by one number, their standard deviation over all entries, which gives
    the penalty and the tolerance one meaning. Stopped after 300 steps of L-BFGS.
    """
    _need_classes(train, test)
    scale = _need_spread(train.codes)
    mean = train.codes.mean(0, dtype=np.float64)
    model = LogisticRegression(tol=TOLERANCE, max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(((train.codes - mean) / scale).astype(np.float32), train.labels)
    if model.n_iter_.max() >= STEPS:
        log.info("probe: taken as it is after %d steps", STEPS)
    return float(model.score(((test.codes - mean) / scale).astype(np.float32), test.labels))


def clustering(train: Coded, test: Coded) -> tuple[float, float]:
    """Accuracy and normalised mutual information of k-means: how far its clusters of codes are the classes.

    As many clusters as the training part has classes, found in its codes; each test code goes to the nearest.
    """
    classes = _need_classes(train, test)
    _need_spread(train.codes)
    model = KMeans(classes, n_init=STARTS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            clusters = model.fit(train.codes).predict(test.codes)
        except ConvergenceWarning:
            raise Undefined(f"the training codes have fewer than {classes} distinct values") from None
    return clustering_accuracy(clusters, test.labels), float(normalized_mutual_info_score(test.labels, clusters))


def clustering_accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of images in the cluster of their class, under the best one-to-one match of clusters and classes.

    clusters, labels: int (N,). The match solves the assignment problem (Yang et al. 2010, section 5).
    """
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def _need_classes(train: Coded, test: Coded) -> int:
    """The number of classes in the training part. Raises Undefined below two, and for an empty test part."""
    classes = len(np.unique(train.labels))
    if classes < 2:
        raise Undefined("the training part has one class")
    if not len(test.labels):
        raise Undefined("no test image is of a class of the training part")
    return classes


def _need_spread(codes: np.ndarray) -> float:
    """The standard deviation of all entries about the mean code. Raises Undefined where the codes are all alike.

    Codes of one and the same image differ in their last bits with its place in the batch: that is no spread.
    """
    spread = float((codes - codes.mean(0, dtype=np.float64)).std())
    if spread <= ROUNDING * np.abs(codes).max():
        raise Undefined("all codes of the training part are alike")
    return spread
