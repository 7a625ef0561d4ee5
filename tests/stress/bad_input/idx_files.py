"""IDX files, gzipped, most with one fault: for MNIST's files and those inside EMNIST's archive."""

import gzip
import struct
import zlib

from hypothesis import strategies as st

from tests.stress.damage import PICKLE, damaged_copies, zip_bytes

IMAGE_COUNT = 4  # in each good file
GZIPPED_ZEROS = {size: gzip.compress(bytes(size), 1) for size in (10**6, 10**8)}  # gzip members follow one another
ODD_SIZES = st.sampled_from([0, 1, IMAGE_COUNT, 28, 29, 255, 60_000, 10**8, 2**31, 2**32 - 1])
ODD_SIZES |= st.integers(0, 2**32 - 1)
HUGE = 2**26 + 1  # bytes: more than any file of MNIST
IDX_FAULTS = ["header", "count", "unpacked", "packed", "format", "noise"] * 40 + ["bomb"] * 9 + ["huge"]


def idx_bytes(type_code: int, sizes: tuple[int, ...], body: bytes) -> bytes:
    """An IDX file, not compressed."""
    return struct.pack(f">HBB{len(sizes)}I", 0, type_code, len(sizes), *sizes) + body


GOOD_IMAGES = idx_bytes(8, (IMAGE_COUNT, 28, 28), bytes(range(196)) * 4 * IMAGE_COUNT)
GOOD_LABELS = idx_bytes(8, (IMAGE_COUNT,), bytes(range(IMAGE_COUNT)))


def good_idx_file(name: str) -> bytes:
    """The file of that name without a fault, not compressed."""
    return GOOD_IMAGES if "images" in name else GOOD_LABELS


@st.composite
def odd_idx_files(draw: st.DrawFn, name: str) -> bytes:
    """Replacements for the file of that name."""
    good = good_idx_file(name)
    packed = gzip.compress(good, mtime=0)
    match draw(st.sampled_from(IDX_FAULTS)):
        case "header":
            sizes = tuple(draw(st.lists(ODD_SIZES, max_size=5)))
            sizes = draw(st.sampled_from([sizes, (*sizes[:1], 28, 28)]))
            bodies = [b"", b"\0", bytes(784), GOOD_IMAGES[16:], GOOD_LABELS[8:], bytes(10**6)]
            body = draw(st.sampled_from(bodies))
            return gzip.compress(idx_bytes(draw(st.sampled_from([8, 8, 9, 12, 13, 0, 255])), sizes, body), 1)
        case "count":
            count = draw(st.integers(0, 2 * IMAGE_COUNT))
            item, size = ((28, 28), 784) if "images" in name else ((), 1)
            pixel = draw(st.integers(0, 255))
            return gzip.compress(idx_bytes(8, (count, *item), bytes([pixel]) * count * size), 1)
        case "unpacked":
            return gzip.compress(draw(damaged_copies(good)), 1)
        case "packed":
            return draw(damaged_copies(packed))
        case "format":
            others = [good, zlib.compress(good), zip_bytes("../../pwned", good), gzip.compress(packed), packed * 2]
            others += [packed + gzip.compress(b""), packed[:10], packed + bytes(1000), PICKLE, gzip.compress(PICKLE)]
            return draw(st.sampled_from(others))
        case "bomb":
            claimed = draw(st.sampled_from([IMAGE_COUNT, 60_000, 60_001, 697_932, 697_933, 2**32 - 1]))
            zeros = draw(st.sampled_from(list(GZIPPED_ZEROS.values()))) * draw(st.integers(1, 3))
            return gzip.compress(idx_bytes(8, (claimed, 28, 28), b"")) + zeros
        case "huge":
            return bytes(draw(st.sampled_from([HUGE - 1, HUGE])))
    return draw(st.binary(max_size=100))
