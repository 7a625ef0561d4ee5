"""Random affine maps: each image a little moved, turned and resized, so that few images go far."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.autoencoder.model.random_numbers import uniform


def choose_padding(images: np.ndarray) -> str:
    """What lies beyond the border of images uint8 (N, C, H, W): zeros if most of their border is black, else border.

    border: the nearest pixel. Photographs, and drawings on white, would otherwise get black corners.
    """
    sides = [images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]]
    return "zeros" if np.median(np.concatenate([side.reshape(-1) for side in sides])) == 0 else "border"


def random_affine(
    images: Tensor, generator: torch.Generator, *, translate: float, rotate: float, scale: float, padding: str
) -> Tensor:
    """Each image under its own random affine map, bilinear; padding: grid_sample's padding_mode beyond the border.

    images: float (B, C, H, W); returns the same shape. Drawn uniformly: a translation of up to `translate`
    pixels each way, a rotation of up to `rotate` degrees each way, a size factor of up to 1 +- `scale`.
    """
    batch, _, height, width = images.shape
    drawn = uniform((batch, 4), generator) * 2 - 1  # uniform in [-1, 1]
    angle = drawn[:, 0] * math.radians(rotate)
    factor = 1 + drawn[:, 1] * scale
    cos, sin = angle.cos() / factor, angle.sin() / factor
    # grid coordinates run from -1 to 1 along each axis: a pixel is 2 / size, and a rotation must not shear
    right, down = drawn[:, 2] * translate * 2 / width, drawn[:, 3] * translate * 2 / height
    maps = torch.stack([cos, -sin * height / width, right, sin * width / height, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
