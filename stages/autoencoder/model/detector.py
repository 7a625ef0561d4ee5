"""How unlike the training images an image is: the scores that find anomalies. Definitions: docs/metrics.md.

All are larger for more unusual images. What they know of the training images stands in the model file;
training/fits/detector_fit.py computes it. No anomalous image has a part in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.objectives import RECONSTRUCTION_LOSSES, gaussian_kl
from stages.autoencoder.model.sampling import Mixture

PREFIX = "detector."  # of its arrays in the model file
COMBINED, MSE, RAPP, MAHALANOBIS = "combined", "mse", "rapp", "mahalanobis"
DENSITY, ELBO = "density", "elbo"
LEAST = 1e-12  # what smaller scores count as, before their logarithm is taken
MAX_UNITS = 256  # of a layer or code that count, evenly spaced: the file has a number for each pair of them


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian of F numbers of each image, fitted to the training images. Arrays float32."""

    mean: np.ndarray  # (F,)
    whitening: np.ndarray  # (F, F): (x - mean) @ whitening has the covariance I

    def distance(self, features: Tensor) -> Tensor:
        """The squared Mahalanobis distance of features (B, F) from the mean, float64 (B,)."""
        mean, whitening = (torch.from_numpy(array).to(features.device) for array in (self.mean, self.whitening))
        return ((features - mean) @ whitening).double().square().sum(1)


@dataclass(frozen=True)
class Detector:
    """What the scores know of images without anomalies."""

    activations: Gaussian  # of `activations` of training images
    differences: Gaussian  # of their second half
    logarithms: np.ndarray  # float32 (2, 2): mean and deviation of log mse, then of log mahalanobis, in validation

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by their names in the model file."""
        gaussians = {"activations": self.activations, "differences": self.differences}
        parts = {f"{name}.{part}": array for name, held in gaussians.items() for part, array in vars(held).items()}
        return {PREFIX + name: array for name, array in (parts | {"logarithms": self.logarithms}).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], model: Autoencoder) -> Self:
        """The detector in the file of a model. Raises ValueError if an array is missing, or not what it must be."""
        count = count_activations(model)
        shapes = {
            f"{PREFIX}{name}.{part}": (size,) * axes
            for name, size in (("activations", count), ("differences", count // 2))
            for part, axes in (("mean", 1), ("whitening", 2))
        }
        shapes[f"{PREFIX}logarithms"] = (2, 2)
        if arrays.keys() != shapes.keys():
            raise ValueError(f"its detector must have {', '.join(shapes)}; got {', '.join(sorted(arrays))[:60]}")
        for name, array in arrays.items():
            if array.shape != shapes[name] or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite float32 {shapes[name]}; got {array.dtype} {array.shape}")
        found = [arrays[name] for name in shapes]
        return cls(Gaussian(*found[:2]), Gaussian(*found[2:4]), found[4])


def score_functions(
    model: Autoencoder, detector: Detector, mixture: Mixture | None, loss: str
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The scores of a model by name: images, float (B, C, H, W) in [0, 1] -> float64 (B,).

    mixture: the density of the training codes; None for a variational model. loss: a key of RECONSTRUCTION_LOSSES.
    """

    def mse(images: Tensor) -> Tensor:
        return mse_per_image(model, images)

    def rapp(images: Tensor) -> Tensor:
        return detector.differences.distance(activations(model, images).chunk(2, dim=1)[1])

    def mahalanobis(images: Tensor) -> Tensor:
        return detector.activations.distance(activations(model, images))

    def combined(images: Tensor) -> Tensor:
        numbers, output = activations_and_output(model, images)
        both = [_mse(output, images), detector.activations.distance(numbers)]
        logarithms = torch.stack(both, 1).clamp(min=LEAST).log()
        mean, deviation = torch.from_numpy(detector.logarithms).to(images.device).T
        largest: Tensor = ((logarithms - mean) / deviation).amax(1)
        return largest

    def density(images: Tensor) -> Tensor:
        assert mixture is not None  # noqa: S101 - it is no score of a variational model
        return -mixture.log_density(model.encode(images))

    def elbo(images: Tensor) -> Tensor:
        code = model.code(images)
        assert code.mean is not None and code.log_var is not None  # noqa: S101, PT018 - the model is variational
        error = RECONSTRUCTION_LOSSES[loss](model.decoder(code.mean), images)
        return error.double() + gaussian_kl(code.mean, code.log_var).double()

    of_code = (ELBO, elbo) if mixture is None else (DENSITY, density)
    return dict([(COMBINED, combined), (MSE, mse), (RAPP, rapp), (MAHALANOBIS, mahalanobis), of_code])


def mse_per_image(model: Autoencoder, images: Tensor) -> Tensor:
    """The reconstruction error of images (B, C, H, W), MSE per pixel, float64 (B,)."""
    return _mse(model(images), images)


def activations(model: Autoencoder, images: Tensor) -> Tensor:
    """What the encoder makes of images (B, C, H, W), and how it differs for their reconstructions: (B, F).

    The first half: activations of the last hidden layer, then the code. The second half: these numbers minus those of
    the reconstruction (Kim et al. 2020).
    """
    return activations_and_output(model, images)[0]


def activations_and_output(model: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """`activations`, and the reconstructions, (B, C, H, W), that are made on the way."""
    hidden = model.hidden(images)
    code = model.code_of(hidden).z
    output = model.decode(code)
    again = model.hidden(output)
    pairs = [(hidden, again), (code, model.code_of(again).z)]
    first, second = ([_choose(values) for values in half] for half in zip(*pairs, strict=True))
    return torch.cat([*first, *(a - b for a, b in zip(first, second, strict=True))], 1), output


def count_activations(model: Autoencoder) -> int:
    """How many numbers `activations` gives for an image."""
    return 2 * sum(min(size, MAX_UNITS) for size in (model.hidden_size, model.spec.latent_dim))


def _mse(output: Tensor, images: Tensor) -> Tensor:
    return (output - images).double().square().flatten(1).mean(1)


def _choose(values: Tensor) -> Tensor:
    """At most MAX_UNITS of the numbers of each image, (B, N), evenly spaced."""
    count = values.shape[1]
    if count <= MAX_UNITS:
        return values
    return values[:, np.linspace(0, count - 1, MAX_UNITS).round().astype(int)]
