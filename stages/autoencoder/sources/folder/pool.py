"""Decode many images on all cores: results in the order of the jobs, memory that does not grow with their number.

Even a few images are decoded by another process: a file that crashes a decoder costs that process alone.
"""

import json
import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from tqdm import tqdm

from stages.autoencoder.sources.folder import worker
from stages.autoencoder.sources.folder.worker import HEADER, PIXELS, Job, Task

ROOT = Path(__file__).resolve().parents[4]  # where `stages` can be imported
MAX_CHUNK = 32  # images sent to a process at a time
CHUNK_BYTES = 2**20  # of their pixels; fewer images where they are large
Result = np.ndarray | str  # pixels, or the reason of a refusal


class WorkerEndedError(Exception):
    """A process ended before its work did; `cause` says how."""

    def __init__(self, job: Job, status: int) -> None:
        """status: as subprocess gives it, below 0 for a signal."""
        super().__init__(job, status)
        self.path, self.status = job[0], status
        self.cause = f"signal {-status}" if status < 0 else f"exit status {status}"


class Worker:
    """A process that decodes, seen from here."""

    def __init__(self, task: Task, shape: tuple[int, ...]) -> None:
        """shape: of each result. Starts the process."""
        self._shape = shape
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        # in a session of its own: Ctrl-C reaches the parent alone, which then ends it without a traceback
        self._process = subprocess.Popen(  # noqa: S603  this Python, a module of ours
            [sys.executable, "-m", worker.__name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
        self._first_line = json.dumps([task.folder, asdict(task.fitting), task.seconds]) + "\n"

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """The results of these jobs. Raises WorkerEndedError if the process ends meanwhile."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise ValueError("the process must have pipes")
        results: list[Result] = []
        try:
            requests.write((self._first_line + json.dumps(jobs) + "\n").encode())
            requests.flush()
            self._first_line = ""
            for _ in jobs:
                kind, length = HEADER.unpack(_read(answers.fileno(), HEADER.size))
                content = _read(answers.fileno(), length)
                pixels = kind == PIXELS
                results.append(np.frombuffer(content, np.uint8).reshape(self._shape) if pixels else content.decode())
        except (OSError, EOFError):
            raise WorkerEndedError(jobs[len(results)], self._process.wait()) from None
        return results

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # what could not be written any more
                    continue


def run(
    jobs: Iterable[Job], total: int, task: Task, shape: tuple[int, ...], unit: str | None = "image"
) -> Iterator[tuple[Sequence[Job], list[Result]]]:
    """Chunks of the jobs with their results, in the order of the jobs.

    total: number of jobs. shape: of each result, (C, H, W) of images, (H, W) of masks. unit: of the progress bar, which
    a terminal shows; None: no bar. Raises WorkerEndedError for a process that was killed or crashed.
    """
    length = max(1, min(MAX_CHUNK, CHUNK_BYTES // math.prod(shape)))
    rest = iter(jobs)
    chunks: Iterator[Sequence[Job]] = iter(lambda: list(islice(rest, length)), [])
    workers = min(count_cores(), -(-total // length))
    hidden = unit is None or not sys.stderr.isatty()
    with tqdm(total=total, unit=unit or "", disable=hidden, mininterval=0.5) as bar:
        for chunk, results in _run_in_processes(chunks, task, shape, workers):
            yield chunk, results
            bar.update(len(results))


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_in_processes(
    chunks: Iterator[Sequence[Job]], task: Task, shape: tuple[int, ...], count: int
) -> Iterator[tuple[Sequence[Job], list[Result]]]:
    idle: SimpleQueue[Worker] = SimpleQueue()
    started: list[Worker] = []

    def run_chunk(chunk: Sequence[Job]) -> list[Result]:
        free = idle.get()
        try:
            return free.run(chunk)
        finally:
            idle.put(free)

    try:
        with ThreadPoolExecutor(count) as threads:  # each thread waits for one process
            try:
                for _ in range(count):  # by this thread: Linux ends a process with the thread that started it
                    started.append(Worker(task, shape))
                    idle.put(started[-1])
                # so many chunks at most are asked for or wait for their turn
                pending = deque((chunk, threads.submit(run_chunk, chunk)) for chunk in islice(chunks, 2 * count))
                while pending:
                    chunk, future = pending.popleft()
                    results = future.result()
                    pending.extend((chunk, threads.submit(run_chunk, chunk)) for chunk in islice(chunks, 1))
                    yield chunk, results
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for each in started:  # before the executor waits for its threads
                    each.end()
                raise
    finally:
        for each in started:
            each.end()


def _read(descriptor: int, length: int) -> bytes:
    """Exactly so many bytes. Raises EOFError if the pipe ends before."""
    parts = []
    while length:
        part = os.read(descriptor, min(length, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
