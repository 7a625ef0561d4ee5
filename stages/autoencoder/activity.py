"""How much of a code is in use: dimensions that vary over images, entries that are not zero, sparsity.

Codes are float32 (N, D). Definitions: docs/metrics.md.
"""

import numpy as np

from stages.autoencoder.undefined import Undefined

GAUSSIAN = 0.01  # variance of its mean above which a gaussian unit is active (Burda et al. 2016, section 5.2)
SHARE = 0.01  # of the largest dimension's variance, above which a dimension of another code is: its scale is free


def active(codes: np.ndarray, gaussian: bool) -> np.ndarray:
    """Which dimensions vary over the images, bool (D,). codes: of a gaussian code, its mean."""
    variance = codes.var(0, dtype=np.float64)
    return variance > (GAUSSIAN if gaussian else SHARE * variance.max())


def active_units(means: np.ndarray) -> int:
    """The number of active dimensions of a gaussian code, given its mean for each image."""
    return int(active(means, gaussian=True).sum())


def hoyer(codes: np.ndarray) -> float:
    """Sparsity (sqrt(D) - |z|_1 / |z|_2) / (sqrt(D) - 1), mean over images (Hoyer 2004, section 3.1).

    codes: (N, D). 0: all entries of a code are alike in size; 1: one entry is not zero. Codes that are zero
    have none and are left out. Raises Undefined for D = 1 and where all codes are zero.
    """
    root = np.sqrt(codes.shape[1])
    codes = codes[codes.any(1)].astype(np.float64)
    if root == 1:
        raise Undefined("a code of one dimension has no sparsity")
    if not len(codes):
        raise Undefined("all codes are zero")
    size = np.abs(codes).max(1, keepdims=True)  # codes of tiny entries would square to zero
    codes = codes / size
    return float(((root - np.abs(codes).sum(1) / np.sqrt(np.square(codes).sum(1))) / (root - 1)).mean())


def mean_active(codes: np.ndarray) -> float:
    """Entries of a code (N, D) that are not zero, mean over images."""
    return float(np.count_nonzero(codes) / len(codes))
