"""Model files of untrained models, with a description and, where there is no prior, a mixture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder.model import model_file
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.detector import Detector, Gaussian, count_activations
from stages.autoencoder.model.sampling import MAX_AXES, Mixture
from stages.autoencoder.params import fitting
from stages.autoencoder.params.inputs import Denoising

THRESHOLD = 0.1  # MSE per pixel


def describe(model: Autoencoder, corruption: str | None = None, **changes: Any) -> model_file.Description:
    """The description of an untrained model. corruption: what it is said to undo."""
    about = model_file.Description(
        spec=model.spec,
        variant="variational" if model.is_variational else "undercomplete",
        loss="mse",
        corruption=Denoising.model_validate({"corruption": corruption, "level": 0.3}) if corruption else None,
        beta=1.0 if model.is_variational else None,
        best_epoch=1,
        valid=1.0,
        score="mse",
        threshold=THRESHOLD,
        mse_threshold=THRESHOLD,
        anomaly_quantile=0.99,
        class_names=("a", "b"),
        normal_classes=(),
        fitting=fitting.keep_size(model.spec.shape),
    )
    return replace(about, **changes)


def make_mixture(latent_dim: int) -> Mixture:
    """Two Gaussians of standard deviation 1, two apart, on the first axes."""
    rank = min(latent_dim, MAX_AXES)
    means = np.zeros((2, rank), np.float32)
    means[:, 0] = [-1, 1]
    factors = np.stack([np.eye(rank, dtype=np.float32)] * 2)
    return Mixture(
        np.zeros(latent_dim, np.float32), np.eye(rank, latent_dim, dtype=np.float32),
        np.full(2, 0.5, np.float32), means, factors,
    )  # fmt: skip


def make_detector(model: Autoencoder) -> Detector:
    """Standard normal activations."""
    count = count_activations(model)
    whole, half = (Gaussian(np.zeros(n, np.float32), np.eye(n, dtype=np.float32)) for n in (count, count // 2))
    return Detector(whole, half, np.array([[-2, 1], [3, 1]], np.float32))


def save(path: Path, model: Autoencoder, corruption: str | None = None, **changes: Any) -> None:
    """Write a model file. changes: of its description."""
    mixture = None if model.is_variational else make_mixture(model.spec.latent_dim)
    model_file.save(path, model, describe(model, corruption, **changes), make_detector(model), mixture)
