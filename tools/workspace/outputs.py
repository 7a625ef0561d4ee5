"""What a command writes: names that are free, and folders that appear whole or not at all."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from stages.autoencoder.core.errors import UserError


def check_file(path: Path, endings: Sequence[str]) -> None:
    """Raises UserError for a name without one of these endings, or a file that exists."""
    if path.suffix.lower() not in endings:
        *others, last = endings
        wanted = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"{path}: must end in {wanted}; choose such a name")
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: must not exist; choose another name, or remove it first")


def check_folder(folder: Path) -> None:
    """Raises UserError unless the folder is absent or empty."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UserError(f"{folder}: must not exist, or be an empty folder; choose another name, or remove it first")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends, whole or not at all.

    It has a temporary name beside it meanwhile; such folders of processes that were killed are removed. Raises
    UserError as check_folder does.
    """
    check_folder(folder)
    place = folder.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(place)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.part")
    unfinished.mkdir()
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_leftovers(place: Path) -> None:
    """Remove the unfinished folders of `place` whose process is gone."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.([0-9]{{1,9}})\.part")
    for leftover in place.parent.iterdir():
        if (match := pattern.fullmatch(leftover.name)) and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(leftover, ignore_errors=True)
