"""Files in the publishers' formats, written from scratch, and what a source of images gives, held in memory."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.packed_file import PARTS
from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.dataset import Dataset


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def idx_header(code: int, *sizes: int) -> bytes:
    """An IDX header as LeCun's page describes it."""
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


def idx_file(array: np.ndarray) -> bytes:
    """A gzipped IDX file of uint8 or int32 numbers."""
    code = {"uint8": 8, "int32": 12}[array.dtype.name]
    return gzip.compress(idx_header(code, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes())


def read_images(dataset: Dataset) -> np.ndarray:
    """All images, uint8 (N, C, H, W). Checks that they are as the dataset describes them."""
    images = np.concatenate(list(dataset.pieces))
    assert images.dtype == np.uint8
    assert images.shape == (len(dataset.labels), *dataset.shape)
    assert dataset.labels.dtype == np.int64
    assert len(dataset.parts) == len(images)
    return images


def count_test_part(dataset: Dataset) -> int:
    """The number of images at the end that are the published test part. Checks that the others are of no part."""
    count = int((dataset.parts == PARTS.index("test")).sum())
    assert (dataset.parts[: len(dataset.parts) - count] == PARTS.index("")).all()
    return count


def refusal(name: str, downloads: Path, mirror: object = None) -> str:
    """The one line with which the dataset is refused, at once or when its images are read."""
    with pytest.raises(UserError) as caught:
        read_images(builtin.load_dataset(name, downloads, None if mirror is None else str(mirror)))
    line = str(caught.value)
    assert "\n" not in line
    return line


def kept(downloads: Path) -> set[str]:
    """The names of all files under the downloads, partial ones included."""
    return {path.name for path in downloads.rglob("*") if path.is_file()}
