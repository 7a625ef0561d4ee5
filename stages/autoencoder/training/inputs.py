"""What a model is given in place of the images: corrupted ones, or ones whose pixels are drawn."""

from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.data.pixels import WHITE, ImageRows
from stages.autoencoder.model.random_numbers import normal, uniform
from stages.autoencoder.params.inputs import Corruption

SEED = 0  # of images that are drawn once: the same in every experiment, whatever its `seed`


def corrupt(images: Tensor, kind: Corruption, level: float, generator: torch.Generator) -> Tensor:
    """Corrupted copies of images: float (B, C, H, W) in [0, 1] -> the same shape and range.

    What a denoising autoencoder sees (Vincent et al. 2010, section 3.3).

    gaussian: noise of standard deviation `level` is added, then clipped to [0, 1].
    salt_and_pepper: a share `level` of the pixels is set, half of them to 0 and half to 1.
    masking: a share `level` of the pixels is set to 0.
    All channels of a pixel are set together. Raises ValueError for another kind.
    """
    if kind == "gaussian":
        return (images + level * normal(images.shape, generator)).clamp(0, 1)
    one_channel = (images.shape[0], 1, *images.shape[2:])
    place = uniform(one_channel, generator)
    if kind == "masking":
        return images.masked_fill(place < level, 0)
    if kind == "salt_and_pepper":
        return images.masked_fill(place < level, 0).masked_fill(place < level / 2, 1)
    raise ValueError(f"kind must be one of {', '.join(get_args(Corruption))}; got {kind}")


def draw(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels that are 1 with their grey level as probability, else 0: float (B, C, H, W) in [0, 1] -> the same shape.

    Salakhutdinov & Murray 2008.
    """
    return (uniform(images.shape, generator) < images).to(images.dtype)


class DrawnImages:
    """Images uint8 (N, C, H, W) of black and white pixels, drawn as by `draw`, but always the same.

    Each image has random numbers of its own, which depend on its row in data/raw and on nothing else.
    """

    def __init__(self, images: ImageRows, index: np.ndarray) -> None:
        """images: grey levels; index: int64 (N,), their rows in data/raw."""
        self._images, self._index = images, index

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self._images.shape

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The images at an int, a slice or an array of positions, in memory."""
        grey = self._images[rows]
        numbers = [_draw(row, self.shape[1:]) for row in np.atleast_1d(self._index[rows])]
        return np.where(np.reshape(numbers, grey.shape) < grey, WHITE, 0).astype(np.uint8)


def _draw(row: int, shape: tuple[int, ...]) -> np.ndarray:
    """Integers below WHITE: a grey level g of WHITE is above each with probability g / WHITE."""
    random = np.random.Generator(np.random.Philox(key=np.array([SEED, row], np.uint64)))
    return random.integers(int(WHITE), size=shape, dtype=np.uint8)
