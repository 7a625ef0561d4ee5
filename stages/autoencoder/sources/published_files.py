"""Published files: fetched from a mirror or their publisher, checked by MD5, kept for the next time.

In: a file's name, MD5 sum and addresses. Out: its bytes, once the sum is right. The sum is the publisher's: it
finds damage and mix-ups, not a forger. torchvision's downloader is not used: it writes in place, waits for a
silent server without limit and falls back from https to http.
"""

import hashlib
import http.client
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.core.files import write

MAX_BYTES = 64 * 2**20  # the largest published file has 26 MB (Fashion-MNIST's training images)
TIMEOUT = 15  # seconds without an answer, for each of a server's IP addresses
log = logging.getLogger(__name__)


class _UnavailableError(Exception):
    """No file from this address; the message is the reason."""


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher has it."""

    name: str
    md5: str
    addresses: tuple[str, ...]  # each with the name at its end, in the order tried


def fetch(file: PublishedFile, folder: Path, mirror: str | None) -> bytes:
    """The file's bytes: from `folder` if it is kept there, else from `mirror`, else from its publisher.

    mirror: http(s) or file address, or a folder. A fetched file is kept in `folder`, whole or not at all.
    Raises UserError if the kept file or the mirror's has another MD5 sum, or if no address has the file.
    """
    kept, label = folder / file.name, f"{folder.name}/{file.name}"
    if kept.exists():
        data = _read_path(kept)
        if fault := _find_fault(data, file.md5):
            raise UserError(f"{kept}: {fault}; delete it and run download again")
        return data
    mirrored = [_join(mirror, file.name)] if mirror else []
    tried = []
    for address in (*mirrored, *file.addresses):
        try:
            data = _read(address)
        except _UnavailableError as reason:
            fault = str(reason)
        else:
            fault = _find_fault(data, file.md5)
            if not fault:
                write(kept, data)
                log.info("%s: %d bytes from %s", label, len(data), address)
                return data
            if address in mirrored:  # the user named it: trying the next address would hide the damage
                raise UserError(f"{label} from {mirror}: {fault}; delete it or set another download.mirror")
        log.info("%s: not from %s (%s)", label, address, fault)
        tried.append(f"{address} ({fault})")
    raise UserError(
        f"{label}: must be at one of its addresses; tried {', '.join(tried)}; "
        "set download.mirror to an address or a folder that has it"
    )


def _find_fault(data: bytes, md5: str) -> str | None:
    """What is wrong with the data, None if nothing is."""
    if len(data) > MAX_BYTES:
        return f"larger than any published file (more than {MAX_BYTES} bytes)"
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if got != md5:
        return f"MD5 differs from the published one (expected {md5}, got {got} of {len(data)} bytes)"
    return None


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


def _read(address: str) -> bytes:
    """The bytes at an address or path, MAX_BYTES + 1 at most. Raises _UnavailableError with the reason."""
    scheme = urlsplit(address).scheme
    try:
        if scheme in ("http", "https"):
            return _read_http(address)
        path = Path(url2pathname(urlsplit(address).path)) if scheme == "file" else Path(address).expanduser()
        if not path.is_file():  # a pipe or device would be waited for
            raise _UnavailableError("no such file")
        return _read_path(path)
    except HTTPError as error:
        error.close()
        raise _UnavailableError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError, RuntimeError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise _UnavailableError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from None


def _read_http(address: str) -> bytes:
    # Some servers refuse urllib's own name. _read has checked that the address is http or https.
    request = Request(address, headers={"User-Agent": "stages.download"})  # noqa: S310
    with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        data = response.read(MAX_BYTES + 1)
        length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(data) < min(int(length), MAX_BYTES + 1):
        raise _UnavailableError(f"connection closed after {len(data)} of {length} bytes")
    return data


def _read_path(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
