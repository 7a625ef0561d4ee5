"""Fits what the anomaly scores (model/detector.py) know to images without anomalies."""

from functools import partial

import numpy as np
import torch

from stages.autoencoder.data.pixels import ImageRows
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.detector import LEAST, Detector, Gaussian, activations, mse_per_image

MAX_IMAGES = 5000  # of each part

LEAST_DEVIATION = 1e-3  # of a logarithm; below it, it is rounding or a single image
LEAST_VARIANCE = 1e-6  # added to that of each number, in units of their mean variance


def fit_to_images(model: Autoencoder, train: ImageRows, valid: ImageRows, device: torch.device) -> Detector:
    """What the scores of a model in eval mode know; uint8 (N, C, H, W) each.

    Evenly spaced images count, at most MAX_IMAGES of each part.
    """
    fitted, unseen = (
        inference.apply_to_some(partial(activations, model), images, MAX_IMAGES, device) for images in (train, valid)
    )
    return fit(fitted, unseen, inference.apply_to_some(partial(mse_per_image, model), valid, MAX_IMAGES, device))


def fit(known: np.ndarray, unseen: np.ndarray, errors: np.ndarray) -> Detector:
    """known: `activations` of training images, float32 (N, F), N >= 2.

    unseen: the same of validation images, (M, F); errors: the MSE of each of them, (M,).
    """
    whole = _fit_gaussian(known)
    distances = whole.distance(torch.from_numpy(unseen)).numpy()
    logarithms = [_mean_and_deviation(np.log(np.maximum(values, LEAST))) for values in (errors, distances)]
    differences = _fit_gaussian(known[:, known.shape[1] // 2 :])
    return Detector(whole, differences, np.array(logarithms, np.float32))


def _mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """The deviation is 1 where the values, (M,), do not vary."""
    deviation = float(values.std(dtype=np.float64))
    return float(values.mean(dtype=np.float64)), deviation if deviation > LEAST_DEVIATION else 1.0


def _fit_gaussian(features: np.ndarray) -> Gaussian:
    """The Gaussian of features (N, F), whose covariance is shrunk as Ledoit & Wolf 2004 do."""
    from sklearn.covariance import ledoit_wolf  # the import takes half a second

    mean = features.mean(0, dtype=np.float64)
    covariance, _ = ledoit_wolf(features - mean, assume_centered=True)
    floor = LEAST_VARIANCE * covariance.trace() / len(mean) or 1.0  # 1 for features that do not vary
    factor = np.linalg.cholesky(covariance + floor * np.eye(len(mean)))
    return Gaussian(mean.astype(np.float32), np.ascontiguousarray(np.linalg.inv(factor).T, dtype=np.float32))
