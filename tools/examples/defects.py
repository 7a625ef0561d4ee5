"""Planted defects: a patch -> the patch with a defect, and a mask of the pixels that may differ.

Patches are uint8 (S, S); masks are uint8 (S, S), 255 where there is a defect, as in MVTec AD's ground truth.
"""

from collections.abc import Callable

import numpy as np

Defect = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
TONES = (10, 245)  # of scratches and blots: nearly black, nearly white


def scratch(patch: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A thin bent line from one side of the patch's middle to the other."""
    side = len(patch)
    start, bend, end = (rng.uniform(low * side, high * side, 2) for low, high in ((0.1, 0.4), (0.3, 0.7), (0.6, 0.9)))
    if rng.integers(2):  # from the upper right instead of the upper left
        start, bend, end = (point * (1, -1) + (0, side) for point in (start, bend, end))
    steps = np.linspace(0, 1, 2 * side)[:, np.newaxis]
    curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end  # (2 S, 2), y and x
    y, x = np.mgrid[:side, :side]
    squares = (y[..., np.newaxis] - curve[:, 0]) ** 2 + (x[..., np.newaxis] - curve[:, 1]) ** 2
    return _blend(patch, rng.choice(TONES), rng.uniform(1.2, 1.8) - np.sqrt(squares.min(axis=2)))


def blot(patch: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An ellipse with a soft edge."""
    side = len(patch)
    centre, radii = rng.uniform(0.2 * side, 0.8 * side, 2), rng.uniform(0.06 * side, 0.14 * side, 2)
    y, x = np.mgrid[:side, :side]
    distance = np.sqrt(((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2)
    return _blend(patch, rng.choice(TONES), (1.2 - distance) * 2)


def cut_paste(patch: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A square of the patch itself, turned by 90 degrees, at another place (Li et al. 2021, CutPaste)."""
    side = len(patch)
    length = int(rng.integers(side // 4, side // 2))
    (top, left), (y, x) = rng.integers(0, side - length, (2, 2))
    changed, mask = patch.copy(), np.zeros_like(patch)
    changed[y : y + length, x : x + length] = np.rot90(patch[top : top + length, left : left + length])
    mask[y : y + length, x : x + length] = 255
    return changed, mask


def _blend(patch: np.ndarray, tone: int, opacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The patch under a tone. opacity: float (S, S), clipped to [0, 1]."""
    opacity = np.clip(opacity, 0, 1)
    changed = np.rint(patch + opacity * (tone - patch.astype(float))).astype(np.uint8)
    return changed, np.where(opacity > 0, 255, 0).astype(np.uint8)


KINDS: dict[str, Defect] = {"scratch": scratch, "blot": blot, "cut_paste": cut_paste}
