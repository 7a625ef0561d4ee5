"""The corrupted images that a denoising autoencoder sees (Vincent et al. 2010, section 3.3)."""

from typing import get_args

import torch
from torch import Tensor

from stages.autoencoder.model.random_numbers import normal, uniform
from stages.autoencoder.params.denoising import Corruption


def corrupt(images: Tensor, kind: Corruption, level: float, generator: torch.Generator) -> Tensor:
    """Corrupted copies of images: float (B, C, H, W) in [0, 1] -> the same shape and range.

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
