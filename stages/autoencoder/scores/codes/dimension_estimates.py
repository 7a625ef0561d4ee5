"""How many dimensions a set of points fills: three estimates that know nothing of each other, and the spectrum.

Points are float (N, D): codes, or images as rows of pixels. Definitions: docs/metrics.md. Points that occur several
times count once. An estimate from neighbours raises UndefinedScore if 20 or fewer distinct points are left.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh
from sklearn.neighbors import NearestNeighbors

from stages.autoencoder.data.pixels import ImageRows, evenly_spaced, flatten
from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score

MAX_POINTS = 10_000  # evenly spaced ones: the time for the neighbours grows with their square
MAX_NUMBERS = 2**26  # of all points together, so that large images are fewer
MAX_COVARIANCE = 2048  # rows: of points with more dimensions, so many points are taken
FIRST_K, LAST_K = 10, 20  # neighbours of the maximum likelihood (Levina & Bickel 2005, section 4)
DISCARDED = 0.1  # share of the ratios that TwoNN leaves out, the largest (Facco et al. 2017, methods)
ROUNDING = 1e-6  # relative to the largest entry: points that are closer are the same but for rounding


class Estimates(NamedTuple):
    """What `estimate` gives: {name: value} for codes and for images, and the spectrum (K,) of the codes."""

    codes: Mapping[str, float]
    images: Mapping[str, float]
    spectrum: np.ndarray


def estimate(codes: np.ndarray, images: ImageRows) -> Estimates:
    """The estimates from codes float32 (N, D) and from the images that they belong to, uint8 (N, C, H, W).

    Of the codes: participation, twonn and ml; of the images, whose dimension does not depend on the model: twonn
    and ml. What is undefined is left out, and the log says why.
    """
    of_codes: dict[str, float] = {}
    of_images: dict[str, float] = {}
    variances = spectrum(codes)
    with limit_threads():
        add_score(of_codes, "participation", participation_ratio, variances)
        _add_neighbour_estimates(of_codes, "", evenly_spaced(codes, _max_points(codes.shape[1:])))
        shown = evenly_spaced(images, _max_points(images.shape[1:]))
        _add_neighbour_estimates(of_images, " of the images", flatten(shown))
    return Estimates(of_codes, of_images, variances)


def _max_points(shape: tuple[int, ...]) -> int:
    return min(MAX_POINTS, MAX_NUMBERS // int(np.prod(shape)))


def _add_neighbour_estimates(table: dict[str, float], suffix: str, points: np.ndarray) -> None:
    found: dict[str, float] = {}
    add_score(found, (f"twonn{suffix}", f"ml{suffix}"), neighbour_estimates, points)
    table.update((name.removesuffix(suffix), value) for name, value in found.items())


def spectrum(points: np.ndarray) -> np.ndarray:
    """The variances of points (N, D) along their principal axes, the largest first: float64 (min(N, D),).

    These are the eigenvalues of the covariance (divided by N). Of points of more than 2,048 dimensions, 2,048
    evenly spaced ones are taken. Variances that are rounding of the largest entry are 0.
    """
    if points.shape[1] > MAX_COVARIANCE:
        points = evenly_spaced(points, MAX_COVARIANCE)
    centred = points - points.mean(0, dtype=np.float64)
    products = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    variances = eigvalsh(products, check_finite=False)[::-1] / len(points)
    return np.where(variances > np.square(ROUNDING * np.abs(points).max()), variances, 0.0)


def participation_ratio(variances: np.ndarray) -> float:
    """(sum of the variances)^2 / sum of their squares: D if all axes vary alike, 1 if a single one varies.

    variances: (K,), those of `spectrum`. Raises UndefinedScore if all are 0.
    """
    if not variances.any():
        raise UndefinedScore("all codes are equal")
    shares = variances / variances.sum()
    return float(1 / np.square(shares).sum())


def neighbour_estimates(points: np.ndarray) -> tuple[float, float]:
    """The intrinsic dimension of points (N, D) by TwoNN and by maximum likelihood."""
    distances = neighbour_distances(points)
    return twonn(distances), maximum_likelihood(distances)


def neighbour_distances(points: np.ndarray) -> np.ndarray:
    """Distances of each distinct point to its 20 nearest ones, ascending, float64 (M, 20), all of them > 0."""
    distinct = np.unique(points, axis=0)
    if len(distinct) > LAST_K:
        distances, _ = NearestNeighbors(n_neighbors=LAST_K).fit(distinct).kneighbors()
        distances = distances[distances[:, 0] > ROUNDING * np.abs(distinct).max()].astype(np.float64)
    if len(distinct) <= LAST_K or len(distances) <= LAST_K:
        raise UndefinedScore(f"an intrinsic dimension needs more than {LAST_K} images that differ")
    return distances


def twonn(distances: np.ndarray) -> float:
    """The intrinsic dimension by the ratio mu of the distances to the two nearest points (Facco et al. 2017).

    distances: (N, K), ascending. Of points that are uniform over the length of these distances, whatever their
    density, P(mu > m) = m^-d. d is the slope of -log(1 - F(mu)) over log(mu), F the empirical distribution, by least
    squares through the origin without the largest tenth of the ratios. Raises UndefinedScore if all mu are 1.
    """
    count = len(distances)
    kept = int(count * (1 - DISCARDED))
    x = np.sort(np.log(distances[:, 1] / distances[:, 0]))[:kept]
    y = -np.log(1 - np.arange(1, kept + 1) / count)
    if not x.any():
        raise UndefinedScore("the nearest two neighbours of each image are equally far")
    return float((x * y).sum() / np.square(x).sum())


def maximum_likelihood(distances: np.ndarray) -> float:
    """The intrinsic dimension by maximum likelihood, mean over 10 to 20 neighbours (Levina & Bickel 2005).

    distances: (N, 20), ascending. With k neighbours the inverse of the estimate at a point is the mean of
    log(T_k / T_j) over j < k; these inverses are averaged over points (MacKay & Ghahramani 2005), not the estimates,
    which would be larger. Raises UndefinedScore if all neighbours are equally far.
    """
    logs = np.log(distances)
    inverses = np.array([(logs[:, [k - 1]] - logs[:, : k - 1]).mean() for k in range(FIRST_K, LAST_K + 1)])
    if not inverses.all():
        raise UndefinedScore("all neighbours of each image are equally far")
    return float((1 / inverses).mean())
