"""The archives of EMNIST and CIFAR-10 and the MATLAB files of SVHN, most with one fault.

Each case is {name: content} of all files that the publisher has.
"""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from hypothesis import strategies as st

from stages.autoencoder.sources.published import cifar10
from tests.stress.bad_input.idx_files import GZIPPED_ZEROS, IMAGE_COUNT, ODD_SIZES, good_idx_file, odd_idx_files
from tests.stress.damage import PICKLE, damaged_copies, zip_bytes
from tests.support.mat_files import mat_file, stretch

EMNIST_FILES = tuple(
    f"gzip/emnist-mnist-{part}-{content}-ubyte.gz"
    for part in ("train", "test")
    for content in ("images-idx3", "labels-idx1")
)
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")


@st.composite
def emnist_files(draw: st.DrawFn) -> dict[str, bytes]:
    """EMNIST's archive with a fault in a member, in the archive's structure, or in any byte."""
    members = {name: gzip.compress(good_idx_file(name), mtime=0) for name in EMNIST_FILES}
    name = draw(st.sampled_from(EMNIST_FILES))
    method = draw(st.sampled_from([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    match draw(st.sampled_from(["member", "member", "name", "drop", "bytes", "bytes", "directory", "format"])):
        case "member":
            members[name] = draw(odd_idx_files(name))
        case "name":
            others = st.sampled_from(["../" + name, "/" + name, name.upper(), name[:-3], *EMNIST_FILES])
            members[draw(others | st.text(max_size=300))] = members.pop(name)
        case "drop":
            del members[name]
        case "bytes":
            return {"gzip.zip": draw(damaged_copies(pack_zip(members, method)))}
        case "directory":  # the entries, and where they begin, stand at the end
            archive = pack_zip(members, method)
            start = archive.index(b"PK\1\2")
            return {"gzip.zip": archive[:start] + draw(damaged_copies(archive[start:]))}
        case "format":
            foreign = [members[name], zip_bytes("../../pwned", PICKLE), PICKLE, pack_tar({}, ""), b"PK\5\6" + bytes(18)]
            return {"gzip.zip": draw(st.sampled_from(foreign) | st.binary(max_size=100))}
    return {"gzip.zip": pack_zip(members, method)}


def pack_zip(members: dict[str, bytes], method: int) -> bytes:
    """A zip archive with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


CIFAR10_FILES = (*cifar10.TRAIN, cifar10.TEST)
GOOD_RECORDS = b"".join(bytes([label]) + bytes(range(256)) * 12 for label in range(IMAGE_COUNT))


@st.composite
def cifar10_files(draw: st.DrawFn) -> dict[str, bytes]:
    """CIFAR-10's archive with a fault in a file, in a header, or in any byte; or with something else inside."""
    files = dict.fromkeys(CIFAR10_FILES, GOOD_RECORDS)
    name = draw(st.sampled_from(CIFAR10_FILES))
    faults = ["content", "content", "header", "header", "drop", "unpacked", "unpacked", "packed", "packed", "format"]
    match draw(st.sampled_from(faults * 4 + ["bomb"])):
        case "content":
            files[name] = draw(damaged_copies(GOOD_RECORDS))
        case "drop":
            del files[name]
        case "header":
            return make_cifar10(gzip.compress(pack_tar(files, name, draw(odd_tar_headers(name))), 1))
        case "unpacked":
            return make_cifar10(gzip.compress(draw(damaged_copies(pack_tar(files, ""))), 1))
        case "packed":
            return make_cifar10(draw(damaged_copies(gzip.compress(pack_tar(files, ""), 1, mtime=0))))
        case "bomb":
            zeros = draw(st.sampled_from(list(GZIPPED_ZEROS.values())))
            before = tarfile.TarInfo(draw(st.sampled_from([name, "other"])))
            before.size = draw(st.sampled_from([10**6, 10**8, 2**40]))
            whole = gzip.compress(pack_tar(files, ""), 1)
            bombs = [whole + zeros, gzip.compress(before.tobuf(tarfile.GNU_FORMAT), 1) + zeros + whole]
            return make_cifar10(draw(st.sampled_from(bombs)))
        case "format":
            others = [GOOD_RECORDS, pack_tar(files, ""), zip_bytes(name, GOOD_RECORDS), gzip.compress(GOOD_RECORDS)]
            return make_cifar10(draw(st.sampled_from([*others, PICKLE, gzip.compress(PICKLE)])))
    return make_cifar10(gzip.compress(pack_tar(files, ""), 1))


def make_cifar10(archive: bytes) -> dict[str, bytes]:
    return {cifar10.NAME: archive}


def pack_tar(files: dict[str, bytes], changed: str, header: bytes = b"") -> bytes:
    """A tar archive of these files, not compressed, with another header for the one that is changed."""
    blocks = []
    for name, content in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        blocks += [header if name == changed else info.tobuf(tarfile.GNU_FORMAT), content, bytes(-len(content) % 512)]
    return b"".join(blocks) + bytes(1024)


@st.composite
def odd_tar_headers(draw: st.DrawFn, name: str) -> bytes:
    """Headers of a file with another name, type or size, but the right checksum."""
    info = tarfile.TarInfo(name)
    info.size = len(GOOD_RECORDS)
    match draw(st.sampled_from(["name", "type", "size", "raw"])):
        case "name":
            info.name = draw(st.text(max_size=300) | st.sampled_from([*CIFAR10_FILES, "../" + name, "/" + name]))
        case "type":
            info.type = draw(st.binary(min_size=1, max_size=1) | st.sampled_from([b"1", b"2", b"5", b"x", b"L", b"S"]))
        case "size":
            info.size = draw(
                st.sampled_from([0, 1, len(GOOD_RECORDS) - 1, 2**33, 2**60]) | st.integers(-(2**60), 2**60)
            )
        case "raw":
            block = bytearray(draw(damaged_copies(info.tobuf(tarfile.GNU_FORMAT)))[:512].ljust(512, b"\0"))
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
            return bytes(block)
    return info.tobuf(draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])), "utf-8", "surrogatepass")


