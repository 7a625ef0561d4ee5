"""SVHN: house numbers photographed from the street, cropped to one digit of 32 x 32 pixels, in two MATLAB files."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.dataset import Dataset
from stages.autoencoder.sources.published.mat_files import Matrix, find_matrices
from stages.autoencoder.sources.published.parts import Part, check_labels, join
from stages.autoencoder.sources.published.published_files import NEXT_STEP, PublishedFile, fetch

SHAPE = (3, 32, 32)
CLASSES = tuple("0123456789")
MOST_IMAGES = 100_000  # in a part; the training part has 73,257
MAX_FILE = 200 * 10**6  # bytes; the training part has 182 million


def load(folder: Path, mirror: str | None) -> Dataset:
    """The parts `train` and `test`, without `extra`; addresses and MD5 sums are torchvision's.

    folder, mirror: as in `published_files.fetch`, which see for what is raised.
    """
    from stages.autoencoder.sources.torchvision_datasets import datasets

    listed = [datasets.SVHN.split_list[part] for part in ("train", "test")]
    paths = [fetch(PublishedFile(name, md5, (url,), MAX_FILE), folder, mirror) for url, name, md5 in listed]
    train, test = (_open_part(path) for path in paths)
    return join(train, test, SHAPE, CLASSES)


def _open_part(path: Path) -> Part:
    """The arrays X, uint8 (32, 32, 3, N), and y (N, 1) of a file: y is read now, X later."""
    with _refusing(path):
        matrices = find_matrices(path)
        if missing := {"X", "y"} - matrices.keys():
            raise ValueError(f"it lacks {' and '.join(sorted(missing))}")
        images, labels = matrices["X"], matrices["y"]
        height, width, channels, count = images.shape if len(images.shape) == 4 else (0, 0, 0, 0)
        if (channels, height, width) != SHAPE or images.kind != "u1" or not 1 <= count <= MOST_IMAGES:
            raise ValueError(f"X has the shape {images.shape} and the type {images.kind}")
        if labels.shape != (count, 1):
            raise ValueError(f"y has the shape {labels.shape} for {count} images")
        values = np.concatenate([piece.ravel() for piece in labels.read_pieces()])
    if (values != np.trunc(values)).any():
        raise UserError(f"{path}: labels must be integers; got {values[values != np.trunc(values)][0]}; {NEXT_STEP}")
    # the digit 0 has the label 10
    return Part(check_labels(values, str(path), count, range(1, 11)) % 10, _read_images(path, images))


def _read_images(path: Path, images: Matrix) -> Iterator[np.ndarray]:
    with _refusing(path):
        for piece in images.read_pieces():  # (n, C, W, H) -> (n, C, H, W)
            yield np.ascontiguousarray(piece.transpose(0, 1, 3, 2))


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What is wrong with the file, as a UserError."""
    try:
        yield
    except (ValueError, struct.error, zlib.error) as error:
        raise UserError(
            f"{path}: must be a MATLAB 5 file with X, uint8 (32, 32, 3, N), and y (N, 1); {error}; {NEXT_STEP}"
        ) from None
