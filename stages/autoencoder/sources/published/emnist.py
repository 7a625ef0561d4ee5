"""EMNIST: handwritten digits and letters in MNIST's form, six datasets ("splits") in one zip archive."""

import zipfile
from functools import partial
from pathlib import Path
from typing import IO

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.dataset import Dataset
from stages.autoencoder.sources.published.idx_files import IdxFile
from stages.autoencoder.sources.published.parts import join, read_idx_part
from stages.autoencoder.sources.published.published_files import NEXT_STEP, PublishedFile, fetch

SPLITS = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
SHAPE = (1, 28, 28)
MOST_IMAGES = 697_932  # in a part: the training images of byclass and bymerge
MAX_ARCHIVE = 600 * 10**6  # bytes; published with 562 million


def load(split: str, folder: Path, mirror: str | None) -> Dataset:
    """One of SPLITS, its images upright: the publisher stores them transposed.

    Address, MD5 sum and class names are torchvision's, but for its class "N/A" of letters, whose labels begin at 1:
    here "a" is class 0. folder, mirror: as in `published_files.fetch`, which see for what is raised; the archive is
    kept there once for all splits.
    """
    from stages.autoencoder.sources.torchvision_datasets import datasets

    source = datasets.EMNIST
    archive = fetch(
        PublishedFile(source.url.rpartition("/")[2], source.md5, (source.url,), MAX_ARCHIVE), folder, mirror
    )
    class_names = source.classes_split_dict[split]
    first = class_names.index("a") if split == "letters" else 0
    class_names = class_names[first:]
    parts = []
    for part in ("train", "test"):
        images, labels = (
            _find_member(archive, f"gzip/emnist-{split}-{part}-{content}-ubyte.gz", item)
            for content, item in (("images-idx3", SHAPE[1:]), ("labels-idx1", ()))
        )
        parts.append(read_idx_part(images, labels, first, len(class_names), transposed=True))
    train, test = parts
    return join(train, test, SHAPE, class_names)


def _find_member(archive: Path, name: str, item: tuple[int, ...]) -> IdxFile:
    return IdxFile(f"{archive}: {name}", partial(_open_member, archive, name), "uint8", item, MOST_IMAGES)


def _open_member(archive: Path, name: str) -> IO[bytes]:
    """One file of a zip archive, unpacked as it is read. Raises UserError if the archive has no such file."""
    try:
        with zipfile.ZipFile(archive) as file:  # its handle stays open until the member is closed
            entry = file.getinfo(name)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is compressed by method {entry.compress_type}")
            return file.open(entry)
    # a member that is encrypted, absent, or at a place that is none
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, LookupError, ValueError) as error:
        reason = " ".join(map(str, error.args))
        raise UserError(f"{archive}: must be a zip archive with {name}; {reason:.200}; {NEXT_STEP}") from None