SVHN_IMAGES = np.arange(3072 * IMAGE_COUNT, dtype=np.uint8).reshape(32, 32, 3, IMAGE_COUNT)
SVHN_LABELS = np.arange(1, IMAGE_COUNT + 1, dtype=np.uint8)[:, np.newaxis]
PACKED_ZEROS = {size: zlib.compress(bytes(size), 1) for size in (10**6, 10**8)}
ODD_SHAPES = [(32, 32, 3, 0), (32, 32, 3, 10**5), (32, 32, 3, 2**31 - 1), (0,), (), (1,) * 64, (2**31 - 1,) * 64]


@st.composite
def svhn_files(draw: st.DrawFn) -> dict[str, bytes]:
    """The two files of SVHN, one of them with a fault."""
    good = mat_file(stretch("X", SVHN_IMAGES, packed=True), stretch("y", SVHN_LABELS, packed=True))
    files = dict.fromkeys(SVHN_FILES, good)
    files[draw(st.sampled_from(SVHN_FILES))] = draw(odd_mat_files())
    return files


@st.composite
def odd_mat_files(draw: st.DrawFn) -> bytes:
    """Replacements for a file of SVHN."""
    order = draw(st.sampled_from("<<<>"))
    packed = draw(st.booleans())
    arrays = {"X": SVHN_IMAGES, "y": SVHN_LABELS}
    name = draw(st.sampled_from(["X", "y"]))
    changes: dict[str, object] = {}
    match draw(st.sampled_from(["claim", "claim", "array", "label", "bytes", "inside", "inside", "bomb", "format"])):
        case "claim":
            shapes = st.sampled_from(ODD_SHAPES) | st.lists(st.integers(-1, 99), max_size=6).map(tuple)
            sizes = ODD_SIZES | st.sampled_from([3072 * 10**5, 10**5])
            numbers = st.integers(0, 20)
            odd = {"shape": shapes, "kind": numbers, "flags": numbers | ODD_SIZES, "size": sizes}
            for key in draw(st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=2)):
                changes[key] = draw(odd[key])
        case "array":
            shape = draw(st.sampled_from([(32, 32, 3, 4), (4, 1), (1, 4), (4, 32, 32, 3), (28, 28, 1, 4), (2, 2)]))
            kind = draw(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"]))
            arrays[name] = np.full(shape, draw(st.integers(0, 12))).astype(kind)
        case "label":
            values = st.floats() | st.integers(-1, 12).map(float)
            arrays["y"] = np.array(draw(st.lists(values, min_size=4, max_size=4)))[:, np.newaxis]
        case "bytes":
            whole = [stretch(key, array, order, packed) for key, array in arrays.items()]
            return draw(damaged_copies(mat_file(*whole, order=order)))
        case "inside":
            body = draw(damaged_copies(stretch(name, arrays[name], order)))
            other = stretch("Xy".replace(name, ""), arrays["Xy".replace(name, "")], order)
            return mat_file(other, pack_stretch(zlib.compress(body, 1), order), order=order)
        case "bomb":
            zeros = draw(st.sampled_from(list(PACKED_ZEROS.values())))
            pieces = [stretch("y", SVHN_LABELS), pack_stretch(zeros, "<"), stretch("X", SVHN_IMAGES)]
            claimed = stretch(name, arrays[name][:, :0], shape=(32, 32, 3, 10**5), size=3072 * 10**5)
            compressor = zlib.compressobj(1)
            bomb = compressor.compress(claimed) + compressor.compress(bytes(10**7)) + compressor.flush()
            return mat_file(*draw(st.permutations([*pieces, pack_stretch(bomb, "<")])))
        case "format":
            others = [PICKLE, b"\x89HDF\r\n\x1a\n" + bytes(600), zip_bytes("X", PICKLE), mat_file(), mat_file()[:-1]]
            return draw(st.sampled_from(others) | st.binary(max_size=300))
    whole = [stretch(key, array, order, packed, **(changes if key == name else {})) for key, array in arrays.items()]
    return mat_file(*whole, order=order)


def pack_stretch(content: bytes, order: str) -> bytes:
    """A compressed stretch of a MATLAB file."""
    return struct.pack(f"{order}2I", 15, len(content)) + content
