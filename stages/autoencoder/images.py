"""Images between disk and model: uint8 (N, C, H, W) on disk, float in [0, 1] where numbers are computed."""

import numpy as np


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) -> float32 (N, C * H * W) in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)  # in one pass: no second float copy


def spread(images: np.ndarray, count: int) -> np.ndarray:
    """`count` of the images, evenly spread over the part (all of them, if it has fewer): always the same ones."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)]
