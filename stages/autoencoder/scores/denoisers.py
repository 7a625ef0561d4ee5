"""What removes noise without being trained for it: median filter, PCA, non-local means. Definitions: docs/metrics.md.

Images are float32 (N, C, H, W) in [0, 1]. Each method has one strength, which is chosen on validation images with
noise of their own, by the same score by which the methods are compared: the mean gain in PSNR.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter

from stages.autoencoder.data.pixels import to_unit
from stages.autoencoder.params.inputs import Denoising
from stages.autoencoder.scores.reconstruction import mse_per_image, psnr_per_image

MAX_TEST, MAX_VALID = 1000, 200  # images, evenly spaced, fewer if they are large: non-local means takes 2 ms for each
MAX_NUMBERS = 2**23  # of the test images that are compared
NOISE_SEED = 1  # of the validation images; that of the test images is 0
WINDOWS = (3, 5, 7)  # of the median, pixels a side
RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # principal components
STRENGTHS = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8)  # h of non-local means, grey levels
PATCH, REACH = 5, 6  # of non-local means: pixels a side of a patch, and how far away patches are compared

Denoiser = Callable[[np.ndarray, float], np.ndarray]


class NoisyImages(NamedTuple):
    """Noisy images, float32 (N, C, H, W), and the clean ones, uint8."""

    given: np.ndarray
    clean: np.ndarray


class Comparison(NamedTuple):
    """A row for each method in `table` (docs/metrics.md), and its output for the test images by name."""

    table: pd.DataFrame
    outputs: Mapping[str, np.ndarray]


def compare(
    test: NoisyImages, denoised: np.ndarray, valid: NoisyImages, mean: np.ndarray, components: np.ndarray
) -> Comparison:
    """The gains of the model and of the methods above on the same noisy test images.

    denoised: the model's output for them; mean (P,), components (K, P): PCA of the clean training images.
    """
    methods: dict[str, tuple[Denoiser, Sequence[float]]] = {
        "median": (median, [window for window in WINDOWS if window <= min(test.clean.shape[2:])] or WINDOWS[:1]),
        "PCA": (partial(project, mean, components), [rank for rank in RANKS if rank <= len(components)]),
        "non-local means": (non_local_means, STRENGTHS),
    }
    rows = [("autoencoder", np.nan, *gain(test, denoised))]
    outputs = {"autoencoder": denoised}
    for name, (denoiser, strengths) in methods.items():
        strength = max(strengths, key=lambda value: gain(valid, denoiser(valid.given, value))[1])
        outputs[name] = denoiser(test.given, strength)
        rows.append((name, strength, *gain(test, outputs[name])))
    return Comparison(pd.DataFrame(rows, columns=["method", "strength", "psnr", "gain_db"]), outputs)


def add_noise(clean: np.ndarray, noise: Denoising) -> np.ndarray:
    """uint8 images as the model gets them in training, with a seed that no other stage uses."""
    import torch  # which evaluate needs for this alone

    from stages.autoencoder.training.inputs import corrupt

    generator = torch.Generator().manual_seed(NOISE_SEED)
    return corrupt(torch.from_numpy(to_unit(clean)), noise.corruption, noise.level, generator).numpy()


def gain(images: NoisyImages, output: np.ndarray) -> tuple[float, float]:
    """PSNR of the output and its gain over the noisy image in dB, both against the clean one, means over images."""
    clean = to_unit(images.clean)
    before, after = (psnr_per_image(mse_per_image(pixels, clean)) for pixels in (images.given, output))
    return float(after.mean()), float((after - before).mean())


def median(images: np.ndarray, window: float) -> np.ndarray:
    """The median of window x window pixels, each channel for itself; the border is mirrored."""
    return median_filter(images, (1, 1, int(window), int(window)), mode="mirror")


def project(mean: np.ndarray, components: np.ndarray, images: np.ndarray, rank: float) -> np.ndarray:
    """The projection on the first `rank` principal axes, clipped to [0, 1]."""
    axes = components[: int(rank)]
    flat = (images.reshape(len(images), -1) - mean) @ axes.T @ axes + mean
    return flat.clip(0, 1).reshape(images.shape)


def non_local_means(images: np.ndarray, strength: float) -> np.ndarray:
    """Means over similar patches (Buades et al. 2005) by scikit-image; strength: its h."""
    from skimage.restoration import denoise_nl_means  # half a second, which other variants save

    def denoise(image: np.ndarray) -> np.ndarray:
        if len(image) == 1:  # with a channel_axis of one channel, scikit-image 0.26 returns the image transposed
            return denoise_nl_means(image[0], PATCH, REACH, strength)[None]
        return denoise_nl_means(image, PATCH, REACH, strength, channel_axis=0)

    return np.stack([denoise(image) for image in images])
