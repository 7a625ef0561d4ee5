"""Files that are written whole or not at all. Every file that a stage writes passes through here."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from stages.autoencoder.core.errors import UserError


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all. Raises OSError with the path and the number of bytes."""
    with writing(path, len(content)) as file:
        file.write(content)


@contextmanager
def writing(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file to write `size` bytes to, which becomes `path` when the block ends, whole or not at all.

    It has a temporary name beside the path until it is flushed to disk. Each process uses its own, because two that
    share one could rename each other's unfinished file; .gitignore and .dvcignore cover these names. Temporary files
    of processes that were killed are removed. Raises OSError with the path and the number of bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # its own message names neither the path nor the size
        if error.filename not in (None, str(temporary)):
            raise  # another file's, met inside the block
        raise OSError(error.errno, f"{error.strerror}; {size:,} bytes could not be written", str(path)) from None
    finally:
        with suppress(OSError):  # a read-only disk complains even about a file that does not exist
            temporary.unlink()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a metrics file: keys in the given order, floats in full precision, NaN refused (ValueError)."""
    write(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits. Raises UserError if there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which makes it") from None


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` whose process is gone."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9]{{1,9}})-[0-9a-f]+\.part")
    for leftover in path.parent.iterdir():
        if (match := pattern.fullmatch(leftover.name)) and not psutil.pid_exists(int(match[1])):
            with suppress(OSError):
                leftover.unlink()
