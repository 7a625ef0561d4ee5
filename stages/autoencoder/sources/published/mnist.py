"""MNIST and the datasets that torchvision offers in its form: Fashion-MNIST, KMNIST, QMNIST."""

from functools import partial
from pathlib import Path
from typing import IO, Any

from stages.autoencoder.sources.dataset import Dataset
from stages.autoencoder.sources.published.idx_files import IdxFile
from stages.autoencoder.sources.published.parts import join, read_idx_part
from stages.autoencoder.sources.published.published_files import PublishedFile, fetch

SHAPE = (1, 28, 28)
MOST_IMAGES = 60_000  # in a part


def load(class_name: str, folder: Path, mirror: str | None) -> Dataset:
    """A dataset of torchvision: its addresses, MD5 sums and class names; the files are read by `idx_files`.

    class_name: of torchvision.datasets. folder, mirror: as in `published_files.fetch`, which see for what is raised.
    """
    from stages.autoencoder.sources.torchvision_datasets import datasets

    source = getattr(datasets, class_name)
    paths = [fetch(file, folder, mirror) for file in _list_files(source)]  # all fetched before any is unpacked
    # "4 - four" of MNIST and QMNIST is "4" here, as in mnist5k, so that their classes compare by name
    class_names = [label.split(" - ")[0] for label in source.classes]
    parts = []
    for images, labels in (paths[:2], paths[2:]):
        # of QMNIST a row of 8 numbers for each image
        kind, item = ("int32", (8,)) if "idx2-int" in labels.name else ("uint8", ())
        image_file = IdxFile(str(images), partial(_open, images), "uint8", SHAPE[1:], MOST_IMAGES)
        label_file = IdxFile(str(labels), partial(_open, labels), kind, item, MOST_IMAGES)
        parts.append(read_idx_part(image_file, label_file, 0, len(class_names)))
    train, test = parts
    return join(train, test, SHAPE, class_names)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


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
