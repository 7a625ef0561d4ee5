"""The images of a folder decoded in this process, where their time and memory are measured, not in others."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stages.autoencoder.sources.folder import worker
from stages.autoencoder.sources.folder.decoding import RefusedImageError
from stages.autoencoder.sources.folder.pool import Result
from stages.autoencoder.sources.folder.worker import Job, Task


def run(
    jobs: Iterable[Job], total: int, task: Task, shape: tuple[int, ...], unit: str = "image"
) -> Iterator[tuple[list[Job], list[Result]]]:
    """What pool.run gives, one job at a time."""
    for job in jobs:
        try:
            with nothing_printed():
                result: Result = worker.run_job(task, job)
        except RefusedImageError as refusal:
            result = str(refusal)
        yield [job], [result]


@contextmanager
def nothing_printed() -> Iterator[None]:
    """Without what libtiff prints, as in the processes of the pool."""
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)
