"""Images as PNG files in a new folder, and some of them in one picture to look at."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.figures.base import image_grids
from tools.workspace import outputs

MAX_NAME = 255  # bytes of a file's name, on nearly every file system
COLUMNS, ROWS = 10, 4  # images in a picture to look at


def check_names(folder: Path | None, grid: Path | None) -> None:
    """Raises UserError if nothing is to be written, or something stands there already."""
    if folder is None and grid is None:
        raise UserError("--out FOLDER or --grid FILE.png must be given, or both; got neither")
    if folder:
        outputs.check_folder(folder)
    if grid:
        outputs.check_file(grid, [".png"])


def number_pictures(count: int) -> list[str]:
    """000000.png, 000001.png, ...: names for images that have none."""
    return [f"{number:06d}.png" for number in range(count)]


def name_pictures(targets: Sequence[str]) -> list[str]:
    """A name for each picture: a.jpg becomes a.png, or a.jpg.png where another image would be a.png too.

    Raises UserError if two would still have one name, one would be the folder of another, or a name is too long.
    """
    targets = [_keep_inside(target) for target in targets]
    plain = [str(PurePosixPath(target).with_suffix(".png")) for target in targets]
    count = Counter(plain)
    names = [name if count[name] == 1 else f"{target}.png" for name, target in zip(plain, targets, strict=True)]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UserError(f"{twice}: must be the picture of one image; two inputs have this name; give them one by one")
    folders = {PurePosixPath(name).parent for name in names}
    folders |= {parent for folder in folders for parent in folder.parents}
    if both := {str(folder) for folder in folders} & set(names):
        raise UserError(f"{both.pop()}: must be a picture or a folder; one input needs each; give them one by one")
    for name in names:
        if max(len(os.fsencode(part)) for part in name.split("/")) > MAX_NAME:
            raise UserError(f"{name[:80]}...: a picture's name must have at most {MAX_NAME} bytes; shorten the input's")
    return names


def _keep_inside(target: str) -> str:
    """The path without what would lead out of the folder: a table or the data may come from anybody."""
    parts = [part for part in PurePosixPath(target.replace("\0", "")).parts if part not in ("/", "//", "..")]
    return str(PurePosixPath(*parts)) if parts else "image"


def save(folder: Path, name: str, image: np.ndarray) -> None:
    """Write an image, uint8 or float in [0, 1], (C, H, W), to a PNG file of this name below the folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        image_grids.to_picture(image).save(path, "png")
    except OSError as error:  # Pillow's own does not name the file
        raise OSError(error.errno, error.strerror or str(error), name) from None


def save_grid(path: Path, rows: Sequence[tuple[str, np.ndarray]], title: str, columns: int = COLUMNS) -> None:
    """Write one picture. rows: as for image_grids.save_rows, cut here into lines of at most so many images."""
    lines = []
    for start in range(0, len(rows[0][1]), columns):
        lines += [(label, images[start : start + columns]) for label, images in rows]
    image_grids.save_rows(path, lines, title=title)
