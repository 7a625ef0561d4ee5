"""The images that a command line names: files, folders, globs and parts of the pipeline, in this order, in batches.

Files are decoded on all cores and brought to the model's size and colours as those of its training. An image that
cannot be read is reported, and the others go on.
"""

import glob
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import piece_length, pieces
from stages.autoencoder.model import inference
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.sources.folder import pool
from stages.autoencoder.sources.folder.pool import Result
from stages.autoencoder.sources.folder.walk import path_bytes, to_line, to_text, walk
from stages.autoencoder.sources.folder.worker import Task

PARTS = {"train": split_files.TRAIN, "valid": split_files.VALID, "test": split_files.TEST}
Item = TypeVar("Item")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The images that one argument names."""

    names: Sequence[str]  # of each image, for tables and messages
    targets: Sequence[str]  # where below an output folder the picture of each belongs, ending included
    read: Callable[[], Iterator[Result]]  # the pixels of each, or the reason why there are none
    refused: int = 0  # files beside these that were refused unread, and reported


@dataclass(frozen=True)
class Batch:
    """Images uint8 (n, C, H, W) with the position among all inputs and the name of each."""

    rows: np.ndarray  # int64 (n,), ascending
    names: list[str]
    images: np.ndarray


@dataclass
class Inputs:
    """All images of a command line. Their batches are read once."""

    sources: Sequence[Source]
    shape: tuple[int, int, int]  # (C, H, W) of each image
    failed: int = field(default=0, init=False)  # images that `batches` could not read so far

    @property
    def count(self) -> int:
        """Images, those that cannot be read included."""
        return sum(len(source.names) for source in self.sources)

    @property
    def targets(self) -> list[str]:
        """Where below an output folder the picture of each image belongs, ending included."""
        return [target for source in self.sources for target in source.targets]

    def batches(self) -> Iterator[Batch]:
        """The images in batches of the size that the stages use, so that results have the same bytes."""
        length = piece_length(self.shape, inference.BATCH_SIZE)
        named = chain.from_iterable(zip(source.names, source.read(), strict=True) for source in self.sources)
        rows: list[int] = []
        names: list[str] = []
        images: list[np.ndarray] = []
        with logging_redirect_tqdm():
            for row, (name, result) in enumerate(show_progress(named, self.count)):
                if isinstance(result, str):
                    log.error("%s: %s", to_line(name), to_line(result))
                    self.failed += 1
                    continue
                rows.append(row)
                names.append(name)
                images.append(result)
                if len(rows) == length:
                    yield Batch(np.array(rows), names, np.stack(images))
                    rows, names, images = [], [], []
            if rows:
                yield Batch(np.array(rows), names, np.stack(images))

    def check_complete(self) -> None:
        """Raises UserError if an image could not be read."""
        unread = sum(source.refused for source in self.sources)
        if refused := unread + self.failed:
            count = self.count + unread
            raise UserError(
                f"every image must be readable; {refused:,} of {count:,} are not, see above; the others are done"
            )


def show_progress(images: Iterator[Item], total: int) -> "tqdm[Item]":
    """The same images, with a bar where stderr is a terminal."""
    return tqdm(images, total=total, unit="image", disable=not sys.stderr.isatty(), mininterval=0.5)


def find_images(arguments: Sequence[str], fitting: Fitting) -> Inputs:
    """The images that the arguments name. Raises UserError for one that names none, or a part of another shape."""
    return Inputs([_find_source(argument, fitting) for argument in arguments], fitting.shape)


def _find_source(argument: str, fitting: Fitting) -> Source:
    if argument in PARTS:
        return _open_part(argument, fitting.shape)
    if Path(argument).is_dir():
        return _open_folder(argument, fitting)
    if Path(argument).exists():
        return _open_files([argument], [PurePosixPath(argument).name], fitting)
    return _open_glob(argument, fitting)


def _open_part(name: str, shape: tuple[int, int, int]) -> Source:
    """Images are named by their paths in their folder; where there are no files, by rows of data/raw: test/12."""
    part = split_files.load(PARTS[name])
    if part.images.shape[1:] != shape:
        raise UserError(
            f"{name}: images must be {shape}, as the model's; got {part.images.shape[1:]}; give files, or the model of"
            " this data"
        )
    names = part.read_names() or [f"{name}/{row}" for row in part.index.tolist()]
    batches = pieces(len(names), piece_length(shape, inference.BATCH_SIZE))
    return Source(names, names, lambda: (image for batch in batches for image in part.images[batch]))


def _open_folder(folder: str, fitting: Fitting) -> Source:
    listing = walk(Path(folder))
    if not listing.images:
        raise UserError(f"{to_line(folder)}: must hold images; got none; name a folder or files with images")
    for path, reason in listing.refused:
        log.error("%s/%s: %s", to_line(folder), to_line(path), reason)
    paths = [str(Path(folder, path)) for path in listing.images]
    return _open_files(paths, listing.images, fitting, len(listing.refused))


def _open_glob(pattern: str, fitting: Fitting) -> Source:
    if not glob.has_magic(pattern):
        raise UserError(
            f"{to_line(pattern)}: must be an image, a folder, a glob or one of {', '.join(PARTS)}; there is no such"
            " file; check the name"
        )
    paths = sorted((path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()), key=path_bytes)  # noqa: PTH207
    if not paths:
        raise UserError(f"{to_line(pattern)}: must match files; it matches none; check the pattern")
    fixed = PurePosixPath(*takewhile(lambda part: not glob.has_magic(part), PurePosixPath(pattern).parts))
    return _open_files(paths, [str(PurePosixPath(path).relative_to(fixed)) for path in paths], fitting)


def _open_files(paths: Sequence[str], targets: Sequence[str], fitting: Fitting, refused: int = 0) -> Source:
    names = [path if path.isascii() else to_text(path) for path in paths]
    return Source(names, targets, lambda: _decode(paths, fitting), refused)


def _decode(paths: Sequence[str], fitting: Fitting) -> Iterator[Result]:
    """Pixels, or the reason why there are none. A file that ends its decoder costs itself alone."""
    start = 0
    while start < len(paths):
        jobs = ((path,) for path in paths[start:])
        try:
            for _, results in pool.run(jobs, len(paths) - start, Task("", fitting), fitting.shape, unit=None):
                yield from results
                start += len(results)
        except pool.WorkerEndedError as error:
            bad = paths.index(error.path, start)
            yield from _decode(paths[start:bad], fitting)
            yield f"the process that decoded it ended by {error.cause}"
            start = bad + 1
