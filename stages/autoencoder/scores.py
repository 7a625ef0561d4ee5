"""The scores of reconstructions. Definitions and units: docs/metrics.md. Scores of codes: probes.py, activity.py.

Pixels are float in [0, 1]; sums are taken in float64.
"""

import numpy as np
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score

from stages.autoencoder.undefined import Undefined

PERFECT = 1e-10  # MSE below which an image counts as perfect: 100 dB, so that the mean PSNR stays finite
WINDOW = 7  # side of SSIM's window


def mse_per_image(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean square of the difference over the pixels of each image: (N, C, H, W) twice -> float64 (N,)."""
    return np.square(output - target, dtype=np.float64).reshape(len(output), -1).mean(1)


def psnr_per_image(mse: np.ndarray) -> np.ndarray:
    """10 log10(1 / MSE_i) in dB, at most 100: (N,) -> (N,)."""
    return -10 * np.log10(np.maximum(mse, PERFECT))


def ssim_per_image(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of each image, (N, C, H, W) twice -> float64 (N,).

    A uniform window of 7 x 7 pixels (of the largest odd side where an image is smaller), data range 1, the
    mean over windows that lie inside the image and over channels.
    Raises Undefined for images of fewer than 3 pixels a side.
    """
    side = min(output.shape[2:])
    if side < 3:
        raise Undefined(f"SSIM needs images of 3 pixels a side or more, these have {side}")
    window = min(WINDOW, side - (side + 1) % 2)
    pairs = zip(output, target, strict=True)
    return np.array(
        [
            structural_similarity(a, b, win_size=window, data_range=1.0, channel_axis=0)
            for a, b in ((a.astype(np.float64), b.astype(np.float64)) for a, b in pairs)
        ]
    )


def ratio(mse: float, pca_mse: float, spread: float) -> float:
    """A reconstruction error over PCA's. Raises Undefined where PCA loses nothing.

    spread: PCA's error without components. pca_mse is that less what the components explain, both from float32:
    what is left of a millionth of it or less is rounding.
    """
    if pca_mse <= max(PERFECT, 1e-6 * spread):
        raise Undefined("PCA with as many dimensions loses nothing")
    return mse / pca_mse


def auroc(error: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under the ROC curve when the error (N,) tells the anomalous images, bool (N,), from the others.

    Raises Undefined where all or none are anomalous.
    """
    if anomalous.all() or not anomalous.any():
        raise Undefined(f"AUROC needs normal and anomalous images, here {'all' if anomalous.all() else 'none'} are")
    return float(roc_auc_score(anomalous, error))
