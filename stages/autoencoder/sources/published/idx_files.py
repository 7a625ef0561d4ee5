"""IDX, the format of MNIST's files: two zero bytes, type, number of dimensions, sizes, numbers; big-endian.

In: a gzipped IDX file, which may hold anything. Out: its numbers, in pieces. torchvision's reader is not used: it
takes unpacked files that can be trusted, reads everything and believes the header.
"""

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.published.published_files import NEXT_STEP

TYPE_CODES = {"uint8": 0x08, "int32": 0x0C}
PIECE_BYTES = 2**20  # unpacked at a time, or one item where that is larger


@dataclass(frozen=True)
class IdxFile:
    """A gzipped IDX file that must hold N >= 1 items of one shape and type. Memory follows what is read of it."""

    place: str  # its name, for messages
    open: Callable[[], IO[bytes]]  # the gzipped bytes, from the first
    kind: str  # one of TYPE_CODES
    item: tuple[int, ...]  # the shape of an item
    most: int  # no published file has more items

    def read_count(self) -> int:
        """N, as the header says. Raises UserError for another type or shape, no item, or more than `most`."""
        with self._unpack() as stream:
            return self._read_header(stream)

    def read_all(self) -> np.ndarray:
        """All items, (N, *item), in the machine's byte order. Raises UserError as `read_pieces` does."""
        return np.concatenate(list(self.read_pieces()))

    def read_pieces(self) -> Iterator[np.ndarray]:
        """The items in order, each piece (n, *item) in the machine's byte order.

        Raises UserError for anything but one whole file, with as many numbers as its header claims.
        """
        kind = np.dtype(self.kind)
        item_bytes = math.prod(self.item) * kind.itemsize
        length = max(1, PIECE_BYTES // item_bytes)
        with self._unpack() as stream:
            count = self._read_header(stream)
            for done in range(0, count, length):
                wanted = min(length, count - done) * item_bytes
                content = stream.read(wanted)
                if len(content) < wanted:
                    self._refuse_size(count * item_bytes, str(done * item_bytes + len(content)))
                numbers = np.frombuffer(content, kind.newbyteorder(">"))
                yield numbers.astype(kind, copy=False).reshape(-1, *self.item)
            if stream.read(1):  # the read that finds the end also checks gzip's checksum
                self._refuse_size(count * item_bytes, "more")

    @contextmanager
    def _unpack(self) -> Iterator[gzip.GzipFile]:
        try:
            with self.open() as packed, gzip.GzipFile(fileobj=packed) as stream:
                yield stream
        except (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile) as error:  # it may lie in a zip archive
            raise UserError(f"{self.place}: must be one whole gzip file; {error}; {NEXT_STEP}") from None

    def _read_header(self, stream: gzip.GzipFile) -> int:
        """N; the stream then stands at the first number."""
        magic = bytes((0, 0, TYPE_CODES[self.kind], 1 + len(self.item)))
        header = stream.read(len(magic) + 4 * (1 + len(self.item)))
        if header[:4] != magic:
            got = header[:4].hex() or "nothing"
            raise UserError(f"{self.place}: IDX must start with {magic.hex()}; got {got}; {NEXT_STEP}")
        shape = tuple(int(size) for size in np.frombuffer(header[4 : len(header) // 4 * 4], ">u4"))
        if len(shape) != 1 + len(self.item) or shape[1:] != self.item or shape[0] < 1:
            wanted = _times(("N", *self.item))
            raise UserError(
                f"{self.place}: must hold {wanted} numbers, N >= 1; its header says {_times(shape)}; {NEXT_STEP}"
            )
        limit, claimed = (n * math.prod(self.item) * np.dtype(self.kind).itemsize for n in (self.most, shape[0]))
        if claimed > limit:
            raise UserError(
                f"{self.place}: must unpack to at most {limit} bytes; its header says {claimed}; {NEXT_STEP}"
            )
        return shape[0]

    def _refuse_size(self, claimed: int, got: str) -> None:
        raise UserError(f"{self.place}: must hold {claimed} bytes, as its header says; got {got}; {NEXT_STEP}")


def _times(sizes: tuple[object, ...]) -> str:
    return " x ".join(map(str, sizes)) or "nothing"
