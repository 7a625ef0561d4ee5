"""Watching an engine until each experiment of a grid is done, or has failed for good."""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import FrameType

from tqdm import tqdm

from tools.sweeps.engines.engine import Engine
from tools.sweeps.engines.worker import find_reason
from tools.sweeps.grid import Combination

MAX_ATTEMPTS = 2  # to run an experiment: DVC's parallel workers can disturb each other (issue 10673)
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.5, 5  # between two looks at the queue, which take 30 ms of a core each
LOG_LINES = 15  # shown of a failed experiment's log


class StopSignal:
    """Records SIGINT and SIGTERM instead of ending at once, so that no step of the queue is interrupted."""

    def __init__(self) -> None:
        self.received = threading.Event()

    def __enter__(self) -> "StopSignal":
        self._handlers = {
            number: signal.signal(number, self._set_received) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _set_received(self, _number: int, _frame: FrameType | None) -> None:
        self.received.set()

    def check(self, seconds: float = 0) -> None:
        """Wait for `seconds`. Raises KeyboardInterrupt as soon as a signal has come."""
        if self.received.wait(seconds):
            raise KeyboardInterrupt


class Progress:
    """The progress of a sweep: a bar on a terminal, otherwise a line for each finished experiment."""

    def __init__(self, total: int, done_before: int) -> None:
        self.total, self.done_before, self.ended, self.start = total, done_before, done_before, time.monotonic()
        self.bar = tqdm(total=total, initial=done_before, unit="experiment", disable=not sys.stderr.isatty())
        if done_before:
            self.print_line(f"{done_before} of {total} were done before")

    def report_end(self, name: str, outcome: str) -> None:
        """Count an experiment that is done or has failed."""
        self.ended += 1
        self.bar.update()
        elapsed = time.monotonic() - self.start
        left = elapsed / (self.ended - self.done_before) * (self.total - self.ended)
        self.print_line(
            f"{self.ended}/{self.total} {name} {outcome} after {elapsed:.0f} s, about {_format_time(left)} left"
        )

    def show_running(self, count: int) -> None:
        """Show how many experiments are running."""
        self.bar.set_description_str(f"{count} running")

    def print_line(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if self.bar.disable:
            print(f"sweep: {text}", flush=True)
        else:
            self.bar.write(text)


def supervise(engine: Engine, grid: Sequence[Combination], sweep: str, stop: StopSignal) -> dict[str, str]:
    """Queue what is missing, and watch until each experiment is done or has failed MAX_ATTEMPTS times.

    sweep: its name. Returns {name: reason} of those that failed.
    """
    pending = {combination.name: combination for combination in grid}
    attempts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    state = engine.read_state()
    progress = Progress(len(grid), sum(name in state.done for name in pending))
    pending = {name: combination for name, combination in pending.items() if name not in state.done}
    with progress.bar:
        while True:
            state = engine.read_state()
            for name in list(pending):
                stop.check()
                if name in state.done:
                    del pending[name]
                    progress.report_end(name, "done")
                elif name in state:
                    attempts[name] = attempts[name] or 1
                elif attempts[name] < MAX_ATTEMPTS:
                    if attempts[name]:
                        progress.print_line(f"{name} failed and is run once more")
                    attempts[name] += 1
                    overrides = pending[name].overrides
                    engine.add(name, overrides, f"sweep {sweep}: {' '.join(overrides)}")
                else:
                    del pending[name]
                    failed[name] = _explain_failure(engine, name)
                    progress.report_end(name, "failed")
            if not pending:
                return failed
            progress.show_running(len(state.running))
            engine.tend(state)
            stop.check(min(MAX_POLL_SECONDS, max(MIN_POLL_SECONDS, (time.monotonic() - progress.start) / 60)))


def print_log(lines: Iterable[str]) -> None:
    """Print the last lines of a log, indented."""
    for line in list(lines)[-LOG_LINES:]:
        print(f"    {line.rstrip()}", flush=True)


def _explain_failure(engine: Engine, name: str) -> str:
    """Print the end of a failed experiment's log. Returns the line that says why it failed."""
    lines = engine.read_log(name, LOG_LINES)
    if not lines:
        return f"did not start or was killed; see {engine.worker_log}"
    print(f"the end of the log of {name}:")
    print_log(lines)
    return find_reason(lines)


def _format_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
