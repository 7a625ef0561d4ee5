"""Published files: fetched from a mirror or their publisher, checked by MD5, kept for the next time.

In: a file's name, MD5 sum and addresses. Out: the path where it is kept, once the sum is right. The sum is the
publisher's: it finds damage and mix-ups, not a forger. torchvision's downloader is not used: it writes in place,
waits for a silent server without limit and falls back from https to http.
"""

import hashlib
import http.client
import logging
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from tqdm import tqdm

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.core.files import writing

CHUNK = 2**20  # bytes held at a time
REPORT_EVERY = 2**26  # bytes between two lines of the log where there is no terminal for a progress bar
TIMEOUT = 15  # seconds without an answer, for each of a server's IP addresses
NEXT_STEP = "delete it and run download again"  # for a kept file that is damaged
log = logging.getLogger(__name__)
_md5 = partial(hashlib.md5, usedforsecurity=False)


class _UnavailableError(Exception):
    """No file from this address; the message is the reason."""


class _WrongContentError(_UnavailableError):
    """The address has a file, but another one."""


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher has it."""

    name: str
    md5: str
    addresses: tuple[str, ...]  # each with the name at its end, in the order tried
    max_bytes: int = 64 * 2**20  # MNIST's family has 26 MB at most (Fashion-MNIST's training images)


def fetch(file: PublishedFile, folder: Path, mirror: str | None) -> Path:
    """The path of the file: kept in `folder` already, or fetched from `mirror`, else from its publisher.

    mirror: http(s) or file address, or a folder. A fetched file is kept whole or not at all; memory does not grow
    with it. Raises UserError if the kept file or the mirror's has another MD5 sum, or if no address has the file.
    """
    kept, label = folder / file.name, f"{folder.name}/{file.name}"
    if kept.exists():
        if fault := _find_fault(kept, file):
            raise UserError(f"{kept}: {fault}; {NEXT_STEP}")
        return kept
    mirrored = [_join(mirror, file.name)] if mirror else []
    tried = []
    for address in (*mirrored, *file.addresses):
        try:
            size = _copy(address, kept, file, label)
        except _UnavailableError as fault:
            # The user named the mirror: trying the next address would hide the damage.
            if address in mirrored and isinstance(fault, _WrongContentError):
                raise UserError(f"{label} from {mirror}: {fault}; delete it or set another download.mirror") from None
            log.info("%s: not from %s (%s)", label, address, fault)
            tried.append(f"{address} ({fault})")
        else:
            log.info("%s: %d bytes from %s", label, size, address)
            return kept
    raise UserError(
        f"{label}: must be at one of its addresses; tried {', '.join(tried)}; "
        "set download.mirror to an address or a folder that has it"
    )


def _find_fault(kept: Path, file: PublishedFile) -> str | None:
    """What is wrong with a kept file, None if nothing is."""
    if not kept.is_file():  # a pipe would be waited for
        return "must be a file"
    size = kept.stat().st_size
    if size > file.max_bytes:
        return _describe_excess(file)
    with kept.open("rb") as content:
        return _compare(hashlib.file_digest(content, _md5).hexdigest(), size, file)


def _describe_excess(file: PublishedFile) -> str:
    return f"larger than the published file (more than {file.max_bytes} bytes)"


def _compare(got: str, size: int, file: PublishedFile) -> str | None:
    """What is wrong with a file of this MD5 sum, None if nothing is."""
    if got == file.md5:
        return None
    return f"MD5 differs from the published one (expected {file.md5}, got {got} of {size} bytes)"


def _copy(address: str, kept: Path, file: PublishedFile, label: str) -> int:
    """Fetch a file to `kept`, whole or not at all. Returns its size in bytes.

    Raises _UnavailableError or _WrongContentError for what the address gives, OSError if it cannot be written.
    """
    digest, size = _md5(), 0
    with closing(_read_chunks(address)) as chunks:
        first = next(chunks, b"")  # an address without the file leaves no folder behind
        with (
            writing(kept, file.max_bytes) as copy,
            tqdm(desc=label, unit="B", unit_scale=True, disable=None, leave=False) as bar,  # None: only on a terminal
        ):
            for chunk in chain([first], chunks):
                before, size = size, size + len(chunk)
                if size > file.max_bytes:
                    raise _WrongContentError(_describe_excess(file))
                digest.update(chunk)
                copy.write(chunk)
                bar.update(len(chunk))
                if bar.disable and size // REPORT_EVERY > before // REPORT_EVERY:
                    log.info("%s: %d MiB so far", label, size // 2**20)
            if fault := _compare(digest.hexdigest(), size, file):
                raise _WrongContentError(fault)
    return size


def _join(mirror: str, name: str) -> str:
    """The address of a file on the user's mirror. Raises UserError for an address that can't be one."""
    try:
        address = urlsplit(mirror)
        host = address.hostname or ""
    except ValueError as error:
        raise UserError(f"params.yaml: download.mirror must be a valid address; got {mirror!r}; {error}") from None
    if address.scheme in ("http", "https"):
        usable = bool(host)
    elif address.scheme == "file":
        usable = host in ("", "localhost") and address.path.startswith("/")
    else:
        usable = "://" not in mirror
    if not usable:
        raise UserError(
            "params.yaml: download.mirror must be an http(s)://host/ or file:/// address, or a folder; "
            f"got {mirror!r}; write one of these, or null"
        )
    return f"{mirror.removesuffix('/')}/{name}"


def _read_chunks(address: str) -> Generator[bytes, None, None]:
    """The bytes at an address or path, CHUNK at most at a time. Raises _UnavailableError with the reason."""
    scheme = urlsplit(address).scheme
    try:
        if scheme in ("http", "https"):
            yield from _read_http(address)
            return
        path = Path(url2pathname(urlsplit(address).path)) if scheme == "file" else Path(address).expanduser()
        if not path.is_file():  # a pipe or device would be waited for
            raise _UnavailableError("no such file")
        with path.open("rb") as file:
            yield from _until_empty(file)
    except HTTPError as error:
        error.close()
        raise _UnavailableError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError, RuntimeError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise _UnavailableError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from None


def _read_http(address: str) -> Generator[bytes, None, None]:
    # Some servers refuse urllib's own name. _read_chunks has checked that the address is http or https.
    request = Request(address, headers={"User-Agent": "stages.download"})  # noqa: S310
    size = 0
    with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        for chunk in _until_empty(response):
            size += len(chunk)
            yield chunk
        length = response.headers.get("Content-Length", "")
    if length.isdecimal() and size < int(length):
        raise _UnavailableError(f"connection closed after {size} of {length} bytes")


def _until_empty(file: BinaryIO | http.client.HTTPResponse) -> Generator[bytes, None, None]:
    while chunk := file.read(CHUNK):
        yield chunk
