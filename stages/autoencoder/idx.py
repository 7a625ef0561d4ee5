"""IDX, the format of MNIST's files: two zero bytes, type, number of dimensions, sizes, numbers; big-endian.

In: the bytes of a gzipped IDX file, which may be anything. Out: one array of the type that is asked for.
torchvision's reader serves unpacked files that can be trusted: it reads all, then believes the header.
"""

import gzip
import io
import math
import zlib
from typing import IO

import numpy as np

from stages.autoencoder.errors import UserError

CODES = {"uint8": 0x08, "int32": 0x0C}
LARGEST = 64 * 2**20  # bytes unpacked; the largest published file has 45 MiB (60,000 x 28 x 28)
PIECE = 2**20  # bytes unpacked at a time
AGAIN = "delete it and run download again"


def read(packed: bytes, place: str, kind: str, item: tuple[int, ...]) -> np.ndarray:
    """The array in a gzipped IDX file: (N, *item), `kind` one of CODES, in the machine's byte order.

    place: the file's name, for messages. Memory follows the bytes that are there, not the header's claim.
    Raises UserError for anything else than one whole file of N >= 1 such items.
    """
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            shape = _shape(stream, place, kind, item)
            body = _body(stream, place, shape, np.dtype(kind).itemsize)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{place}: must be one whole gzip file; {error}; {AGAIN}") from None
    return np.frombuffer(body, np.dtype(kind).newbyteorder(">")).astype(kind, copy=False).reshape(shape)


def _shape(stream: IO[bytes], place: str, kind: str, item: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the header claims, if it is one that the caller can use."""
    magic = bytes((0, 0, CODES[kind], 1 + len(item)))
    header = stream.read(len(magic) + 4 * (1 + len(item)))
    if header[:4] != magic:
        raise UserError(f"{place}: IDX must start with {magic.hex()}; got {header[:4].hex() or 'nothing'}; {AGAIN}")
    shape = tuple(int(size) for size in np.frombuffer(header[4 : len(header) // 4 * 4], ">u4"))
    if len(shape) != 1 + len(item) or shape[1:] != item or shape[0] < 1:
        wanted = _times(("N", *item))
        raise UserError(f"{place}: must hold {wanted} numbers, N >= 1; its header says {_times(shape)}; {AGAIN}")
    return shape


def _body(stream: IO[bytes], place: str, shape: tuple[int, ...], width: int) -> bytearray:
    """The numbers after the header, exactly as many bytes as it claims; reads one byte more at most."""
    claimed = math.prod(shape) * width
    if claimed > LARGEST:
        raise UserError(f"{place}: must unpack to at most {LARGEST} bytes; its header says {claimed}; {AGAIN}")
    body = bytearray()
    # the read that finds the end also checks gzip's checksum
    while len(body) <= claimed and (piece := stream.read(min(PIECE, claimed + 1 - len(body)))):
        body += piece
    if len(body) != claimed:
        got = f"{len(body)}" if len(body) < claimed else "more"
        raise UserError(f"{place}: must hold {claimed} bytes, as its header says; got {got}; {AGAIN}")
    return body


def _times(sizes: tuple[object, ...]) -> str:
    return " x ".join(map(str, sizes)) or "nothing"
