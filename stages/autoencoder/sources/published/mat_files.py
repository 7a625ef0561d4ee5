"""MATLAB 5 files (.mat): arrays of numbers by name, each in one stretch of the file, which zlib may have compressed.

In: a file that may hold anything. Out: an array in pieces along its last axis; MATLAB writes numbers with the first
index running fastest, so such pieces are contiguous. scipy's loadmat is not used: it holds a whole array twice.
Source of the format: MathWorks, "MAT-File Format", chapter 1.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

HEADER_BYTES = 128  # a text, the version, and "IM" or "MI", which tells the order of bytes
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15  # types of a stretch
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC_CLASSES = range(6, 16)  # others are cells, structures, texts, sparse arrays
COMPLEX = 0x800
MAX_ARRAYS = 16
MAX_AXES = 8
MAX_FIELD = 256  # bytes of an array's name, or of its sizes
PIECE_BYTES = 2**20  # unpacked at a time, or one row where that is larger


class Stretch:
    """The bytes of one array, unpacked as they are taken."""

    def __init__(self, file: BinaryIO, size: int, compressed: bool) -> None:
        self._file, self._left = file, size
        self._unpacker = zlib.decompressobj() if compressed else None

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises ValueError if there are fewer."""
        content = bytearray()
        while len(content) < size:
            chunk = self._unpack(min(PIECE_BYTES, size - len(content)))
            if not chunk:
                raise ValueError("an array ends early")
            content += chunk
        return bytes(content)

    def check_end(self) -> None:
        """Raises ValueError if bytes are left, zlib.error if the checksum is wrong."""
        if self._unpack(1) or self._left or (self._unpacker and not self._unpacker.eof):
            raise ValueError("an array ends late")

    def _unpack(self, most: int) -> bytes:
        if self._unpacker is None:
            return self._read(most)
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._read(PIECE_BYTES)
            if (content := self._unpacker.decompress(packed, most)) or not packed:
                return content
        return b""

    def _read(self, most: int) -> bytes:
        content = self._file.read(min(most, self._left))
        self._left -= len(content)
        return content


class Field(NamedTuple):
    """One field of an array: its type, its size in bytes, and its content where that stands in the field's tag."""

    kind: int
    size: int
    content: bytes | None


@dataclass(frozen=True)
class Matrix:
    """One array of a file, with the shape that MATLAB gives it."""

    path: Path
    order: str  # of bytes: < or >
    start: int  # where its stretch of the file begins
    size: int  # of that stretch, in bytes
    compressed: bool
    shape: tuple[int, ...]
    kind: str  # of NumPy, without the order of bytes

    def read_pieces(self) -> Iterator[np.ndarray]:
        """Rows of the last axis, (n, *shape[-2::-1]): the axes are reversed.

        Raises ValueError or zlib.error unless the stretch holds one whole array and nothing else.
        """
        item = self.shape[-2::-1]
        kind = np.dtype(self.order + self.kind)
        row = math.prod(item) * kind.itemsize
        length = max(1, PIECE_BYTES // row) if row else self.shape[-1]
        with self.path.open("rb") as file:
            file.seek(self.start)
            stretch = Stretch(file, self.size, self.compressed)
            _, _, body = read_head(stretch, self.order, nested=self.compressed)
            numbers = stretch if body.content is None else Stretch(BytesIO(body.content), body.size, False)
            for done in range(0, self.shape[-1], length):
                count = min(length, self.shape[-1] - done)
                yield np.frombuffer(numbers.take(count * row), kind).reshape(count, *item)
            if body.content is None:
                stretch.take(-body.size % 8)  # filled up to eight bytes
            stretch.check_end()


def find_matrices(path: Path) -> dict[str, Matrix]:
    """The arrays of numbers in a file, by name; their heads are read, not their numbers.

    Raises ValueError, struct.error or zlib.error for a file that is none of MATLAB 5, or is damaged there.
    """
    matrices: dict[str, Matrix] = {}
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(header[124:])
        if order is None:
            raise ValueError(f"its header ends in {header[124:].hex() or 'nothing'}, not in 0001494d or 01004d49")
        for _ in range(MAX_ARRAYS):
            if not (tag := file.read(8)):
                return matrices
            kind, size = struct.unpack(f"{order}2I", tag)
            if kind not in (MATRIX, COMPRESSED):
                raise ValueError(f"a stretch is of type {kind}, not {MATRIX} or {COMPRESSED}")
            start, compressed = file.tell(), kind == COMPRESSED
            if start + size > file_bytes:
                raise ValueError("an array ends early")
            name, shape, body = read_head(Stretch(file, size, compressed), order, nested=compressed)
            if shape:
                if name in matrices:
                    raise ValueError(f"two arrays have the name {name[:20]!r}")
                if body.size != math.prod(shape) * np.dtype(NUMBERS[body.kind]).itemsize:
                    raise ValueError(f"{name[:20]!r} has {body.size} bytes of type {body.kind} for a shape of {shape}")
                matrices[name] = Matrix(path, order, start, size, compressed, shape, NUMBERS[body.kind])
            file.seek(start + size)
    raise ValueError(f"it holds more than {MAX_ARRAYS} arrays")


def read_head(stretch: Stretch, order: str, nested: bool) -> tuple[str, tuple[int, ...], Field]:
    """Name and shape of an array, and the tag of its numbers, which come next; no shape if it is none of numbers.

    nested: the stretch begins with the array's own tag. Raises ValueError or zlib.error if it is damaged.
    """
    if nested and (tag := _take_tag(stretch, order)).kind != MATRIX:
        raise ValueError(f"a compressed stretch is of type {tag.kind}, not {MATRIX}")
    flags = struct.unpack(f"{order}2I", _take_field(stretch, order, UINT32, 8))[0]
    if flags & 0xFF not in NUMERIC_CLASSES or flags & COMPLEX:
        return "", (), Field(0, 0, None)
    sizes = _take_field(stretch, order, INT32)
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes[: len(sizes) // 4 * 4])
    if not 2 <= len(shape) <= MAX_AXES or min(shape) < 0:
        raise ValueError(f"an array has the shape {shape[: MAX_AXES + 1]}")
    name = _take_field(stretch, order, INT8).decode("latin-1")
    body = _take_tag(stretch, order)
    if body.kind not in NUMBERS:
        raise ValueError(f"{name[:20]!r} has numbers of type {body.kind}")
    return name, shape, body


def _take_tag(stretch: Stretch, order: str) -> Field:
    """The next tag. In its short form, for four bytes or fewer, it includes the content."""
    tag = stretch.take(8)
    kind, size = struct.unpack(f"{order}2I", tag)
    if not kind >> 16:
        return Field(kind, size, None)
    if kind >> 16 > 4:
        raise ValueError(f"a short field claims {kind >> 16} bytes")
    return Field(kind & 0xFFFF, kind >> 16, tag[4 : 4 + (kind >> 16)])


def _take_field(stretch: Stretch, order: str, kind: int, size: int | None = None) -> bytes:
    """The content of the next field, which must be of that type and size; no longer than MAX_FIELD."""
    tag = _take_tag(stretch, order)
    if tag.kind != kind or tag.size > MAX_FIELD or size not in (None, tag.size):
        raise ValueError(f"a field is of type {tag.kind} with {tag.size} bytes, not of type {kind}")
    return stretch.take(tag.size + -tag.size % 8)[: tag.size] if tag.content is None else tag.content
