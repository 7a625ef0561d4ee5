"""Patches of the photographs that scikit-image's wheel carries, those of train, valid and test from disjoint areas."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
from PIL import Image

from stages.autoencoder.core.errors import UserError

FOLDER = Path(skimage.__file__).with_name("data")
SIDE = 64  # pixels of a patch
BLOCK = 128  # pixels of a square of the photograph whose patches all belong to one part
MAX_SIDE = 512  # of a photograph: its middle is used
VALID, TEST = 1 / 8, 1 / 4  # shares of the blocks


class Photograph(NamedTuple):
    """A file of scikit-image. reduction: its pixels are averaged in squares of that side."""

    file: str
    reduction: int = 1


TEXTURES = {name: Photograph(f"{name}.png") for name in ("brick", "grass", "gravel")}
PHOTOGRAPHS = {  # class name: photograph
    "astronaut": Photograph("astronaut.png"),
    "cat": Photograph("chelsea.png"),
    "coffee": Photograph("coffee.png"),
    "galaxies": Photograph("hubble_deep_field.jpg"),
    "motorcycle": Photograph("motorcycle_left.png"),
    "retina": Photograph("retina.jpg", 2),
    "rocket": Photograph("rocket.jpg"),
    "tissue": Photograph("ihc.png"),
}


@dataclass(frozen=True)
class Patch:
    """pixels: uint8 (SIDE, SIDE) or (SIDE, SIDE, 3). y, x: of its upper left corner in what `read` gives."""

    part: str  # train | valid | test
    y: int
    x: int
    pixels: np.ndarray

    @property
    def name(self) -> str:
        """The name of its file, which says where it was cut."""
        return f"y{self.y:03}_x{self.x:03}.png"


def read(photograph: Photograph) -> np.ndarray:
    """The middle of a photograph: uint8 (H, W) or (H, W, 3), H and W at most MAX_SIDE.

    Raises UserError if the installed scikit-image lacks the file.
    """
    path = FOLDER / photograph.file
    if not path.is_file():
        raise UserError(f"{path}: not in this version of scikit-image; python -m dev.install installs the locked one")
    with Image.open(path) as image:
        small = image.reduce(photograph.reduction)
    left, top = (max(0, (size - MAX_SIDE) // 2) for size in small.size)
    return np.asarray(small)[top : top + MAX_SIDE, left : left + MAX_SIDE]


def cut(pixels: np.ndarray, stride: int, rng: np.random.Generator) -> Iterator[Patch]:
    """All patches of a photograph that lie in one block, `stride` pixels apart. Blocks are drawn for the parts."""
    height, width = pixels.shape[:2]
    corners = [(y, x) for y in range(0, height - BLOCK + 1, BLOCK) for x in range(0, width - BLOCK + 1, BLOCK)]
    valid, test = (max(1, round(len(corners) * share)) for share in (VALID, TEST))
    parts = ["valid"] * valid + ["test"] * test + ["train"] * (len(corners) - valid - test)
    offsets = range(0, BLOCK - SIDE + 1, stride)
    for (top, left), number in zip(corners, rng.permutation(len(corners)), strict=True):
        for y, x in ((top + dy, left + dx) for dy in offsets for dx in offsets):
            yield Patch(parts[number], y, x, pixels[y : y + SIDE, x : x + SIDE])
