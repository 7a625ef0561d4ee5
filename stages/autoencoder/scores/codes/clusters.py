"""How well clusters of codes are the classes: accuracy and normalised mutual information. Definitions: docs/metrics.md.

The number of clusters is that of the classes; their labels choose nothing else. Accuracies are under the best
one-to-one matching of clusters and classes.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import normalize

from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score

KMEANS_STARTS = 10  # the best by inertia is taken


def score_all_images(codes: np.ndarray, manifold: np.ndarray | None, labels: np.ndarray) -> dict[str, float]:
    """The scores of clusters that are fitted and scored on the same images, as published ones are.

    codes: float32 (N, D), of the images of all parts; manifold: float32 (N, E), their UMAP of `maps.n2d`, None
    without; labels: int64 (N,). Keys: kmeans and nmi of k-means; unit_kmeans and unit_nmi of k-means of the codes
    scaled to length 1; n2d and n2d_nmi of a Gaussian mixture of the manifold. What is undefined is left out.
    """
    classes = len(np.unique(labels))
    table: dict[str, float] = {}
    with limit_threads():
        add_score(table, ("kmeans", "nmi"), _score_fitted, kmeans, codes, labels, classes)
        add_score(table, ("unit_kmeans", "unit_nmi"), _score_fitted, kmeans, normalize(codes), labels, classes)
        if manifold is not None:
            add_score(table, ("n2d", "n2d_nmi"), _score_fitted, mixture, manifold, labels, classes)
    return table


def kmeans(train: np.ndarray, classes: int, test: np.ndarray) -> np.ndarray:
    """The cluster of each test code, int (M,): k-means fitted to the train codes (N, D), the best of 10 starts.

    Raises UndefinedScore if the train codes have fewer distinct values than classes.
    """
    model = KMeans(classes, n_init=KMEANS_STARTS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return model.fit(train).predict(test)
        except ConvergenceWarning:
            raise UndefinedScore(f"the training codes have fewer than {classes} distinct values") from None


def mixture(train: np.ndarray, classes: int, test: np.ndarray) -> np.ndarray:
    """The likeliest component of each test code, int (M,), of a Gaussian mixture with full covariances.

    Raises UndefinedScore if there are fewer train codes than classes.
    """
    if len(train) < classes:
        raise UndefinedScore(f"a mixture of {classes} components needs as many images, there are {len(train)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 100 steps, as in the published code
        return GaussianMixture(classes, random_state=0).fit(train).predict(test)


def score_clusters(clusters: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy and NMI (arithmetic mean of the entropies) of clusters and classes, both int (N,)."""
    return clustering_accuracy(clusters, labels), float(normalized_mutual_info_score(labels, clusters))


def clustering_accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of images in the cluster of their class, under the best one-to-one matching of clusters and classes.

    clusters, labels: int (N,). The matching solves the assignment problem (Yang et al. 2010, section 5).
    """
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def _score_fitted(
    method: Callable[[np.ndarray, int, np.ndarray], np.ndarray], codes: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[float, float]:
    return score_clusters(method(codes, classes, codes), labels)
