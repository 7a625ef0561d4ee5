"""How much of a code is used: dimensions that vary over images, entries that are not zero, sparsity.

Codes are float32 (N, D). Definitions: docs/metrics.md.
"""

import numpy as np

from stages.autoencoder.scores.undefined_scores import UndefinedScore

MIN_VARIANCE = 0.01  # of the mean of a variational unit that counts as active (Burda et al. 2016, section 5.2)
MIN_SHARE = 0.01  # of the largest dimension's variance, for other codes, whose scale is arbitrary


def is_active(codes: np.ndarray, variational: bool) -> np.ndarray:
    """Which dimensions vary over the images, bool (D,). codes: of a variational model, the means."""
    variance = codes.var(0, dtype=np.float64)
    return variance > (MIN_VARIANCE if variational else MIN_SHARE * variance.max())


def active_units(means: np.ndarray) -> int:
    """The number of active dimensions of a variational code, from its mean for each image (N, D)."""
    return int(is_active(means, variational=True).sum())


def hoyer(codes: np.ndarray) -> float:
    """Sparsity (sqrt(D) - |z|_1 / |z|_2) / (sqrt(D) - 1), mean over images (Hoyer 2004, section 3.1).

    codes: (N, D). 0: all entries of a code have the same size; 1: a single entry is not zero. All-zero codes are
    left out. Raises UndefinedScore for D = 1 and if all codes are zero.
    """
    root = np.sqrt(codes.shape[1])
    codes = codes[codes.any(1)].astype(np.float64)
    if root == 1:
        raise UndefinedScore("a code of one dimension has no sparsity")
    if not len(codes):
        raise UndefinedScore("all codes are zero")
    size = np.abs(codes).max(1, keepdims=True)  # tiny entries would square to zero
    codes = codes / size
    return float(((root - np.abs(codes).sum(1) / np.sqrt(np.square(codes).sum(1))) / (root - 1)).mean())


def dead_units(codes: np.ndarray) -> float:
    """The share of the dimensions of codes (N, D) that are zero for all images."""
    return float(1 - codes.any(0).mean())


def mean_active(codes: np.ndarray) -> float:
    """The number of entries of a code (N, D) that are not zero, mean over images."""
    return float(np.count_nonzero(codes) / len(codes))
