"""The scores that are compared, where no library defines them. Definitions and units: docs/metrics.md."""

import numpy as np


def mse_per_image(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean square of the difference over the pixels of each image: (N, C, H, W) twice -> float64 (N,)."""
    return np.square(output - target, dtype=np.float64).reshape(len(output), -1).mean(1)


def psnr_per_image(mse: np.ndarray) -> np.ndarray:
    """10 log10(1 / MSE_i) in dB, for pixels in [0, 1]: (N,) -> (N,); infinite for a perfect image."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)
