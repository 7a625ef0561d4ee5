"""How near samples are to real images, by features of a classifier. Definitions: docs/metrics.md.

All take features float32 or float64 (N, F), and compute in float64, in pieces of at most PIECE rows.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from stages.autoencoder.data.pixels import pieces
from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score

NEIGHBOURS = 5
PIECE = 1000  # rows of a matrix of distances that are held at a time


def score(samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """frechet, kid, precision, recall, density and coverage of samples, as far as they are defined."""
    table: dict[str, float] = {}
    with limit_threads():
        add_score(table, "frechet", frechet_distance, samples, real)
        add_score(table, "kid", kernel_distance, samples, real)
        add_score(table, ("precision", "recall", "density", "coverage"), neighbourhoods, samples, real)
    return table


def frechet_distance(samples: np.ndarray, real: np.ndarray) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)) of means m, n and covariances A, B: between two Gaussians.

    Heusel et al. 2017. The trace of (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2).
    """
    _check_count(samples, real, 2)
    shift = samples.mean(0, dtype=np.float64) - real.mean(0, dtype=np.float64)
    first, second = (np.cov(np.asarray(features, np.float64), rowvar=False) for features in (samples, real))
    mixed = np.linalg.svd(_square_root(first) @ _square_root(second), compute_uv=False).sum()
    return float(max(0.0, shift @ shift + np.trace(first) + np.trace(second) - 2 * mixed))


def kernel_distance(samples: np.ndarray, real: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy with k(x, y) = (x y / F + 1)^3: Binkowski et al. 2018.

    Of all pairs at once, not a mean over blocks. It may be below 0.
    """
    _check_count(samples, real, 2)
    within = [_mean_kernel(features, features, distinct=True) for features in (samples, real)]
    return sum(within) - 2 * _mean_kernel(samples, real, distinct=False)


def neighbourhoods(samples: np.ndarray, real: np.ndarray) -> tuple[float, float, float, float]:
    """Precision, recall (Kynkaanniemi et al. 2019), density, coverage (Naeem et al. 2020), with 5 neighbours.

    The neighbourhood of a point is the ball up to its fifth neighbour among the points of its own kind.
    precision: share of samples in the neighbourhood of a real image; recall: share of real images in that of a sample;
    density: mean number of real neighbourhoods that a sample is in, over 5; coverage: share of real neighbourhoods that
    hold a sample.
    """
    _check_count(samples, real, NEIGHBOURS + 1)
    sample_radius, real_radius = _radii(samples), _radii(real)
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    inside = []  # of each sample the number of real neighbourhoods that it is in
    for rows in pieces(len(samples), PIECE):
        distances = euclidean_distances(*_as_float64(samples[rows], real))
        in_real = distances <= real_radius
        inside.append(in_real.sum(1))
        covered |= in_real.any(0)
        recalled |= (distances <= sample_radius[rows, None]).any(0)
    counts = np.concatenate(inside)
    return float((counts > 0).mean()), float(recalled.mean()), float(counts.mean() / NEIGHBOURS), float(covered.mean())


def nearest(samples: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The position of the real image whose features are nearest to those of each sample, int64 (N,)."""
    with limit_threads():
        index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.asarray(real, np.float64))
        found: np.ndarray = index.kneighbors(np.asarray(samples, np.float64), return_distance=False)[:, 0]
    return found


def _check_count(samples: np.ndarray, real: np.ndarray, least: int) -> None:
    if (count := min(len(samples), len(real))) < least:
        raise UndefinedScore(f"it needs {least} samples and real images each, there are {count}")


def _square_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance (F, F)."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def _mean_kernel(first: np.ndarray, second: np.ndarray, *, distinct: bool) -> float:
    """The mean of the kernel over all pairs; distinct: of the same points, without the pairs of a point and itself."""
    total = 0.0
    for rows in pieces(len(first), PIECE):
        x, y = _as_float64(first[rows], second)
        base = x @ y.T / x.shape[1] + 1
        if distinct:
            base[np.arange(len(x)), np.arange(rows.start, rows.stop)] = 0
        total += float((base * base * base).sum())
    return total / (len(first) * (len(second) - distinct))


def _radii(features: np.ndarray) -> np.ndarray:
    """The distance of each point to its fifth neighbour, (N,)."""
    (points,) = _as_float64(features)
    found: np.ndarray = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(points).kneighbors()[0][:, -1]
    return found


def _as_float64(*features: np.ndarray) -> Iterator[np.ndarray]:
    return (np.asarray(part, np.float64) for part in features)
