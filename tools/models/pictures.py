"""Images as PNG files in a new folder, and some of them in one picture to look at."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.figures import image_grids

COLUMNS, ROWS = 10, 4  # images in a picture to look at


def check_names(folder: Path | None, grid: Path | None) -> None:
    """Raises UserError if nothing is to be written, or something stands there already."""
    if folder is None and grid is None:
        raise UserError("--out FOLDER or --grid FILE.png must be given, or both; got neither")
    if folder and (folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))):
        raise UserError(f"{folder}: must not exist, or be an empty folder; remove it or choose another name")
    if grid and grid.suffix.lower() != ".png":
        raise UserError(f"{grid}: must end in .png; choose such a name")
    if grid and grid.exists():
        raise UserError(f"{grid}: must not exist; remove it or choose another name")


def name_pictures(targets: Sequence[str]) -> list[str]:
    """A name for each picture: a.jpg becomes a.png, or a.jpg.png where another image would be a.png too.

    Raises UserError if two would still have one name.
    """
    targets = [_keep_inside(target) for target in targets]
    plain = [str(PurePosixPath(target).with_suffix(".png")) for target in targets]
    count = Counter(plain)
    names = [name if count[name] == 1 else f"{target}.png" for name, target in zip(plain, targets, strict=True)]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UserError(f"{twice}: must be the picture of one image; two inputs have this name; give them one by one")
    return names


def _keep_inside(target: str) -> str:
    """The path without what would lead out of the folder: a table or the data may come from anybody."""
    parts = [part.replace("\0", "") for part in PurePosixPath(target).parts if part not in ("/", "//", "..")]
    return str(PurePosixPath(*parts)) if parts else "image"


class Folder:
    """A folder that is being filled with pictures."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def save(self, name: str, image: np.ndarray) -> None:
        """Write an image, uint8 or float in [0, 1], (C, H, W), to a PNG file of this name."""
        path = self._place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = image_grids.to_bytes(image).transpose(1, 2, 0)
        picture = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))
        try:
            picture.save(path, "png")
        except OSError as error:  # Pillow's own does not name the file
            raise OSError(error.errno, error.strerror or str(error), name) from None


@contextmanager
def create(folder: Path | None) -> Iterator[Folder | None]:
    """A folder that appears whole or not at all; None for None."""
    if folder is None:
        yield None
        return
    unfinished = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.part")
    unfinished.mkdir(parents=True)
    try:
        yield Folder(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def save_grid(path: Path, rows: Sequence[tuple[str, np.ndarray]], title: str) -> None:
    """Write one picture. rows: as for image_grids.save_rows, cut here into lines of at most COLUMNS images."""
    lines = []
    for start in range(0, len(rows[0][1]), COLUMNS):
        lines += [(label, images[start : start + COLUMNS]) for label, images in rows]
    image_grids.save_rows(path, lines, title=title)
