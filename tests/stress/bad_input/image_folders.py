"""Folders of a user's images, most with a fault, for the stage download.

A case is a folder and the section download of params.yaml. Most folders hold one or two images with a fault beside
good ones: every format and pixel mode, cut, with flipped bits, with other sizes in the header under a right checksum.
Others have odd names, links, other formats under an image's name, and mixed layouts.
"""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from stages import download
from stages.autoencoder.sources.folder import pool
from tests.stress.damage import damaged_copies
from tests.support import decode_here
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params

FOLDER = Path("photos")
Entry = bytes | tuple[str, str]  # a file's content, or what else has a name
LINK, PIPE, DIRECTORY = "link", "pipe", "directory"


class ImageFolder(NamedTuple):
    """One case."""

    entries: Mapping[str, Entry]  # by path
    download: Mapping[str, Any]  # keys of params.yaml


def read_folder(case: ImageFolder) -> None:
    """Run the stage download on the folder. What cannot be made on this file system is left out."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name, content in case.entries.items():
        path = FOLDER / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content[0] == LINK:
                path.symlink_to(content[1])
            elif content[0] == PIPE:
                os.mkfifo(path)
            else:
                path.mkdir()
        except (OSError, ValueError):
            continue
    changes = {f"download.{key}": value for key, value in case.download.items()}
    write_params(Path("params.yaml"), changes, source=ROOT / "params.yaml")
    with patch.object(pool, "run", decode_here.run):  # a process for each case would take hours
        download.main()


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as the content of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_good_images() -> list[bytes]:
    """One image in every format and pixel mode that is read, a few with what only some programs write."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (9, 12, 4), np.uint8))
    grey, deep = colours.convert("L"), Image.fromarray(rng.integers(0, 65536, (9, 12), np.uint16))
    photo = colours.resize((260, 200))
    exif = Image.Exif()
    exif.update({274: 6, 271: "maker"})
    frames: dict[str, Any] = {"save_all": True, "append_images": [clear.rotate(90), clear]}
    contents = [save(colours.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    contents += [save(deep, "PNG"), save(colours.convert("P"), "PNG", transparency=bytes(range(200)))]
    contents += [save(clear, "PNG", **frames), save(colours, "PNG", exif=exif)]
    contents += [save(colours.convert(mode), "JPEG", exif=exif) for mode in ("L", "RGB", "CMYK")]
    contents += [save(photo, "JPEG", progressive=True), save(colours, "MPO", save_all=True, append_images=[colours])]
    contents += [save(image, "WEBP", lossless=lossless) for image in (colours, clear) for lossless in (True, False)]
    contents += [save(clear, "WEBP", **frames), save(clear, "GIF", **frames), save(grey, "GIF", transparency=3)]
    contents += [save(colours.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")] + [save(clear, "BMP")]
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "F", "I"):
        contents.append(save(colours.convert(mode), "TIFF"))
    contents += [save(deep, "TIFF"), save(colours, "TIFF", exif=exif), save(clear, "TIFF", **frames)]
    contents += [save(colours, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    contents += [save(grey.convert("1"), "TIFF", compression=name) for name in ("group3", "group4", "tiff_ccitt")]
    contents += [save(photo, "TIFF", compression="tiff_lzw", big_tiff=True)]
    return contents


GOOD_IMAGES = make_good_images()
ODD_NUMBERS = [0, 1, 2, 3, 8, 9, 12, 16, 255, 256, 10_000, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


def png(width: int, height: int, depth: int, colour: int, packed: bytes) -> bytes:
    """A PNG with a right checksum for whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A piece of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


LARGEST = zlib.compress(bytes(10_001 * 10_000), 1)  # all pixels of the largest grey image that is read
OTHER_FILES = [
    b"", b"\0", b"text\n" * 50, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"RIFF\4\0\0\0WEBP",
    b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"BM", b"GIF89a", b"P6 2 2 255 abcdefghijkl", b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='x'/>", b"\x1f\x8b\x08", b"PK\3\4", b"#!/bin/sh\ntouch pwned\n",
    b"/* XPM */\nstatic char *a[] = {", b"\0\0\1\0", b"8BPS\0\1", b"SIMPLE  =",
    png(10_000, 10_000, 8, 0, LARGEST), png(10_001, 10_000, 8, 0, LARGEST), png(30_000, 30_000, 1, 0, LARGEST),
    png(2**31 - 1, 1, 8, 0, b""), png(1, 2**31 - 1, 8, 6, zlib.compress(bytes(9999))),
]  # fmt: skip


@st.composite
def odd_images(draw: st.DrawFn) -> bytes:
    """The content of a file with an image's name."""
    good = draw(st.sampled_from(GOOD_IMAGES))
    match draw(st.sampled_from(["damage"] * 3 + ["start", "number", "number", "chunks", "tags", "other"])):
        case "damage":
            return draw(damaged_copies(good))
        case "start":
            at = draw(st.integers(10, 60))
            return draw(damaged_copies(good[:at])) + good[at:]
        case "number":  # a size, an offset, a count: of one to four bytes, either end first
            number, code = draw(st.sampled_from(ODD_NUMBERS)), draw(st.sampled_from(["B", "<H", ">H", "<I", ">I"]))
            width = struct.calcsize(code)
            at = draw(st.integers(0, min(len(good), 400) - width))
            return good[:at] + struct.pack(code, number % 256**width) + good[at + width :]
        case "chunks":
            return draw(odd_pngs())
        case "tags":
            return draw(odd_tiffs())
    return draw(st.sampled_from(OTHER_FILES) | st.binary(max_size=60))


@st.composite
def odd_pngs(draw: st.DrawFn) -> bytes:
    """A PNG whose checksums are right and whose contents are not."""
    sizes = st.sampled_from([0, 1, 9, 12, 4000, 2**16, 2**31 - 1])
    header = struct.pack(
        ">IIBBBBB", draw(sizes), draw(sizes), draw(st.sampled_from([1, 2, 4, 8, 16, 3])),
        draw(st.integers(0, 7)), draw(st.integers(0, 1)), draw(st.integers(0, 1)), draw(st.integers(0, 2)),
    )  # fmt: skip
    kinds = st.sampled_from([b"PLTE", b"tRNS", b"eXIf", b"iTXt", b"zTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"gAMA"])
    bodies = st.binary(max_size=40) | st.just(b"x\0\0" + zlib.compress(bytes(10**7))) | st.just(bytes(range(256)) * 3)
    more = b"".join(chunk(kind, body) for kind, body in draw(st.lists(st.tuples(kinds, bodies), max_size=3)))
    rows = zlib.compress(bytes(draw(st.sampled_from([0, 1, 9 * 13, 10**5, 10**7]))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@st.composite
def odd_tiffs(draw: st.DrawFn) -> bytes:
    """A TIFF with another type, count or value in one or two entries of its directory."""
    contents = [content for content in GOOD_IMAGES if content[:4] == b"II*\0"]
    content = bytearray(draw(st.sampled_from(contents)))
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for _ in range(draw(st.integers(1, 2))):
        at = start + 2 + 12 * draw(st.integers(0, count - 1))
        tag, kind, number, value = struct.unpack_from("<HHII", content, at)
        match draw(st.sampled_from(["tag", "kind", "number", "value", "value"])):
            case "tag":
                tag = draw(st.sampled_from(sorted(TiffImagePlugin.TiffTags.TAGS_V2)))
            case "kind":
                kind = draw(st.integers(0, 20))
            case "number":
                number = draw(st.sampled_from(ODD_NUMBERS))
            case "value":
                value = draw(st.sampled_from(ODD_NUMBERS) | st.integers(0, 40))
        struct.pack_into("<HHII", content, at, tag, kind, number, value)
    return bytes(content)


ODD_NAMES = [
    "a b",
    "it's",
    '"',
    "line\nbreak",
    "\x1b[31m",
    "\u202e",
    "日本",
    "e\u0301",
    "x" * 246,
    "\udcff\udcfe",
    "%s",
]
ODD_NAMES += [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "-rf",
    "~",
    "*",
    "CON",
    "a.png",
    "\\",
    "\U0001f600",
    "#",
]
FOLDERS = ["", "", "", "", "cats/", "dogs/", "train/", "test/", "valid/", "train/good/", "test/good/", "test/hole/"]
FOLDERS += ["ground_truth/hole/", "cats/deep/er/", ".hidden/", "odd\nclass/", "no/", "null/"]
SPECIAL = [*((LINK, to) for to in (".", "..", "/", "nowhere", "good0.png", "/dev/zero")), (PIPE, ""), (DIRECTORY, "")]
ENDINGS = [".png", ".png", ".png", ".JPG", ".jpeg", ".webp", ".tif", ".bmp", ".gif", ".txt", ""]


@st.composite
def image_folders(draw: st.DrawFn) -> ImageFolder:
    """A folder, and the keys of section download."""
    place = draw(st.sampled_from(FOLDERS))
    good = st.sampled_from(GOOD_IMAGES)
    entries: dict[str, Entry] = {}
    if draw(st.booleans()):
        entries |= {f"{place}good{number}.png": draw(good) for number in range(draw(st.integers(1, 3)))}
    if draw(st.integers(0, 7)) == 0:  # the layout of MVTec AD, with a mask
        place = "ground_truth/hole/"
        entries |= {f"{part}/0.png": draw(good) for part in ("train/good", "test/good", "test/hole")}
        entries[f"{place}0_mask.png"] = draw(odd_images() | good)
    names = st.sampled_from(ODD_NAMES) | st.text(max_size=30) | st.sampled_from(["b", "c", "0_mask"])
    for _ in range(draw(st.integers(0 if entries else 1, 3))):
        where = place if draw(st.integers(0, 3)) else draw(st.sampled_from(FOLDERS))
        name = f"{where}{draw(names)}{draw(st.sampled_from(ENDINGS))}"
        content: st.SearchStrategy[Entry] = odd_images() | good
        entries[name] = draw(st.sampled_from(SPECIAL) if draw(st.integers(0, 9)) == 0 else content)
    keys = {
        "dataset": "folder",
        "folder": draw(
            st.sampled_from([*[str(FOLDER)] * 20, "absent", "params.yaml", "\u00e9", "/dev/null", "a" * 999])
        ),
        "size": draw(st.sampled_from([[8, 8], [8, 8], [9, 12], [1, 1], [33, 7], None])),
        "fit": draw(st.sampled_from(["crop", "pad", "stretch"])),
        "colour": draw(st.sampled_from(["rgb", "grey"])),
        "background": draw(st.sampled_from(["white", "black"])),
        "mirror": None,
    }
    return ImageFolder(entries, keys)
