"""CIFAR-10: colour photographs of 32 x 32 pixels in ten classes, from the publisher's binary archive.

A tar archive with six files of 10,000 records: a byte with the label, then 3 x 32 x 32 bytes, all red ones first.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.dataset import Dataset
from stages.autoencoder.sources.published.parts import Part, check_labels, join
from stages.autoencoder.sources.published.published_files import NEXT_STEP, PublishedFile, fetch

NAME = "cifar-10-binary.tar.gz"
ADDRESS = f"https://www.cs.toronto.edu/~kriz/{NAME}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as the publisher's page has it; torchvision knows the other archive only
MAX_ARCHIVE = 180 * 10**6  # bytes; published with 170 million
TRAIN = tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6))
TEST = "cifar-10-batches-bin/test_batch.bin"
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes
RECORDS = 10_000  # in a file
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BLOCK = tarfile.BLOCKSIZE
MAX_OTHER_BYTES = 2**20  # unpacked: headers, a list of the classes, a link to the publisher's page


def load(folder: Path, mirror: str | None) -> Dataset:
    """All 60,000 images, in memory once until they are read; the publisher's test_batch is the test part.

    folder, mirror: as in `published_files.fetch`, which see. Raises UserError for another archive too.
    """
    archive = fetch(PublishedFile(NAME, MD5, (ADDRESS,), MAX_ARCHIVE), folder, mirror)
    try:
        records = _read_records(archive)
    except (tarfile.HeaderError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{archive}: must be a whole tar.gz of CIFAR-10's binary files; {error}; {NEXT_STEP}") from None
    train, test = (_make_part(archive, records, names) for names in (TRAIN, (TEST,)))
    return join(train, test, SHAPE, CLASSES)


def _make_part(archive: Path, records: dict[str, np.ndarray], names: Sequence[str]) -> Part:
    for name in names:
        labels = records[name][:, 0]
        check_labels(labels, f"{archive}: {name}", RECORDS, range(len(CLASSES)))
    return Part(np.concatenate([records[name][:, 0] for name in names]).astype(np.int64), _drain(records, names))


def _drain(records: dict[str, np.ndarray], names: Sequence[str]) -> Iterator[np.ndarray]:
    """The images of each file, (RECORDS, 3, 32, 32), which is then forgotten."""
    for name in names:
        yield np.ascontiguousarray(records.pop(name)[:, 1:]).reshape(-1, *SHAPE)


def _read_records(archive: Path) -> dict[str, np.ndarray]:
    """The six files by name, uint8 (RECORDS, RECORD) each. Nothing is written to the disk.

    The archive is read as a stream of headers and contents. A TarFile would also interpret extended headers of any
    length and place. Raises ValueError, EOFError or an error of tarfile, gzip or zlib for another archive.
    """
    records: dict[str, np.ndarray] = {}
    other_bytes = 0
    with gzip.open(archive) as stream:
        while any(block := stream.read(BLOCK)):
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            padded = entry.size + -entry.size % BLOCK
            if entry.name in (*TRAIN, TEST):
                if not entry.isreg() or entry.size != RECORDS * RECORD or entry.name in records:
                    raise ValueError(f"{entry.name} must be there once, as a file of {RECORDS * RECORD} bytes")
                content = _read_exactly(stream, padded)
                records[entry.name] = np.frombuffer(content, np.uint8, RECORDS * RECORD).reshape(RECORDS, RECORD)
            else:
                other_bytes += BLOCK + padded
                if padded < 0 or other_bytes > MAX_OTHER_BYTES:
                    raise ValueError(f"more than {MAX_OTHER_BYTES} bytes of other files")
                _read_exactly(stream, padded)
        if len(stream.read(MAX_OTHER_BYTES)) == MAX_OTHER_BYTES:  # zeros; their end has gzip's checksum
            raise ValueError(f"more than {MAX_OTHER_BYTES} bytes after its end")
    if missing := {*TRAIN, TEST} - records.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return records


def _read_exactly(stream: gzip.GzipFile, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the last file ends early")
    return content
