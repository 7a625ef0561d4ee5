"""PCA: fitted once, applied everywhere. The baseline of every autoencoder, and a 2-D map of codes.

Images of up to 4,096 pixels are fitted by scikit-learn on as many of them as fit in memory as float32. Larger ones
are fitted exactly on at most 4,096 of them, through the products of all pairs of images, and the first 512
components are kept. No function holds more than about 1 GiB.
"""

import numpy as np
from scipy.linalg import eigh
from sklearn.decomposition import PCA

from stages.autoencoder.data.pixels import ImageRows, evenly_spaced, flatten, piece_length, pieces, to_unit
from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore

BATCH_SIZE = 4096  # images held as float at a time, fewer if they are large
MAX_BYTES = 2**29  # of the images that PCA is fitted on, and of its components
MAX_PIXELS = 4096  # images with more numbers are fitted through the products of pairs
MAX_PAIRED = 4096  # such images at most: the time grows with their square
MAX_COMPONENTS = 512  # of such images
BLOCK = 2**23  # numbers held as float64 at a time: 64 MiB
ROUNDING = 1e-12  # of the largest variance: a smaller one is rounding, not variation


def fit(images: ImageRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and principal axes (K, P), in order of variance, of uint8 images (N, C, H, W), N >= 2; float32.

    K is P, or N - 1 if that is less: N images minus their mean span no more. Images of more than 4,096 pixels have
    at most max_components(P) axes, and none on which they do not vary.
    """
    size = int(np.prod(images.shape[1:]))
    if size > MAX_PIXELS:
        return _fit_by_pairs(evenly_spaced(images, min(MAX_PAIRED, max(2, MAX_BYTES // size))))
    train = flatten(evenly_spaced(images, MAX_BYTES // (4 * size)))
    count = len(train)
    solver = "covariance_eigh" if count > size else "full"
    with np.errstate(invalid="ignore"):  # shares of a variance of 0, if all images are equal
        pca = PCA(min(count - 1, size), svd_solver=solver).fit(train)
    return pca.mean_, pca.components_


def max_components(pixels: int) -> int:
    """The number of components that `fit` keeps at most, for images of so many pixels (times channels)."""
    return pixels if pixels <= MAX_PIXELS else max(1, min(MAX_COMPONENTS, MAX_BYTES // (4 * pixels)))


def error_by_dimension(images: ImageRows, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """MSE per pixel of uint8 images (N, C, H, W) with 1, 2, ... K components, float64 (K,).

    The axes are orthonormal, so each component reduces the error by the mean square of its coordinate. With as
    many components as pixels nothing is lost.
    """
    explained, total = np.zeros(len(components)), 0.0
    for piece in pieces(len(images), piece_length(images.shape[1:], BATCH_SIZE)):
        centred = flatten(images[piece]) - mean
        explained += np.square(centred @ components.T, dtype=np.float64).sum(0)
        total += np.square(centred, dtype=np.float64).sum(1).sum()
    mse = np.maximum(total / len(images) - (explained / len(images)).cumsum(), 0) / len(mean)
    if len(mse) == len(mean):
        mse[-1] = 0
    return mse


def error_at(mse: np.ndarray, dimension: int, pixels: int) -> float:
    """The entry of error_by_dimension, (K,), for so many dimensions; beyond K the last: more explain nothing more.

    Raises UndefinedScore for a dimension above K if the baseline did not keep every component.
    """
    if dimension > len(mse) == max_components(pixels) < pixels:
        raise UndefinedScore(f"the baseline keeps {len(mse)} components of such images, latent_dim is {dimension}")
    return float(mse[min(dimension, len(mse)) - 1])


def project(images: ImageRows, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The coordinates of uint8 images (N, C, H, W) on the axes (K, P): float32 (N, K)."""
    batches = pieces(len(images), piece_length(images.shape[1:], BATCH_SIZE))
    return np.concatenate([(flatten(images[batch]) - mean) @ components.T for batch in batches])


def map_codes(codes: np.ndarray) -> np.ndarray:
    """The two principal axes of codes (N, D): float32 (N, 2); codes of one dimension lie on the first axis."""
    points = np.zeros((len(codes), 2), np.float32)
    with limit_threads():
        coordinates = PCA(min(2, codes.shape[1]), svd_solver="full").fit_transform(codes)
    points[:, : coordinates.shape[1]] = coordinates
    return points


def _fit_by_pairs(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`fit` for few large images in memory: the eigenvectors of their N x N products give the axes (Sirovich 1987)."""
    flat = images.reshape(len(images), -1)
    count, size = flat.shape
    blocks = list(pieces(size, max(1, BLOCK // count)))
    mean, products = np.empty(size), np.zeros((count, count))
    for block in blocks:
        pixels = flat[:, block].astype(np.float64)
        mean[block] = pixels.mean(0)
        products += pixels @ pixels.T  # sums of whole numbers below 2**53: exact in any order
    products -= products.mean(0)
    products -= products.mean(1, keepdims=True)

    kept = min(max_components(size), count - 1)
    variances, vectors = eigh(products, subset_by_index=(count - kept, count - 1), overwrite_a=True, check_finite=False)
    variances, vectors = variances[::-1], vectors[:, ::-1]  # the largest first
    kept = max(1, int((variances > ROUNDING * variances[0]).sum()))
    weights = vectors[:, :kept] / np.sqrt(np.maximum(variances[:kept], np.finfo(float).tiny))
    components = np.empty((kept, size), np.float32)
    for block in blocks:
        components[:, block] = weights.T @ (flat[:, block] - mean[block])
    for axis in components:  # of each axis and its opposite, as scikit-learn does: the one whose largest entry is > 0
        if axis[np.abs(axis).argmax()] < 0:
            np.negative(axis, out=axis)
    return to_unit(mean).astype(np.float32), components
