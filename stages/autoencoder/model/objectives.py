"""What training minimises: a reconstruction error and, for some variants, a term on the code.

Each formula stands here once. All are per image, summed over its pixels or its code and never averaged, so
that reconstruction error and KL divergence have the same scale; the caller takes the mean over images.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def squared_error(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over pixels of (sigmoid(logits) - target)^2; MSE per pixel is this over the number of pixels.

    logits, target: float (B, C, H, W), target in [0, 1]. Returns (B,).
    """
    return F.mse_loss(logits.sigmoid(), target, reduction="none").flatten(1).sum(1)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over pixels of -t log p - (1 - t) log(1 - p) with p = sigmoid(logits), in nats.

    For targets of 0 and 1 it is the negative log-likelihood of a Bernoulli decoder. For grey levels it is what
    the textbook VAE on MNIST reports; its minimum is then the entropy of the pixels, not 0.
    logits, target: float (B, C, H, W), target in [0, 1]. Returns (B,).
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL from N(mean, exp(log_var)) to N(0, I), in nats per image (Kingma & Welling 2014, appendix B).

    mean, log_var: float (B, D). Returns (B,), each >= 0. Raises ValueError if the shapes differ.
    """
    if mean.shape != log_var.shape:
        raise ValueError(f"mean and log_var must have one shape; got {mean.shape} and {log_var.shape}")
    return gaussian_kl_by_dimension(mean, log_var).sum(1)


def gaussian_kl_by_dimension(mean: Tensor, log_var: Tensor) -> Tensor:
    """The summands of gaussian_kl, (B, D): how much each dimension of the code says about the image."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def log_density_ratio(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log p(z) - log q(z), with the prior p = N(0, I) and q = N(mean, exp(log_var)), in nats.

    z, mean, log_var: float (..., D), which broadcast. Returns (...). Its mean over z from q is minus gaussian_kl.
    """
    return 0.5 * ((z - mean).square() / log_var.exp() + log_var - z.square()).sum(-1)


def importance_weighted(log_weights: Tensor) -> Tensor:
    """-log of the mean weight (Burda et al. 2016, equation 8): (..., k), log p(x, z) - log q(z) at k samples -> (...).

    For an image x of black and white pixels an estimate of -log p(x), in nats: its expectation is not below it, and
    falls towards it as k grows.
    """
    return math.log(log_weights.shape[-1]) - log_weights.logsumexp(-1)


def l1(codes: Tensor) -> Tensor:
    """Sum of |z_i| over the code: (B, D) -> (B,)."""
    return codes.abs().sum(1)


RECONSTRUCTION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "bce": binary_cross_entropy,
}
