"""Images out of codes: between two images, along one dimension of the code, sampled, over the plane."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from stages.autoencoder import images, inference
from stages.autoencoder.model import Autoencoder

STEPS = 12  # images in a row
ROWS = 10  # rows of a picture at most
PATHS = 6  # interpolations
SEED = 0  # of the samples: the same in every experiment of one latent_dim


class Picture(NamedTuple):
    """Rows (label, images (n, C, H, W)) with a title and, where they mean something, captions of the columns."""

    name: str
    title: str
    rows: list[tuple[str, np.ndarray]]
    captions: list[str]


def pictures_of_codes(
    model: Autoencoder, codes: np.ndarray, classes: np.ndarray, device: torch.device
) -> Iterator[Picture]:
    """The pictures that this model allows. codes: float32 (N, D) of test images; classes: their names (N,)."""

    def decode(z: np.ndarray) -> np.ndarray:
        return inference.apply(model.decode, z.astype(np.float32), device)

    title = "Decoded codes on the straight line from the code of one test image to that of another"
    pairs = list(zip(*ends(classes), strict=True))
    rows = [(f"{classes[a]} to {classes[b]}", decode(interpolation(codes[a], codes[b]))) for a, b in pairs]
    if rows:
        yield Picture("interpolations", title, rows, [])

    title = "Along one dimension of the code, from its 1st to its 99th percentile, the others those of a typical image"
    if codes.shape[1] > ROWS:
        title += f"; the {ROWS} of {codes.shape[1]} that vary most"
    yield Picture("traversals", title, [(f"z{d}", decode(path)) for d, path in traversals(codes)], [])

    if model.spec.bottleneck == "gaussian":
        title = "Decoded samples from the prior N(0, I)"
        yield Picture("samples", title, _grid(decode(prior(model.spec.latent_dim))), [])
    if model.spec.bottleneck == "linear" and len(codes) > 1:
        title = "Decoded samples from the Gaussian with mean and covariance of the codes of the test images"
        yield Picture("samples", title, _grid(decode(fitted(codes))), [])
    if model.spec.latent_dim == 2:
        title = "Decoded codes over the plane; beside and below the two numbers of the code"
        x, y = axes(codes)
        rows = [(f"{b:.3g}", decode(np.stack([x, np.full(STEPS, b)], 1))) for b in y]
        yield Picture("plane", title, rows, [f"{a:.3g}" for a in x])


def ends(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the interpolations begin and end: places of images, two arrays of one length, at most PATHS.

    classes: (N,). The first image of each class, or images evenly spread where there is one class.
    """
    chosen = np.unique(classes, return_index=True)[1]
    if len(chosen) < 2:
        chosen = np.arange(len(classes))
    chosen = images.spread(chosen, 2 * PATHS)
    half = len(chosen) // 2
    return chosen[:half], chosen[half : 2 * half]


def interpolation(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Codes on the straight line between two, (D,) each: (STEPS, D), both ends included."""
    weights = np.linspace(0, 1, STEPS)[:, None]
    return (1 - weights) * start + weights * end


def traversals(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(dimension, codes (STEPS, D)): a typical code with one dimension going from its 1st to its 99th percentile.

    codes: (N, D). Typical is the one nearest to their mean. The ROWS dimensions with the largest variance, the
    largest first.
    """
    typical = codes[np.square(codes - codes.mean(0)).sum(1).argmin()]
    for dimension in np.argsort(-codes.var(0), kind="stable")[:ROWS]:
        path = np.repeat(typical[None], STEPS, 0)
        path[:, dimension] = np.linspace(*np.percentile(codes[:, dimension], [1, 99]), STEPS)
        yield int(dimension), path


def prior(latent_dim: int) -> np.ndarray:
    """Samples (ROWS * STEPS, latent_dim) from N(0, I)."""
    return _noise(ROWS * STEPS, latent_dim)


def fitted(codes: np.ndarray) -> np.ndarray:
    """Samples (ROWS * STEPS, D) from the Gaussian with mean and covariance of codes (N, D), N >= 2.

    The simplest density estimated after the fact for an autoencoder that has none (Ghosh et al. 2020, section 4).
    """
    centred = codes - codes.mean(0)
    # sums of the centred codes with random weights have their covariance: no matrix of D x D is factorised
    return codes.mean(0) + _noise(ROWS * STEPS, len(codes)) @ centred / np.sqrt(len(codes) - 1)


def axes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """STEPS values along each axis of the box that holds 98 % of codes (N, 2) each way, the second from its top."""
    (left, bottom), (right, top) = np.percentile(codes, [1, 99], axis=0)
    return np.linspace(left, right, STEPS), np.linspace(top, bottom, STEPS)


def _grid(drawn: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("", row) for row in np.split(drawn, ROWS)]


def _noise(*shape: int) -> np.ndarray:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED)).numpy()
