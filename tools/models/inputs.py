"""The images that a command line names: files, folders, globs and parts of the pipeline, in this order, in batches.

Files are decoded on all cores and brought to the model's size and colours as those of its training. An image that
cannot be read is reported, and the others go on.
"""

import glob
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import piece_length, pieces
from stages.autoencoder.data.split_files import Part
from stages.autoencoder.model import inference
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.sources.folder import pool
from stages.autoencoder.sources.folder.walk import path_bytes, to_line, to_text, walk
from stages.autoencoder.sources.folder.worker import Task

PARTS = {"train": split_files.TRAIN, "valid": split_files.VALID, "test": split_files.TEST}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Image files."""

    paths: list[str]
    targets: list[str]  # where below an output folder the picture of each belongs


@dataclass(frozen=True)
class Batch:
    """Images uint8 (n, C, H, W) with the position among all inputs and the name of each."""

    rows: np.ndarray  # int64 (n,), ascending
    names: list[str]
    images: np.ndarray


@dataclass
class Inputs:
    """All images of a command line. Their batches are read once."""

    sources: list[Files | tuple[str, Part]]
    fitting: Fitting
    refused: int = field(default=0, init=False)

    @property
    def count(self) -> int:
        """Images, those that cannot be read included."""
        return sum(len(s.paths) if isinstance(s, Files) else len(s[1].images) for s in self.sources)

    @property
    def targets(self) -> list[str]:
        """Where below an output folder the picture of each image belongs, without the ending."""
        found: list[str] = []
        for source in self.sources:
            found += source.targets if isinstance(source, Files) else _part_names(*source)
        return found

    def batches(self) -> Iterator[Batch]:
        """The images in batches of the size that the stages use, so that results have the same bytes."""
        return _regroup(self._read(), piece_length(self.fitting.shape, inference.BATCH_SIZE))

    def check_complete(self) -> None:
        """Raises UserError if an image could not be read."""
        if self.refused:
            raise UserError(
                f"every image must be readable; {self.refused:,} of {self.count:,} are not, see above; the others are"
                " done"
            )

    def _read(self) -> Iterator[Batch]:
        start = 0
        for source in self.sources:
            if isinstance(source, Files):
                yield from self._read_files(source, start)
                start += len(source.paths)
                continue
            part = source[1]
            names = _part_names(*source)
            for piece in pieces(len(part.images), piece_length(self.fitting.shape, inference.BATCH_SIZE)):
                rows = np.arange(piece.start, piece.stop) + start
                yield Batch(rows, names[piece], part.images[piece])
            start += len(part.images)

    def _read_files(self, source: Files, start: int) -> Iterator[Batch]:
        row = start
        for chunk, results in _decode(source.paths, self.fitting):
            rows, names, images = [], [], []
            for path, result in zip(chunk, results, strict=True):
                if isinstance(result, str):
                    log.error("%s: %s", to_line(path), to_line(result))
                    self.refused += 1
                else:
                    rows.append(row)
                    names.append(to_text(path))
                    images.append(result)
                row += 1
            if images:
                yield Batch(np.array(rows), names, np.stack(images))


def find_images(arguments: Sequence[str], fitting: Fitting) -> Inputs:
    """The images that the arguments name. Raises UserError for one that names none, or a part of another shape."""
    sources: list[Files | tuple[str, Part]] = []
    for argument in arguments:
        if argument in PARTS:
            part = split_files.load(PARTS[argument])
            if part.images.shape[1:] != fitting.shape:
                raise UserError(
                    f"{argument}: images must be {fitting.shape}, as the model's; got {part.images.shape[1:]}; give"
                    " files, or the model of this data"
                )
            sources.append((argument, part))
        elif Path(argument).is_dir():
            sources.append(_list_folder(argument))
        elif Path(argument).exists():
            sources.append(Files([argument], [PurePosixPath(argument).name]))
        else:
            sources.append(_expand(argument))
    return Inputs(sources, fitting)


def _list_folder(folder: str) -> Files:
    listing = walk(Path(folder))
    if not listing.images:
        raise UserError(f"{to_line(folder)}: must hold images; got none; name a folder or files with images")
    for path, reason in listing.refused:
        log.warning("%s/%s: passed over: %s", to_line(folder), to_line(path), reason)
    return Files([str(Path(folder, path)) for path in listing.images], list(listing.images))


def _expand(pattern: str) -> Files:
    if not glob.has_magic(pattern):
        raise UserError(
            f"{to_line(pattern)}: must be an image, a folder, a glob or one of {', '.join(PARTS)}; there is no such"
            " file; check the name"
        )
    found = sorted((path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()), key=path_bytes)  # noqa: PTH207
    if not found:
        raise UserError(f"{to_line(pattern)}: must match files; it matches none; check the pattern")
    fixed = PurePosixPath(*_until_magic(PurePosixPath(pattern).parts))
    return Files(found, [str(PurePosixPath(path).relative_to(fixed)) for path in found])


def _until_magic(parts: Sequence[str]) -> list[str]:
    fixed: list[str] = []
    for part in parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return fixed


def _part_names(name: str, part: Part) -> list[str]:
    """The path of each image in its folder; of a dataset without files, such as test/12, its row in data/raw."""
    return part.read_names() or [f"{name}/{row}" for row in part.index.tolist()]


def _decode(paths: Sequence[str], fitting: Fitting) -> Iterator[tuple[list[str], list[pool.Result]]]:
    """Paths with their pixels, or the reason why there are none. A file that ends its decoder costs itself alone."""
    start = 0
    while start < len(paths):
        jobs = ((path,) for path in paths[start:])
        try:
            for chunk, results in pool.run(jobs, len(paths) - start, Task("", fitting), fitting.shape):
                yield [job[0] for job in chunk], results
                start += len(chunk)
        except pool.WorkerEndedError as error:
            bad = paths.index(error.path, start)
            yield from _decode(paths[start:bad], fitting)
            cause = f"signal {-error.status}" if error.status < 0 else f"exit status {error.status}"
            yield [error.path], [f"the process that decoded it ended by {cause}"]
            start = bad + 1


def _regroup(chunks: Iterable[Batch], length: int) -> Iterator[Batch]:
    """The same images in batches of `length`, the last one shorter."""
    held: list[Batch] = []
    count = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk.rows)
        while count >= length:
            joined = _join(held)
            yield _take(joined, slice(0, length))
            held = [_take(joined, slice(length, None))]
            count -= length
    if count:
        yield _join(held)


def _join(batches: Sequence[Batch]) -> Batch:
    names = [name for batch in batches for name in batch.names]
    return Batch(np.concatenate([b.rows for b in batches]), names, np.concatenate([b.images for b in batches]))


def _take(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.rows[rows], batch.names[rows], batch.images[rows])
