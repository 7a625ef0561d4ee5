"""Grids of decoded codes: between two images, along one dimension of the code, sampled, over the plane."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from stages.autoencoder.data.pixels import evenly_spaced
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.sampling import Mixture, interpolate, sample_codes

STEPS = 12  # images in a row
MAX_ROWS = 10
MAX_INTERPOLATIONS = 6
SAMPLE_SEED = 0  # the same samples in every experiment with the same latent_dim


class Picture(NamedTuple):
    """Rows (label, images (n, C, H, W)) with a title and, if they mean something, captions of the columns."""

    name: str
    title: str
    rows: list[tuple[str, np.ndarray]]
    captions: list[str]


def pictures_of_codes(
    model: Autoencoder, mixture: Mixture | None, codes: np.ndarray, classes: np.ndarray, device: torch.device
) -> Iterator[Picture]:
    """The pictures that make sense for this model.

    mixture: of its training codes, None if it has a prior; codes: float32 (N, D) of test images; classes: the class
    name of each, (N,), "" if there are no classes.
    """
    title = "Decoded codes on the straight line from the code of one test image to that of another"
    rows = []
    for a, b in zip(*endpoints(classes), strict=True):
        label = f"{classes[a]} to {classes[b]}" if classes[a] != classes[b] else ""
        rows.append((label, _decode(model, interpolate(codes[a], codes[b], STEPS), device)))
    if rows:
        yield Picture("interpolations", title, rows, [])

    of = "the prior N(0, I)" if mixture is None else f"{mixture.describe()} of the training codes"
    samples = sample_codes(model, mixture, MAX_ROWS * STEPS, SAMPLE_SEED)
    yield Picture("samples", f"Decoded samples from {of}", _as_rows(_decode(model, samples, device)), [])
    if model.spec.latent_dim == 2:
        title = "Decoded codes over the plane; the two numbers of each code are at the left and below"
        x, y = plane_axes(codes)
        rows = [(f"{b:.3g}", _decode(model, np.stack([x, np.full(STEPS, b)], 1), device)) for b in y]
        yield Picture("plane", title, rows, [f"{a:.3g}" for a in x])


def traversals(model: Autoencoder, codes: np.ndarray, dimensions: Sequence[int], device: torch.device) -> Picture:
    """A row for each of the first MAX_ROWS dimensions: a typical code with this dimension changed.

    codes: float32 (N, D) of test images; dimensions: in the order of what their ablation costs.
    """
    title = "One dimension of the code from its 1st to its 99th percentile, the others those of a typical image"
    if codes.shape[1] > MAX_ROWS:
        title += f"; the {MAX_ROWS} of {codes.shape[1]} dimensions whose ablation adds the most error"
    rows = [(f"z{d}", _decode(model, traverse(codes, d), device)) for d in dimensions[:MAX_ROWS]]
    return Picture("traversals", title, rows, [])


def endpoints(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each interpolation: positions of images, two arrays of one length, at most MAX_INTERPOLATIONS.

    classes: (N,). The first image of each class; evenly spaced images if there is one class.
    """
    chosen = np.unique(classes, return_index=True)[1]
    if len(chosen) < 2:
        chosen = np.arange(len(classes))
    chosen = evenly_spaced(chosen, 2 * MAX_INTERPOLATIONS)
    half = len(chosen) // 2
    return chosen[:half], chosen[half : 2 * half]


def traverse(codes: np.ndarray, dimension: int) -> np.ndarray:
    """A typical code with one dimension going from its 1st to its 99th percentile: (STEPS, D).

    codes: (N, D). The typical code is the one nearest to their mean.
    """
    typical = codes[np.square(codes - codes.mean(0)).sum(1).argmin()]
    path = np.repeat(typical[None], STEPS, 0)
    low, high = np.percentile(codes[:, dimension], [1, 99])
    path[:, dimension] = np.linspace(low, high, STEPS)
    return path


def plane_axes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """STEPS values along each axis of the box that holds 98 % of codes (N, 2) each way, the second from the top."""
    (left, bottom), (right, top) = np.percentile(codes, [1, 99], axis=0)
    return np.linspace(left, right, STEPS), np.linspace(top, bottom, STEPS)


def _decode(model: Autoencoder, codes: np.ndarray, device: torch.device) -> np.ndarray:
    return inference.apply(model.decode, codes.astype(np.float32), device)


def _as_rows(images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("", row) for row in np.split(images, MAX_ROWS)]
