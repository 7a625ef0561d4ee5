"""Codes to decode into new images: samples of a prior or of a mixture of Gaussians, and lines between two codes.

An autoencoder without a prior samples from a mixture that training/fits/mixture_fit.py fitted to its training codes:
ex-post density estimation (Ghosh et al. 2020, section 4). The mixture stands in the model file.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch

from stages.autoencoder.model.autoencoder import Autoencoder

PREFIX = "mixture."  # of its arrays in the model file
MAX_AXES = 64  # in which the mixture is fitted: those along which the codes vary most
MAX_COMPONENTS = 100


@dataclass(frozen=True)
class Mixture:
    """K Gaussians in the coordinates of R principal axes of codes of D numbers. All arrays float32.

    A sample of component k is mean + axes^T (means[k] + factors[k] e), with e from N(0, I).
    """

    mean: np.ndarray  # (D,), of the training codes
    axes: np.ndarray  # (R, D), orthonormal directions, each times the standard deviation of the codes along it
    weights: np.ndarray  # (K,), the probability of each component
    means: np.ndarray  # (K, R)
    factors: np.ndarray  # (K, R, R), the lower Cholesky factor of each covariance

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Codes float32 (count, D), the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        weights = torch.from_numpy(self.weights)
        component = torch.multinomial(weights, count, replacement=True, generator=generator).numpy()
        noise = torch.randn(count, len(self.axes), generator=generator).numpy()
        # one component after the other: a matrix for each sample would take R * R numbers
        coordinates = np.empty_like(noise)
        for number in np.unique(component):
            chosen = component == number
            coordinates[chosen] = self.means[number] + noise[chosen] @ self.factors[number].T
        return self.mean + coordinates @ self.axes

    def log_density(self, codes: torch.Tensor) -> torch.Tensor:
        """The log of the density at codes (B, D) in the coordinates of the axes, in nats: float64 (B,)."""
        mean, axes, weights, means, factors = (
            torch.from_numpy(getattr(self, field.name)).to(codes.device).double() for field in fields(self)
        )
        coordinates = (codes.double() - mean) @ (axes / axes.square().sum(1, keepdim=True)).T
        deviations = (coordinates - means[:, None]).mT  # (K, R, B)
        squares = torch.linalg.solve_triangular(factors, deviations, upper=False).square().sum(1)
        log_volume = factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * len(axes) * math.log(2 * math.pi)
        return (weights.log()[:, None] - log_volume[:, None] - 0.5 * squares).logsumexp(0)

    def describe(self) -> str:
        """What it is, for a title or a table."""
        count = len(self.weights)
        return "a Gaussian" if count == 1 else f"a mixture of {count} Gaussians"

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by their names in the model file."""
        return {PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], latent_dim: int) -> Self:
        """The mixture in a model file, whose codes have `latent_dim` numbers.

        Raises ValueError if an array is missing, of another type or shape, or not finite, or weights are no weights.
        """
        names = [field.name for field in fields(cls)]
        if arrays.keys() != {PREFIX + name for name in names}:
            raise ValueError(f"its mixture must have {', '.join(names)}; got {', '.join(sorted(arrays))[:60]}")
        found = {name: arrays[PREFIX + name] for name in names}
        count, rank = (*found["means"].shape, 0, 0)[:2]
        if not 1 <= count <= MAX_COMPONENTS or rank > MAX_AXES:
            raise ValueError(
                f"{PREFIX}means must be of 1 to {MAX_COMPONENTS} Gaussians on at most {MAX_AXES} axes;"
                f" got {count} on {rank}"
            )
        shapes = {"mean": (latent_dim,), "axes": (rank, latent_dim), "weights": (count,), "means": (count, rank)}
        shapes["factors"] = (count, rank, rank)
        for name, array in found.items():
            if array.shape != shapes[name] or array.dtype != np.float32 or not np.isfinite(array).all():
                wanted = f"finite float32 {shapes[name]}"
                raise ValueError(f"{PREFIX}{name} must be {wanted}; got {array.dtype} {array.shape}")
        if (found["weights"] < 0).any() or not found["weights"].sum() > 0:
            raise ValueError(f"{PREFIX}weights must be probabilities")
        return cls(**found)


def sample_codes(model: Autoencoder, mixture: Mixture | None, count: int, seed: int) -> np.ndarray:
    """Codes float32 (count, latent_dim), the same for the same seed. mixture: None where there is a prior, N(0, I)."""
    return _through_bottleneck(model, _draw(model, mixture, count, seed))


def sample_near(
    model: Autoencoder, mixture: Mixture | None, code: np.ndarray, count: int, seed: int, spread: float
) -> np.ndarray:
    """Codes float32 (count, latent_dim) near a code (latent_dim,), the same for the same seed.

    spread: from 0, the code itself, to 1, samples that do not depend on it. In between, sqrt(1 - spread^2) times the
    code's deviation from the mean is added to spread times that of a sample, so that a typical code stays typical.
    """
    mean = np.float32(0) if mixture is None else mixture.mean
    samples = _draw(model, mixture, count, seed)
    near = mean + np.float32((1 - spread**2) ** 0.5) * (code - mean) + np.float32(spread) * (samples - mean)
    return _through_bottleneck(model, near)


def interpolate(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Codes float32 (steps, D) on the straight line between two codes (D,), both ends included."""
    weights = np.linspace(0, 1, steps)[:, None]
    return ((1 - weights) * start + weights * end).astype(np.float32)


def _draw(model: Autoencoder, mixture: Mixture | None, count: int, seed: int) -> np.ndarray:
    if mixture is not None:
        return mixture.sample(count, seed)
    noise: np.ndarray = torch.randn(count, model.spec.latent_dim, generator=torch.Generator().manual_seed(seed)).numpy()
    return noise


def _through_bottleneck(model: Autoencoder, codes: np.ndarray) -> np.ndarray:
    """Codes as sparse as those that the decoder has seen."""
    sparse: np.ndarray = model.sparsify(torch.from_numpy(codes)).numpy()
    return sparse
