"""Error maps: where in an image the reconstruction is wrong, in colour."""

from functools import cache

import numpy as np

from stages.autoencoder.data.pixels import to_unit

COLOUR_MAP = "inferno"  # its lightness grows evenly, so that it also reads without hue
SHARE = 99.9  # per cent of the pixels below the top of the scale: single pixels would make all others dark


def row(images: np.ndarray, output: np.ndarray) -> tuple[str, np.ndarray]:
    """A row for image_grids: its label, which gives the scale that all its maps share, and the maps.

    images: uint8 (n, C, H, W); output: float (n, C, H, W) in [0, 1], their reconstructions.
    """
    errors = pixel_errors(output, to_unit(images))
    top = float(np.percentile(errors, SHARE)) or 1.0
    return f"error, 0 to {top:.2g}", draw(errors, top)


def pixel_errors(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Root of the squared difference's mean over channels: float (n, C, H, W) in [0, 1], twice -> (n, H, W).

    It orders pixels as their share of the MSE does.
    """
    return np.sqrt(np.square(output - target).mean(1))


def draw(errors: np.ndarray, top: float) -> np.ndarray:
    """Errors (n, H, W) as colours, uint8 (n, 3, H, W): black at 0, the lightest at `top` and above."""
    levels = np.rint(np.clip(errors / top, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(_colours()[levels].transpose(0, 3, 1, 2))


@cache
def _colours() -> np.ndarray:
    """The 256 colours from low to high, uint8 (256, 3)."""
    import matplotlib as mpl  # takes time, and few stages draw maps

    return mpl.colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3]
