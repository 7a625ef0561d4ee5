"""PCA: fitted once, applied everywhere. The baseline of every autoencoder, and a 2-D map of codes."""

import numpy as np
from sklearn.decomposition import PCA

from stages.autoencoder.data.pixels import flatten
from stages.autoencoder.scores.thread_limits import limit_threads

BATCH_SIZE = 4096  # images held as float at a time


def fit(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and principal axes (K, P), in order of variance, of images float32 (N, P), N >= 2.

    K is P, or N - 1 if that is less: N images minus their mean span no more.
    """
    count, size = train.shape
    solver = "covariance_eigh" if count > size else "full"
    with np.errstate(invalid="ignore"):  # shares of a variance of 0, if all images are equal
        pca = PCA(min(count - 1, size), svd_solver=solver).fit(train)
    return pca.mean_, pca.components_


def error_by_dimension(test: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """MSE per pixel of images float32 (N, P) with 1, 2, ... K components, float64 (K,).

    The axes are orthonormal, so each component reduces the error by the mean square of its coordinate. With as
    many components as pixels nothing is lost.
    """
    centred = test - mean
    explained = np.square(centred @ components.T, dtype=np.float64).mean(0).cumsum()
    total = np.square(centred, dtype=np.float64).sum(1).mean()
    mse = np.maximum(total - explained, 0) / test.shape[1]
    if len(mse) == test.shape[1]:
        mse[-1] = 0
    return mse


def project(images: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The coordinates of uint8 images (N, C, H, W) on the axes (K, P): float32 (N, K)."""
    batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    return np.concatenate([(flatten(batch) - mean) @ components.T for batch in batches])


def map_codes(codes: np.ndarray) -> np.ndarray:
    """The two principal axes of codes (N, D): float32 (N, 2); codes of one dimension lie on the first axis."""
    points = np.zeros((len(codes), 2), np.float32)
    with limit_threads():
        coordinates = PCA(min(2, codes.shape[1]), svd_solver="full").fit_transform(codes)
    points[:, : coordinates.shape[1]] = coordinates
    return points
