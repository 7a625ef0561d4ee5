"""IDX, the format of MNIST's files: two zero bytes, type, number of dimensions, sizes, numbers; big-endian.

In: the bytes of a gzipped IDX file, which may be anything. Out: one array of the expected type. torchvision's
reader is not used: it takes unpacked files that can be trusted, reads everything and believes the header.
"""

import gzip
import io
import math
import zlib

import numpy as np

from stages.autoencoder.core.errors import UserError

TYPE_CODES = {"uint8": 0x08, "int32": 0x0C}
MAX_UNPACKED_BYTES = 64 * 2**20  # the largest published file has 45 MiB (60,000 x 28 x 28)
CHUNK = 2**20  # bytes unpacked at a time
NEXT_STEP = "delete it and run download again"


def read(packed: bytes, place: str, kind: str, item: tuple[int, ...]) -> np.ndarray:
    """The array in a gzipped IDX file: (N, *item), `kind` one of TYPE_CODES, in the machine's byte order.

    place: the file's name, for messages. Memory follows the size of the file, not the header's claim.
    Raises UserError for anything but one whole file of N >= 1 such items.
    """
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            shape = _read_shape(stream, place, kind, item)
            body = _read_body(stream, place, shape, np.dtype(kind).itemsize)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{place}: must be one whole gzip file; {error}; {NEXT_STEP}") from None
    return np.frombuffer(body, np.dtype(kind).newbyteorder(">")).astype(kind, copy=False).reshape(shape)


def _read_shape(stream: gzip.GzipFile, place: str, kind: str, item: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in the header. Raises UserError unless it is (N, *item) with N >= 1."""
    magic = bytes((0, 0, TYPE_CODES[kind], 1 + len(item)))
    header = stream.read(len(magic) + 4 * (1 + len(item)))
    if header[:4] != magic:
        raise UserError(f"{place}: IDX must start with {magic.hex()}; got {header[:4].hex() or 'nothing'}; {NEXT_STEP}")
    shape = tuple(int(size) for size in np.frombuffer(header[4 : len(header) // 4 * 4], ">u4"))
    if len(shape) != 1 + len(item) or shape[1:] != item or shape[0] < 1:
        wanted = _times(("N", *item))
        raise UserError(f"{place}: must hold {wanted} numbers, N >= 1; its header says {_times(shape)}; {NEXT_STEP}")
    return shape


def _read_body(stream: gzip.GzipFile, place: str, shape: tuple[int, ...], width: int) -> bytearray:
    """The numbers after the header, exactly as many bytes as it claims; reads at most one byte more."""
    claimed = math.prod(shape) * width
    if claimed > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{place}: must unpack to at most {MAX_UNPACKED_BYTES} bytes; its header says {claimed}; {NEXT_STEP}"
        )
    body = bytearray()
    # the read that finds the end also checks gzip's checksum
    while len(body) <= claimed and (chunk := stream.read(min(CHUNK, claimed + 1 - len(body)))):
        body += chunk
    if len(body) != claimed:
        got = f"{len(body)}" if len(body) < claimed else "more"
        raise UserError(f"{place}: must hold {claimed} bytes, as its header says; got {got}; {NEXT_STEP}")
    return body


def _times(sizes: tuple[object, ...]) -> str:
    return " x ".join(map(str, sizes)) or "nothing"
