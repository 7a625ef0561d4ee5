"""2-D maps of codes, how well a map preserves neighbourhoods, and the manifold that N2D clusters.

A map takes codes float32 (N, D) and gives points float32 (N, 2). It raises UndefinedScore if the codes are all
equal or too few.
"""

from collections.abc import Callable

import numpy as np
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from stages.autoencoder.scores.pca import map_codes
from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore

MAX_CODES = 10_000  # in a map: t-SNE takes half a minute for these, and as long for each further 10,000
MIN_CODES = 5  # with fewer, a map means nothing
PERPLEXITY = 30.0  # of t-SNE; a third of the codes if they are fewer than 90
# with the exaggeration of the paper, 4, half of scikit-learn's iterations keep as many neighbours (docs/dev/log.md)
EXAGGERATION, ITERATIONS = 4.0, 500
NEIGHBOURS = 5  # of trustworthiness
N2D_DIMENSIONS, N2D_NEIGHBOURS = 10, 20  # McConville et al. 2020
WORKING_MEMORY = 64  # MiB of distances held at a time


def pca(codes: np.ndarray) -> np.ndarray:
    """The two principal axes of the codes; codes of one dimension lie on the first axis."""
    _check(codes)
    return map_codes(codes)


def tsne(codes: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) by scikit-learn, Barnes-Hut, initialised with PCA."""
    _check(codes)
    start = "pca" if codes.shape[1] > 1 else "random"
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    with limit_threads():
        method = TSNE(
            2,
            init=start,
            perplexity=perplexity,
            early_exaggeration=EXAGGERATION,
            max_iter=ITERATIONS,
            random_state=0,
        )
        return method.fit_transform(codes)


def umap(codes: np.ndarray) -> np.ndarray:
    """UMAP (McInnes et al. 2018) by umap-learn with its defaults; one thread, so that its seed takes effect."""
    _check(codes)
    from umap import UMAP  # optional: see params/embed.py

    start = "pca" if codes.shape[1] > 1 else "random"
    return UMAP(n_neighbors=min(15, len(codes) - 1), init=start, random_state=0, n_jobs=1).fit_transform(codes)


def n2d(codes: np.ndarray) -> np.ndarray:
    """UMAP of codes (N, D) as N2D clusters it (McConville et al. 2020): float32 (N, 10), points pulled together.

    20 neighbours, min_dist 0, umap-learn's other defaults; one thread, so that its seed takes effect. Raises
    UndefinedScore for 20 codes or fewer.
    """
    _check(codes)
    if len(codes) <= N2D_NEIGHBOURS:
        raise UndefinedScore(f"N2D needs more than {N2D_NEIGHBOURS} images, there are {len(codes)}")
    from umap import UMAP  # optional: see params/embed.py

    method = UMAP(n_components=N2D_DIMENSIONS, n_neighbors=N2D_NEIGHBOURS, min_dist=0.0, random_state=0, n_jobs=1)
    return method.fit_transform(codes)


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"tsne": tsne, "umap": umap}
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
UNITS = {"pca": "unit of the code", "tsne": "no unit", "umap": "no unit"}


def trustworthiness(codes: np.ndarray, points: np.ndarray) -> float:
    """How far the neighbours on a map are neighbours among the codes: 1 if all are (Venna & Kaski 2001).

    codes: (N, D); points: (N, 2). The formula of scikit-learn's function for 5 neighbours, which needs 2.5 GB
    for 10,000 codes; here distances are computed in chunks, and equal distances have equal ranks.
    Raises UndefinedScore for 10 codes or fewer.
    """
    count, k = len(codes), NEIGHBOURS
    if count <= 2 * k:
        raise UndefinedScore(f"trustworthiness with {k} neighbours needs more than {2 * k} images, there are {count}")

    def excess(distances: np.ndarray, first: int) -> np.ndarray:
        """Distances (n, N) from codes first, first + 1, ... -> excess ranks of their map neighbours, (n,)."""
        rows = np.arange(len(distances))
        distances[rows, first + rows] = np.inf  # no code is its own neighbour
        near = np.take_along_axis(distances, neighbours[first : first + len(rows)], axis=1)  # (n, k)
        ranks = np.stack([1 + (distances < near[:, [i]]).sum(1) for i in range(k)])
        return np.maximum(ranks - k, 0).sum(0)

    with limit_threads():
        neighbours = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
        chunks = pairwise_distances_chunked(codes, reduce_func=excess, working_memory=WORKING_MEMORY)
        beyond = sum(int(chunk.sum()) for chunk in chunks)
    return 1.0 - beyond * 2.0 / (count * k * (2.0 * count - 3.0 * k - 1.0))


def _check(codes: np.ndarray) -> None:
    if len(codes) < MIN_CODES:
        raise UndefinedScore(f"a map needs {MIN_CODES} images, there are {len(codes)}")
    if (codes == codes[0]).all():
        raise UndefinedScore("the codes of all images are equal")
