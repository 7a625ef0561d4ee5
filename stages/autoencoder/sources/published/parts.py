"""The two parts in which all these datasets are published, training and test, and the one Dataset that they make."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.dataset import Dataset, test_part_last
from stages.autoencoder.sources.published.idx_files import IdxFile
from stages.autoencoder.sources.published.published_files import NEXT_STEP


class Part(NamedTuple):
    """The images of one part, which are read once, and their labels."""

    labels: np.ndarray  # int64 (N,), each an index into the dataset's class names
    pieces: Iterable[np.ndarray]  # uint8 (n, C, H, W), N images in all


def join(train: Part, test: Part, shape: tuple[int, int, int], class_names: Sequence[str]) -> Dataset:
    """The training part, of which the stage split takes validation images, then the published test part."""
    labels = np.concatenate([train.labels, test.labels])
    parts = test_part_last(len(labels), len(test.labels))
    return Dataset(shape, chain(train.pieces, test.pieces), labels, tuple(class_names), parts)


def read_idx_part(images: IdxFile, labels: IdxFile, first: int, classes: int, transposed: bool = False) -> Part:
    """A part in two IDX files. The labels, and how many images there are, are read now, the images later.

    first: the label of the first class. transposed: the file has the columns of each image as its rows. Raises
    UserError for files that do not fit together, now or when the images are read.
    """
    values = labels.read_all()
    if labels.item:  # QMNIST: a row of 8 numbers for each image, the class first, then who wrote it
        values = values[:, 0]
    values = check_labels(values, labels.place, images.read_count(), range(first, first + classes))
    return Part(values - first, _read_images(images, transposed))


def _read_images(images: IdxFile, transposed: bool) -> Iterator[np.ndarray]:
    for piece in images.read_pieces():  # (n, H, W) -> (n, 1, H, W)
        yield np.ascontiguousarray(piece.transpose(0, 2, 1) if transposed else piece)[:, np.newaxis]


def check_labels(labels: np.ndarray, place: str, images: int, allowed: range) -> np.ndarray:
    """The labels as int64 (images,). Raises UserError for other counts and values."""
    if len(labels) != images:
        raise UserError(f"{place}: must have a label for each of {images} images; got {len(labels)}; {NEXT_STEP}")
    low, high = labels.min(), labels.max()
    if not (allowed[0] <= low and high <= allowed[-1]):  # also refuses NaN
        found = f"{low}..{high}"
        raise UserError(f"{place}: labels must be in {allowed[0]}..{allowed[-1]}; got {found}; {NEXT_STEP}")
    return labels.astype(np.int64)
