"""Random numbers for the images of a batch, on the device of their generator."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class SliceGenerator(torch.Generator):
    """A generator for a slice of a batch: it draws for the whole batch, and `uniform` and `normal` give the slice's.

    So several processes with a slice each use the numbers that one process would use.
    """

    def __new__(cls, device: torch.device, batch: int, rows: slice) -> "SliceGenerator":
        return super().__new__(cls, device)  # type: ignore[call-arg] # torch's takes it here

    def __init__(self, device: torch.device, batch: int, rows: slice) -> None:
        """batch: images in the whole batch; rows: the slice of them."""
        self.batch, self.rows = batch, rows


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) for images; shape: (images, ...)."""
    return _draw(torch.rand, shape, generator)


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers of mean 0 and standard deviation 1 for images; shape: (images, ...)."""
    return _draw(torch.randn, shape, generator)


def _draw(function: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    images, *rest = shape
    rows: Any = slice(None)
    if isinstance(generator, SliceGenerator):
        images, rows = generator.batch, generator.rows
    return function(images, *rest, generator=generator, device=generator.device)[rows]
