"""2-D maps of codes, and how far a map keeps neighbours together.

A map takes codes float32 (N, D) and gives points float32 (N, 2). Codes that can't be laid out (all alike, or too few)
raise Undefined.
"""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from stages.autoencoder import threads
from stages.autoencoder.undefined import Undefined

LARGEST = 10_000  # codes in a map: t-SNE takes half a minute for so many, and a minute more for each as many again
FEWEST = 5  # codes below which a map says nothing
PERPLEXITY = 30.0  # of t-SNE; a third of the codes where they are fewer than 90
NEIGHBOURS = 5  # of trustworthiness
MEGABYTES = 64  # of distances held at a time


def pca(codes: np.ndarray) -> np.ndarray:
    """The two principal axes of the codes; a code of one dimension lies on the first."""
    _check(codes)
    points = np.zeros((len(codes), 2), np.float32)
    with threads.few():
        found = PCA(min(2, codes.shape[1]), svd_solver="full").fit_transform(codes)
    points[:, : found.shape[1]] = found
    return points


def tsne(codes: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) by scikit-learn, Barnes-Hut, begun at the principal axes."""
    _check(codes)
    start = "pca" if codes.shape[1] > 1 else "random"
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    with threads.few():
        return TSNE(2, init=start, perplexity=perplexity, random_state=0).fit_transform(codes)


def umap(codes: np.ndarray) -> np.ndarray:
    """UMAP (McInnes et al. 2018) by umap-learn with its defaults; one thread, so that its seed counts."""
    _check(codes)
    from umap import UMAP  # no pinned requirement: see params/embed.py

    start = "pca" if codes.shape[1] > 1 else "random"
    return UMAP(n_neighbors=min(15, len(codes) - 1), init=start, random_state=0, n_jobs=1).fit_transform(codes)


MAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"tsne": tsne, "umap": umap}
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
UNITS = {"pca": "unit of the code", "tsne": "no unit", "umap": "no unit"}


def trustworthiness(codes: np.ndarray, points: np.ndarray) -> float:
    """How far the neighbours on a map are neighbours among the codes: 1 if all are (Venna & Kaski 2001).

    codes: (N, D); points: (N, 2). The formula of scikit-learn's function for 5 neighbours, which needs 2.5 GB
    for 10,000 codes; here the distances are held in parts, and equal ones have equal ranks.
    Raises Undefined for 10 codes or fewer.
    """
    count, k = len(codes), NEIGHBOURS
    if count <= 2 * k:
        raise Undefined(f"trustworthiness with {k} neighbours needs more than {2 * k} images, there are {count}")

    def excess(distances: np.ndarray, first: int) -> np.ndarray:
        """(n, N) from codes first, first + 1, ...: by how many ranks each one's map neighbours are too far, (n,)."""
        rows = np.arange(len(distances))
        distances[rows, first + rows] = np.inf  # no code is its own neighbour
        near = np.take_along_axis(distances, neighbours[first : first + len(rows)], axis=1)  # (n, k)
        ranks = np.stack([1 + (distances < near[:, [i]]).sum(1) for i in range(k)])
        return np.maximum(ranks - k, 0).sum(0)

    with threads.few():
        neighbours = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
        parts = pairwise_distances_chunked(codes, reduce_func=excess, working_memory=MEGABYTES)
        beyond = sum(int(part.sum()) for part in parts)
    return 1.0 - beyond * 2.0 / (count * k * (2.0 * count - 3.0 * k - 1.0))


def _check(codes: np.ndarray) -> None:
    if len(codes) < FEWEST:
        raise Undefined(f"a map needs {FEWEST} images, there are {len(codes)}")
    if (codes == codes[0]).all():
        raise Undefined("the codes of all images are alike")
