"""What every source of images gives: images in pieces, with what is known about each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.autoencoder.data.packed_file import PARTS
from stages.autoencoder.params.fitting import Fitting


@dataclass(frozen=True)
class Masks:
    """Ground truth of anomalous pixels, for some of the images."""

    rows: np.ndarray  # int64 (M,), ascending: the images that have a mask
    pieces: Iterable[np.ndarray]  # uint8 (m, H, W), 1 where anomalous, else 0; in the order of rows, M in all


@dataclass(frozen=True)
class Dataset:
    """N images in a fixed order. The pieces can be read once."""

    shape: tuple[int, int, int]  # channels, height, width
    pieces: Iterable[np.ndarray]  # uint8 (n, C, H, W), N images in all
    labels: np.ndarray  # int64 (N,), each an index into class_names; all 0 if there are no classes
    class_names: tuple[str, ...]  # () if there are no classes
    parts: np.ndarray  # uint8 (N,), each an index into PARTS: the published part, or 0, which the stage split decides
    names: Sequence[str] | None = None  # the path of each image below its folder, if it has one
    normal_classes: tuple[str, ...] = ()  # the classes that train, where the published parts say so
    masks: Masks | None = None
    fitting: Fitting | None = None  # how images of many shapes were brought to one; None: they had one


def in_memory(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], published_test: int) -> Dataset:
    """A dataset of images uint8 (N, C, H, W), whose last `published_test` are the published test part."""
    channels, height, width = images.shape[1:]
    parts = test_part_last(len(images), published_test)
    return Dataset((channels, height, width), [images], labels.astype(np.int64), tuple(class_names), parts)


def test_part_last(count: int, published_test: int) -> np.ndarray:
    """Dataset.parts of so many images, the last `published_test` of which are the published test part."""
    parts = np.zeros(count, np.uint8)
    parts[count - published_test :] = PARTS.index("test")
    return parts
