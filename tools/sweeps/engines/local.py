"""DVC's experiment queue as a sweep needs it: what is queued, running and done, its workers, why one failed.

DVC's own queue and workers do the work; this module asks them, and cleans up after workers that were killed. Git
alone decides what is done: an experiment is done if its reference exists. DVC's list of successes also holds
experiments whose results it could not collect.
"""

import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.experiments.executor.base import ExecutorInfo
from dvc.repo.experiments.queue.base import QueueEntry
from dvc.repo.experiments.queue.exceptions import CannotKillTasksError

from stages.autoencoder.core.errors import UserError
from tools.sweeps.engines.engine import State, list_done
from tools.workspace.commands import last_line

WORKER_START_SECONDS = 15  # until a worker that was started must have appeared
MAX_WORKER_STARTS = 4  # without any worker appearing
SECONDS_UNTIL_DEAD = 3  # an experiment must look dead for so long
TASK_END_SECONDS = 10  # that a worker gets to end its last task
LOCK_ATTEMPTS = 11  # to queue an experiment while a worker holds DVC's lock, one a second


class LocalEngine:
    """The queue of one DVC repository, for experiments that start from the commit `baseline`.

    environment: the environment variables of the workers. jobs: experiments at a time.
    """

    def __init__(self, repo: Repo, baseline: str, environment: Mapping[str, str], jobs: int) -> None:
        self.repo, self.baseline, self.environment, self.jobs = repo, baseline, environment, jobs
        self.celery = repo.experiments.celery_queue
        self.last_entries: dict[str, QueueEntry] = {}  # by name: the last entry seen, which leads to its log
        self._last_start, self._start_count = -float(WORKER_START_SECONDS), 0
        self._suspects: dict[str, float] = {}  # stash commit -> since when it looks dead

    @property
    def worker_log(self) -> str:
        """Where the first worker writes its own messages."""
        return f"{self.celery.wdir}/dvc-exp-worker-1.out"

    def read_state(self) -> State:
        """The state now. Reads what is queued first and what is done last, so that no moving experiment is missed."""
        queued = {entry.name: entry for entry in self.celery.iter_queued() if entry.baseline_rev == self.baseline}
        running = {entry.name: entry for entry in self.celery.iter_active() if entry.baseline_rev == self.baseline}
        self.last_entries |= queued | running
        return State(list_done(self.baseline), running, queued)

    def list_unrelated(self, names: Iterable[str]) -> list[str]:
        """Names of the queued and running experiments that are not among `names`, or start from another commit."""
        ours = set(names)
        active = list(self.celery.iter_active())
        orphans = self._find_orphans(active)
        pending = [*self.celery.iter_queued(), *(entry for entry in active if entry not in orphans)]
        unrelated = [entry for entry in pending if entry.name not in ours or entry.baseline_rev != self.baseline]
        return [entry.name or entry.stash_rev[:7] for entry in unrelated]

    def check(self) -> None:
        """Nothing: the workers share this checkout."""

    def prepare(self, shared: Sequence[str], pause: Callable[[float], None]) -> None:
        """Nothing: the workers share this checkout's cache."""

    def add(self, name: str, overrides: Iterable[str], message: str) -> None:
        """Queue one experiment: the workspace with `overrides`. `message` becomes that of its commit."""
        for attempts_left in reversed(range(LOCK_ATTEMPTS)):
            try:
                with redirect_stdout(StringIO()):
                    self.repo.experiments.run(queue=True, params=list(overrides), name=name, message=message)
                return
            except LockError:  # a worker is collecting a result
                if not attempts_left:
                    raise
                time.sleep(1)

    def tend(self, state: State) -> None:
        """Remove what died, and start workers for what is queued."""
        self.remove_dead()
        if state.queued:
            self.ensure_workers(min(self.jobs, len(state.running) + len(state.queued)))

    def ensure_workers(self, count: int) -> None:
        """Start workers if fewer than `count` are alive. Raises UserError if none appears after several starts."""
        alive = len(self._find_processes()[0])
        if alive:
            self._start_count = 0
        if alive >= count or time.monotonic() - self._last_start < WORKER_START_SECONDS:
            return
        if self._start_count == MAX_WORKER_STARTS:
            raise UserError(f"no worker of DVC's queue stays alive; see {self.worker_log}")
        if not alive:
            self.celery.celery.clean()  # a shutdown meant for a worker that was killed would stop its successor
        self._last_start, self._start_count = time.monotonic(), self._start_count + 1
        with tempfile.TemporaryFile("w+") as output:  # not a pipe, which would stay open as long as the workers live
            process = subprocess.run(
                ["dvc", "queue", "start", "--jobs", str(count)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                start_new_session=True,  # Ctrl-C is for the sweep, which stops the workers in its own way
            )
            output.seek(0)
            if process.returncode:
                raise UserError(f"dvc queue start: {last_line(output.read(), 'failed')}")

    def abandon(self, names: Collection[str]) -> None:
        """Remove what has not started; running ones end by themselves."""
        self.remove_queued(names)

    def stop(self, names: Collection[str]) -> str:
        """Remove what has not started, and let running ones end. Returns what is left, in a line."""
        removed = self.remove_queued(names)
        running = [name for name in self.read_state().running if name in names]
        self._stop_workers()
        remaining = f"interrupted; {removed} not started (removed from the queue)"
        if running:
            remaining += f", {len(running)} running to the end (dvc queue kill {' '.join(running)} stops them)"
        return remaining

    def finish(self, names: Collection[str], failed: Iterable[str]) -> None:
        """Remove the finished tasks from DVC's list, and let the workers end."""
        self.remove_finished(names, failed)
        self._stop_workers()

    def _stop_workers(self) -> None:
        """Ask the workers to end as soon as they have finished what they are doing."""
        self.celery.shutdown()

    def remove_dead(self) -> None:
        """Remove running experiments whose worker was killed, with their processes and folders.

        An experiment is dead if it looks dead for several seconds: its worker may just be between two steps.
        """
        active = [entry for entry in self.celery.iter_active() if entry.baseline_rev == self.baseline]
        orphans, now = self._find_orphans(active), time.monotonic()
        self._suspects = {entry.stash_rev: self._suspects.get(entry.stash_rev, now) for entry in orphans}
        for entry in orphans:
            if now - self._suspects[entry.stash_rev] >= SECONDS_UNTIL_DEAD:
                self._remove_orphan(entry)

    def remove_queued(self, names: Iterable[str]) -> int:
        """Remove experiments that have not started from the queue. Returns how many."""
        queued = self.read_state().queued
        entries = [queued[name] for name in names if name in queued]
        for entry in entries:
            with suppress(DvcException, ValueError):  # a worker has just taken it
                self.celery.remove([entry.stash_rev])
        return len(entries)

    def remove_finished(self, names: Collection[str], failed: Iterable[str] = ()) -> None:
        """Remove the finished tasks called `names` from DVC's list, except the last one of each in `failed`.

        Their results are in git and the cache; the list would only make `dvc exp show` wider.
        """
        deadline = time.monotonic() + TASK_END_SECONDS
        while time.monotonic() < deadline and any(name in names for name in self.read_state().running):
            time.sleep(0.1)  # the result is there, the worker still cleans up
        kept = {self.last_entries[name].stash_rev for name in failed if name in self.last_entries}
        revisions = [
            entry.stash_rev
            for entry, _ in self.celery.iter_done()
            if entry.name in names and entry.baseline_rev == self.baseline and entry.stash_rev not in kept
        ]
        if revisions:
            self.celery.remove(revisions)

    def read_log(self, name: str, line_count: int) -> list[str]:
        """The last lines of an experiment's log; empty if it wrote none."""
        entry = self.last_entries.get(name)
        process = self.celery.proc.get(entry.stash_rev) if entry else None
        if process is None or not process.stdout:
            return []
        with suppress(OSError):
            text = Path(process.stdout).read_text(encoding="utf-8", errors="replace")
            return [line for line in text.splitlines() if line.strip()][-line_count:]
        return []

    def _find_processes(self) -> tuple[set[int], dict[str, psutil.Process]]:
        """The living workers of this queue, and the process that runs each experiment, by the stash commit."""
        prefix = f"dvc-exp-{hashlib.sha256(self.celery.wdir.encode()).hexdigest()[:6]}-"  # of DVC's names of workers
        workers, executors = set(), {}
        for process in psutil.process_iter(["cmdline", "ppid"]):
            command = process.info["cmdline"] or []
            if "queue-worker" in command and any(word.startswith(prefix) for word in command):
                workers.add(process.pid)
            elif "exec-run" in command and "--infofile" in command[:-1]:
                executors[Path(command[command.index("--infofile") + 1]).stem] = process
        return workers, executors

    def _find_orphans(self, active: list[QueueEntry]) -> list[QueueEntry]:
        """Those of the `active` entries (listed before this call) on which no living worker can be working."""
        workers, executors = self._find_processes()
        parents = {revision: process.info["ppid"] for revision, process in executors.items()}
        free_workers = workers - set(parents.values())  # they prepare or collect an experiment, or wait for one

        def is_orphan(revision: str) -> bool:
            if revision in parents:
                return parents[revision] not in workers
            process = self.celery.proc.get(revision)
            ended_unnoticed = process is not None and process.returncode is None  # no worker recorded how it ended
            return ended_unnoticed or not free_workers

        return [entry for entry in active if is_orphan(entry.stash_rev)]

    def _remove_orphan(self, entry: QueueEntry) -> None:
        revision = entry.stash_rev
        if process := self._find_processes()[1].get(revision):
            _kill_tree(process)
        if (info := self.celery.proc.get(revision)) and info.returncode is None:
            info.returncode = -9
            self.celery.proc[revision] = info
        with redirect_stdout(StringIO()), suppress(DvcException):
            try:
                self.celery.kill([revision], force=True)  # nothing is left to kill: DVC records the failure
            except CannotKillTasksError:  # a worker has it after all
                return
            self.celery.remove([revision])
        with suppress(OSError, ValueError, TypeError):
            shutil.rmtree(ExecutorInfo.load_json(self.celery.get_infofile_path(revision)).root_dir)


def _kill_tree(process: psutil.Process) -> None:
    """Kill a process and all its descendants."""
    with suppress(psutil.NoSuchProcess):
        family = [*process.children(recursive=True), process]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=5)
