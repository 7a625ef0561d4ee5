"""Images out of codes: between two images, along one dimension of the code, from the prior, over the plane."""

from collections.abc import Iterator

import numpy as np
import torch

from stages.autoencoder import images, inference
from stages.autoencoder.model import Autoencoder

Rows = list[tuple[str, np.ndarray]]
STEPS = 12  # images in a row
ROWS = 10  # rows of a picture at most
PRIOR = 0  # seed of the samples: the same codes in every experiment of one latent_dim


def pictures_of_codes(model: Autoencoder, test: np.ndarray, device: torch.device) -> Iterator[tuple[str, Rows]]:
    """(name, rows) of each picture that this model allows. test: uint8 (N, C, H, W)."""
    codes = inference.apply(model.encode, test, device)

    def decode(z: np.ndarray) -> np.ndarray:
        return inference.apply(model.decode, z.astype(np.float32), device)

    ends = images.spread(codes, 2 * 6)
    yield "interpolations", [(f"{n}", decode(path)) for n, path in enumerate(interpolations(ends[:6], ends[6:]), 1)]
    yield "traversals", [(f"z{d}", decode(path)) for d, path in traversals(codes)]
    if model.spec.bottleneck == "gaussian":
        prior = torch.randn(ROWS * STEPS, model.spec.latent_dim, generator=torch.Generator().manual_seed(PRIOR))
        yield "samples", [("", row) for row in np.split(decode(prior.numpy()), ROWS)]
    if model.spec.latent_dim == 2:
        yield "plane", [(f"{y:.1f}", decode(row)) for y, row in plane(codes)]


def interpolations(start: np.ndarray, end: np.ndarray) -> Iterator[np.ndarray]:
    """Straight lines from each start to each end, codes (n, D): n arrays (STEPS, D), both ends included."""
    weights = np.linspace(0, 1, STEPS)[:, None]
    for a, b in zip(start, end, strict=True):
        yield (1 - weights) * a + weights * b


def traversals(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(dimension, codes (STEPS, D)): the mean code with one dimension going from its 1st to its 99th percentile.

    codes: (N, D). The ROWS dimensions with the largest variance, the largest first.
    """
    for dimension in np.argsort(-codes.var(0), kind="stable")[:ROWS]:
        path = np.repeat(codes.mean(0, keepdims=True), STEPS, 0)
        path[:, dimension] = np.linspace(*np.percentile(codes[:, dimension], [1, 99]), STEPS)
        yield int(dimension), path


def plane(codes: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """(second coordinate, codes (STEPS, 2)) over the box that holds 98 % of codes (N, 2) each way, top first."""
    (left, bottom), (right, top) = np.percentile(codes, [1, 99], axis=0)
    for y in np.linspace(top, bottom, STEPS):
        yield float(y), np.stack([np.linspace(left, right, STEPS), np.full(STEPS, y)], 1)
