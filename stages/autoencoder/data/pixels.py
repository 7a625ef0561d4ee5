"""Pixels between disk and model: uint8 0..255 on disk, float32 in [0, 1] where numbers are computed."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Images = TypeVar("Images", np.ndarray, "Tensor")
WHITE = np.float32(255)


def to_unit(images: Images) -> Images:
    """uint8 images of any shape, NumPy's or torch's -> float32 in [0, 1] of the same shape."""
    return images / WHITE  # type: ignore[operator] # in one pass, without a second float copy


def flatten(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) -> float32 (N, C * H * W) in [0, 1]."""
    return to_unit(images.reshape(len(images), -1))


def evenly_spaced(images: np.ndarray, count: int) -> np.ndarray:
    """`count` of the images at even steps through the array (all of them if it has fewer): always the same ones."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)]
