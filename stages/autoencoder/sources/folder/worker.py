"""`python -m stages.autoencoder.sources.folder.worker`: a process of pool.py that decodes images until stdin ends.

In: a line of JSON, the Task, then a line for each list of jobs. Out: for each job a header (HEADER) and the pixels,
or the reason of a refusal in UTF-8. A process of its own, not one of multiprocessing's: those import the main module
again, and unpack what they get with code of its sender's choice. It ends when its parent does.
"""

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Iterable
from itertools import chain, takewhile
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.sources.folder.decoding import RefusedImageError, decode, decode_mask

HEADER = struct.Struct("<BI")  # PIXELS or REFUSED, number of bytes that follow
PIXELS, REFUSED = 0, 1
PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
Job = tuple[str, ...]  # paths below the folder: of an image; of a mask and its image


class Task(NamedTuple):
    """What is the same for all jobs."""

    folder: str
    fitting: Fitting
    seconds: float = 60  # of CPU time for one image; the largest honest ones take a few


def run_job(task: Task, job: Job) -> np.ndarray:
    """One image uint8 (C, H, W), or one mask uint8 (H, W). Raises RefusedImageError with the reason."""
    folder = Path(task.folder)
    if len(job) == 2:
        return decode_mask(folder / job[0], folder / job[1], task.fitting)
    return decode(folder / job[0], task.fitting)


def main() -> None:
    end_with_parent()
    answers, sys.stderr = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(2), "w")
    for descriptor in (1, 2):  # libtiff prints what it meets: neither between the answers nor to the user
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    # a line without its end is that of a parent that was killed
    lines = map(json.loads, takewhile(lambda line: line.endswith(b"\n"), sys.stdin.buffer))
    if first := next(lines, None):
        folder, fitting, seconds = first
        decode_jobs(lines, Task(folder, Fitting(**fitting), seconds), answers)


def decode_jobs(lists: Iterable[list[Job]], task: Task, answers: BinaryIO) -> None:
    """Write the answer to each job as soon as it is there."""
    for job in chain.from_iterable(lists):
        if hasattr(signal, "setitimer"):  # then SIGPROF ends this process, even inside a decoder
            signal.setitimer(signal.ITIMER_PROF, task.seconds)
        try:
            kind, content = PIXELS, run_job(task, tuple(job)).tobytes()
        except RefusedImageError as refusal:
            kind, content = REFUSED, str(refusal).encode("utf-8", "backslashreplace")
        try:
            answers.write(HEADER.pack(kind, len(content)) + content)
            answers.flush()
        except BrokenPipeError:  # the parent was killed: nobody reads a traceback, nor what is still in the buffer
            os._exit(1)


def end_with_parent() -> None:
    """Have Linux kill this process when its parent ends. Elsewhere it ends after the image at hand, as stdin does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
