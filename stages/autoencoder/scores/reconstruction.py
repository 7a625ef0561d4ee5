"""Scores of reconstructions. Definitions and units: docs/metrics.md.

Pixels are float in [0, 1]; sums are taken in float64.
"""

from collections.abc import Callable

import numpy as np

from stages.autoencoder.data.pixels import ImageRows, piece_length, pieces, to_unit
from stages.autoencoder.scores.undefined_scores import UndefinedScore

MIN_MSE = 1e-10  # a smaller one counts as this, 100 dB, so that the mean PSNR stays finite
SSIM_WINDOW = 7  # pixels a side
BATCH_SIZE = 4096  # images held as float at a time, fewer if they are large


def score_in_batches(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], output: ImageRows, clean: ImageRows
) -> np.ndarray:
    """The score (N,) of images float (N, C, H, W) against uint8 ones, of which few are held as float at a time."""
    batches = pieces(len(clean), piece_length(clean.shape[1:], BATCH_SIZE))
    return np.concatenate([score(output[batch], to_unit(clean[batch])) for batch in batches])


def mse_per_image(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean square of the difference over the pixels of each image: (N, C, H, W) twice -> float64 (N,)."""
    return np.square(output - target, dtype=np.float64).reshape(len(output), -1).mean(1)


def psnr_per_image(mse: np.ndarray) -> np.ndarray:
    """10 log10(1 / MSE_i) in dB, at most 100: (N,) -> (N,)."""
    return -10 * np.log10(np.maximum(mse, MIN_MSE))


def ssim_per_image(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of each image, (N, C, H, W) twice -> float64 (N,).

    A uniform window of 7 x 7 pixels (the largest odd side in smaller images), data range 1, mean over the
    windows inside the image and over channels. Raises UndefinedScore for images of fewer than 3 pixels a side.
    """
    from skimage.metrics import structural_similarity  # half a second, which the users of a model save

    side = min(output.shape[2:])
    if side < 3:
        raise UndefinedScore(f"SSIM needs images of 3 pixels a side or more, these have {side}")
    window = min(SSIM_WINDOW, side - (side + 1) % 2)
    pairs = zip(output, target, strict=True)
    return np.array(
        [
            structural_similarity(a, b, win_size=window, data_range=1.0, channel_axis=0)
            for a, b in ((a.astype(np.float64), b.astype(np.float64)) for a, b in pairs)
        ]
    )


def mse_ratio(mse: float, pca_mse: float, mean_image_mse: float) -> float:
    """A reconstruction error divided by PCA's. Raises UndefinedScore if PCA loses nothing.

    mean_image_mse: the error of the mean image, that is of PCA without components. A pca_mse of a millionth of it
    or less is the rounding of float32.
    """
    if pca_mse <= max(MIN_MSE, 1e-6 * mean_image_mse):
        raise UndefinedScore("PCA with as many dimensions loses nothing")
    return mse / pca_mse
