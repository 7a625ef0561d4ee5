"""Pixels between disk and model: uint8 0..255 on disk, float32 in [0, 1] where numbers are computed."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")
WHITE = np.float32(255)
PIECE = 2**23  # numbers that are held as float32 at a time: 32 MiB


class ImageRows(Protocol):
    """Images uint8 (N, C, H, W) in memory or on disk: an array, or `split_files.Images`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """The images at an int, a slice or an array of positions, in memory."""


class ChosenImages:
    """Some of many images, read when they are asked for."""

    def __init__(self, images: ImageRows, positions: np.ndarray) -> None:
        """images: uint8 (N, C, H, W); positions: int64 (n,), of those that are chosen."""
        self._images, self._positions = images, positions

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""
        return (len(self._positions), *self._images.shape[1:])

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """The images at an int, a slice or an array of positions among the chosen ones, in memory."""
        return self._images[self._positions[rows]]


def to_unit(images: Array) -> Array:
    """uint8 images of any shape, NumPy's or torch's -> float32 in [0, 1] of the same shape."""
    return images / WHITE  # type: ignore[operator] # in one pass, without a second float copy


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Float pixels in [0, 1] -> uint8, rounded; uint8 is returned unchanged."""
    return images if images.dtype == np.uint8 else np.rint(images * WHITE).astype(np.uint8)


def flatten(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) -> float32 (N, C * H * W) in [0, 1]."""
    return to_unit(images.reshape(len(images), -1))


def piece_length(shape: Sequence[int], limit: int) -> int:
    """Images (C, H, W) to hold as float at a time: `limit`, fewer where they would take more than PIECE numbers."""
    return max(1, min(limit, PIECE // math.prod(shape)))


def pieces(count: int, length: int) -> Iterator[slice]:
    """Slices of at most `length` that cover 0..count-1 in order."""
    return (slice(start, min(start + length, count)) for start in range(0, count, length))


def evenly_spaced(images: ImageRows, count: int) -> np.ndarray:
    """`count` of the images at even steps through the array (all of them if it has fewer): always the same ones."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)]
