"""MATLAB 5 files, written from scratch as MathWorks' "MAT-File Format" describes them."""

import struct
import zlib
from typing import Any

import numpy as np

TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}


def mat_file(*stretches: bytes, order: str = "<") -> bytes:
    """A file of these stretches."""
    text = b"MATLAB 5.0 MAT-file, Platform: none".ljust(124)
    return text + struct.pack(f"{order}H", 0x0100) + struct.pack(f"{order}H", 0x4D49) + b"".join(stretches)


def stretch(name: str, array: np.ndarray, order: str = "<", packed: bool = False, **changes: Any) -> bytes:
    """One array. changes: shape, kind, flags or size that its head claims instead of the right ones."""
    kind = array.dtype.str[1:]
    shape = changes.get("shape", array.shape)
    numbers = array.astype(np.dtype(order + kind)).tobytes("F")
    flags = changes.get("flags", CLASSES[kind])
    body = field(order, 6, struct.pack(f"{order}2I", flags, 0))
    body += field(order, 5, struct.pack(f"{order}{len(shape)}i", *shape)) + field(order, 1, name.encode())
    body += field(order, changes.get("kind", TYPES[kind]), numbers, changes.get("size"))
    whole = struct.pack(f"{order}2I", 14, len(body)) + body
    if not packed:
        return whole
    packed_bytes = zlib.compress(whole, 1)
    return struct.pack(f"{order}2I", 15, len(packed_bytes)) + packed_bytes


def field(order: str, kind: int, content: bytes, size: int | None = None) -> bytes:
    """One field: its tag and its content, filled up to eight bytes; the short form up to four bytes of content."""
    if 0 < len(content) <= 4 and size is None:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    size = len(content) if size is None else size
    return struct.pack(f"{order}2I", kind, size) + content + bytes(-len(content) % 8)
