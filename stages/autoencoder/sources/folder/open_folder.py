"""A folder of images -> a Dataset: the layout is recognised now, the images are decoded when their pieces are read."""

import logging
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.download import Download
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.params.folder_presence import check_folder, next_step
from stages.autoencoder.sources.dataset import Dataset, Masks
from stages.autoencoder.sources.folder import pool
from stages.autoencoder.sources.folder.decoding import RefusedImageError, read_size
from stages.autoencoder.sources.folder.layout import Layout, recognise
from stages.autoencoder.sources.folder.walk import IMAGE_ENDINGS, path_bytes, shorten, to_line, to_text, walk
from stages.autoencoder.sources.folder.worker import Job, Task

LISTED = 20  # refused images that are named in the log
MAX_SIDE = 4096  # pixels, the largest of download.size
log = logging.getLogger(__name__)
Refusals = Sequence[tuple[str, str]]  # path, reason


def open_folder(params: Download) -> Dataset:
    """The images below download.folder, in the order of their paths' bytes.

    Raises UserError if the folder is absent or empty or fits no layout; and, once its pieces are read, if any image
    is refused: all of them are tried first, and the log names the first 20.
    """
    check_folder(params.folder)
    place = shorten(to_line(params.folder))
    listing = walk(Path(params.folder))
    if listing.passed_over:
        log.info("%s: passed over %s", place, _describe_counts(listing.passed_over))
    if not listing.images:
        if listing.refused:
            _report(params.folder, listing.refused, len(listing.refused), len(listing.refused))
        _refuse_empty(params.folder, place, listing.passed_over)
    layout = recognise(place, listing.images)
    _log_layout(place, layout)
    height, width = params.size or _read_first_size(params.folder, layout.paths)
    fitting = Fitting((height, width), params.fit, params.colour, params.background, exact=params.size is None)
    task = Task(params.folder, fitting)
    shape = fitting.shape
    return Dataset(
        shape,
        _decode(((path,) for path in layout.paths), len(layout.paths), task, shape, listing.refused),
        layout.labels,
        layout.class_names,
        layout.parts,
        names=_to_names(layout.paths),
        normal_classes=layout.normal_classes,
        masks=_open_masks(layout, task, shape) if layout.mask_rows else None,
        fitting=fitting,
    )


def _open_masks(layout: Layout, task: Task, shape: tuple[int, int, int]) -> Masks:
    images = (layout.paths[row] for row in layout.mask_rows)
    jobs = zip(layout.mask_paths, images, strict=True)
    pieces = _decode(jobs, len(layout.mask_rows), task, shape[1:], (), "mask")
    return Masks(np.array(layout.mask_rows, np.int64), pieces)


def _decode(
    jobs: Iterable[Job], total: int, task: Task, shape: tuple[int, ...], refused: Refusals, unit: str = "image"
) -> Iterator[np.ndarray]:
    """The results of all jobs, uint8 (n, *shape), in their order; none after a refusal.

    refused: what was refused before. Raises UserError at the end if anything was refused.
    """
    listed, count = list(refused), len(refused)
    try:
        for chunk, results in pool.run(jobs, total, task, shape, unit):
            reasons = [(job[0], result) for job, result in zip(chunk, results, strict=True) if isinstance(result, str)]
            listed += reasons[: max(0, LISTED + len(refused) - len(listed))]
            count += len(reasons)
            if not count:
                yield np.stack([result for result in results if not isinstance(result, str)])
    except pool.WorkerEndedError as error:
        place = shorten(to_line(f"{task.folder}/{error.path}"))
        if hasattr(signal, "SIGPROF") and error.status == -signal.SIGPROF:
            raise UserError(
                f"{place}: must take at most {task.seconds:g} s of CPU time to decode; remove it, then run again"
            ) from None
        raise UserError(
            f"{place}: the process that decoded it ended by {error.cause}, for instance because memory was full; close"
            " other programs or remove this image, then run again"
        ) from None
    if count:
        _report(task.folder, listed, count, total + len(refused), task.fitting.exact)


def _report(folder: str, refused: Refusals, count: int, total: int, exact: bool = False) -> NoReturn:
    """Log the first refused images in the order of their paths. Raises UserError.

    count: of all refused ones. exact: download.size is null.
    """
    for path, reason in sorted(refused, key=lambda refusal: path_bytes(refusal[0]))[:LISTED]:
        log.info("%s: %s", to_line(f"{folder}/{path}"), to_line(reason))
    listed = "listed above" if count <= LISTED else f"the first {LISTED} are listed above"
    size = ", or set download.size if they only differ in size" if exact else ""
    raise UserError(
        f"{shorten(to_line(folder))}: every image must be readable; {count:,} of {total:,} are not, {listed};"
        f" repair or remove them{size}, then run again"
    )


def _refuse_empty(folder: str, place: str, passed_over: Counter[str]) -> NoReturn:
    """Raises UserError for a folder in which nothing has the ending of an image."""
    got = _describe_counts(passed_over) or "an empty folder"
    step = next_step(folder) or "put your images there, or set download.folder to their folder"
    raise UserError(f"{place}: must hold images ({', '.join(sorted(IMAGE_ENDINGS))}); got {got}; {step}")


def _log_layout(place: str, layout: Layout) -> None:
    count = len(layout.class_names)
    classes = f"{count:,} {'class' if count == 1 else 'classes'}" if count else "no classes"
    masks = f", {len(layout.mask_rows):,} masks" if layout.mask_rows else ""
    log.info("%s: %s; %s images, %s%s", place, layout.description, f"{len(layout.paths):,}", classes, masks)


def _describe_counts(passed_over: Counter[str]) -> str:
    return ", ".join(f"{kind}: {count:,}" for kind, count in sorted(passed_over.items()))


def _read_first_size(folder: str, paths: Sequence[str]) -> list[int]:
    """Height and width of the first image that can be read; [1, 1] if there is none, so that all are refused.

    Raises UserError if it is too large for a model.
    """
    for path in paths:
        try:
            width, height = read_size(Path(folder, path))
        except RefusedImageError:
            continue
        if max(width, height) > MAX_SIDE:
            place = shorten(to_line(f"{folder}/{path}"))
            raise UserError(
                f"{place}: must have at most {MAX_SIDE} pixels a side where download.size is null; got"
                f" {width} x {height}; set download.size, [height, width]"
            )
        return [height, width]
    return [1, 1]


def _to_names(paths: Sequence[str]) -> Sequence[str]:
    """The paths as valid Unicode; the same object if they are, which is nearly always."""
    valid = all(path.isascii() or to_text(path) == path for path in paths)
    return paths if valid else [to_text(path) for path in paths]
