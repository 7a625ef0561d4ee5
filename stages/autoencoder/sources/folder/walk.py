"""What lies below a folder: images by their file name's ending, what is refused, what is passed over.

Paths are texts relative to the folder, with / between the parts, in the order of their bytes: the order in which a
file system lists its files changes nothing. Bytes that are no UTF-8 are kept as Python does (surrogateescape).
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
HIDDEN, OTHER, EMPTY, SPECIAL = "hidden", "other files", "folders without images", "pipes and devices"


@dataclass
class Listing:
    """The files and folders below a folder."""

    images: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # path, reason
    passed_over: Counter[str] = field(default_factory=Counter)  # kind: number of files or folders


def walk(folder: Path) -> Listing:
    """All that lies below the folder. Raises OSError if the folder itself cannot be listed."""
    listing, folders, waiting = Listing(), [], [""]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(folder / parent) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        listing.passed_over[HIDDEN] += 1
                    elif _add(entry, f"{parent}{entry.name}", listing):
                        waiting.append(f"{parent}{entry.name}/")
        except OSError as error:
            if not parent:
                raise
            listing.refused.append((parent, f"cannot be listed: {error.strerror}"))
        else:
            folders.append(parent)
    listing.images.sort(key=path_bytes)
    listing.refused.sort(key=lambda refusal: path_bytes(refusal[0]))
    if empty := _count_empty(folders, listing.images):
        listing.passed_over[EMPTY] = empty
    return listing


def path_bytes(path: str) -> bytes:
    """What paths are ordered by."""
    return path.encode("utf-8", "surrogateescape")


def to_text(path: str) -> str:
    """A path as valid Unicode: bytes that are no UTF-8 become \\xff and the like."""
    return path_bytes(path).decode("utf-8", "backslashreplace")


def to_line(path: str) -> str:
    """A path as one printable line: control characters are escaped too."""
    text = to_text(path)
    return text if text.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def shorten(line: str) -> str:
    """A line for a message, its middle left out if it is very long."""
    return line if len(line) <= 240 else f"{line[:120]}...{line[-117:]}"


def _add(entry: os.DirEntry[str], path: str, listing: Listing) -> bool:
    """Put a file on the list where it belongs; True for a folder."""
    is_image = os.path.splitext(entry.name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122  a million Paths take seconds
    if entry.is_symlink():
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            if is_image:
                listing.refused.append((path, f"is a link that leads nowhere: {error.strerror}"))
            else:
                listing.passed_over[OTHER] += 1
            return False
        if stat.S_ISDIR(mode):
            # DVC takes no notice of what changes behind such a link; and links to folders can go in a circle
            reason = "is a link to a folder, which DVC does not look into; put the folder itself there"
            parent, target = os.path.realpath(os.path.dirname(entry.path)), os.path.realpath(entry)  # noqa: PTH120
            loop = f"{parent}{os.sep}".startswith(f"{target.rstrip(os.sep)}{os.sep}")
            listing.refused.append((path, "is a link to a folder that it lies in; remove it" if loop else reason))
            return False
        is_file = stat.S_ISREG(mode)
    elif entry.is_dir(follow_symlinks=False):
        return True
    else:
        is_file = entry.is_file(follow_symlinks=False)
    if not is_file:
        listing.passed_over[SPECIAL] += 1
    elif is_image:
        listing.images.append(path)
    else:
        listing.passed_over[OTHER] += 1
    return False


def _count_empty(folders: list[str], images: list[str]) -> int:
    """How many trees of folders hold no image."""
    holding = {""}
    for image in images:
        parent = image.rpartition("/")[0]
        while parent not in holding:
            holding.add(parent)
            parent = parent.rpartition("/")[0]
    names = (folder.rstrip("/") for folder in folders)
    return sum(name not in holding and name.rpartition("/")[0] in holding for name in names)
