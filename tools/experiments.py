"""DVC's experiment queue as a sweep needs it: what is queued, running and done, by whom, and why one failed.

DVC's own queue and workers do the work; this asks them and tidies up after workers that were killed. What
counts as done is decided by git alone: an experiment whose reference exists. DVC's list of successes also
holds those whose result it could not collect.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.experiments.executor.base import ExecutorInfo
from dvc.repo.experiments.queue.base import QueueEntry
from dvc.repo.experiments.queue.exceptions import CannotKillTasksError
from dvc.repo.experiments.refs import ExpRefInfo

from stages.autoencoder.errors import UserError
from tools import ENVIRONMENT

START_AGAIN = 15  # seconds that a worker gets to appear before others are started
DOUBT = 3  # seconds after which an experiment that looks dead counts as dead
SETTLE = 10  # seconds that a worker gets to end its last task
STARTS = 4  # times that workers are started without one appearing


@dataclass(frozen=True)
class State:
    """The experiments of one commit, by name: done {name: commit}, running and queued {name: entry}."""

    done: Mapping[str, str]
    running: Mapping[str, QueueEntry]
    queued: Mapping[str, QueueEntry]

    def __contains__(self, name: str) -> bool:
        return name in self.done or name in self.running or name in self.queued


def git(*arguments: str) -> str:
    """What a git command prints. Raises UserError with the last line of its complaint. Ctrl-C does not reach it."""
    command = ["git", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"git {arguments[0]}: {complaint[-1]}")
    return done.stdout


class Queue:
    """The queue of one DVC repository, for experiments on top of the commit `baseline`."""

    def __init__(self, repo: Repo, baseline: str, environment: Mapping[str, str]) -> None:
        self.repo, self.baseline, self.environment = repo, baseline, environment
        self.celery = repo.experiments.celery_queue
        self.latest: dict[str, QueueEntry] = {}  # the last entry seen of each name, for its log
        self._started, self._starts = -START_AGAIN, 0
        self._doubtful: dict[str, float] = {}  # since when which experiments look dead

    def look(self) -> State:
        """Queued first, done last: an experiment that moves on meanwhile is seen at least once."""
        queued = {entry.name: entry for entry in self.celery.iter_queued() if entry.baseline_rev == self.baseline}
        running = {entry.name: entry for entry in self.celery.iter_active() if entry.baseline_rev == self.baseline}
        self.latest |= queued | running
        return State(self.done(), running, queued)

    def done(self) -> dict[str, str]:
        """{name: commit} of the finished experiments."""
        base = str(ExpRefInfo(self.baseline))
        lines = git("for-each-ref", "--format=%(refname) %(objectname)", base).splitlines()
        return {name.removeprefix(f"{base}/"): commit for name, commit in map(str.split, lines)}

    def others(self, names: Iterable[str]) -> list[str]:
        """Names of queued and of really running experiments that are not among `names` of this commit."""
        ours = set(names)
        active = list(self.celery.iter_active())
        dead = self._orphans(active)
        waiting = [*self.celery.iter_queued(), *(entry for entry in active if entry not in dead)]
        found = [e for e in waiting if e.name not in ours or e.baseline_rev != self.baseline]
        return [entry.name or entry.stash_rev[:7] for entry in found]

    def put(self, name: str, overrides: Iterable[str], message: str) -> None:
        """Queue one experiment of the workspace with `overrides`."""
        for patience in range(10, -1, -1):
            try:
                with redirect_stdout(StringIO()):
                    self.repo.experiments.run(queue=True, params=list(overrides), name=name, message=message)
                return
            except LockError:  # a worker collects a result
                if not patience:
                    raise
                time.sleep(1)

    def staff(self, count: int) -> None:
        """See to it that `count` workers live. Raises UserError where none appears again and again."""
        alive = len(self._processes()[0])
        if alive:
            self._starts = 0
        if alive >= count or time.monotonic() - self._started < START_AGAIN:
            return
        if self._starts == STARTS:
            raise UserError(f"no worker of the queue stays alive; see {self.celery.wdir}/dvc-exp-worker-1.out")
        if not alive:
            self.celery.celery.clean()  # a shutdown meant for a worker that was killed would stop its successor
        self._started, self._starts = time.monotonic(), self._starts + 1
        with tempfile.TemporaryFile("w+") as output:  # not a pipe, which would stay open as long as the workers live
            done = subprocess.run(
                ["dvc", "queue", "start", "--jobs", str(count)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                start_new_session=True,  # Ctrl-C is for the sweep, which ends the workers in its own way
            )
            output.seek(0)
            if done.returncode:
                raise UserError(f"dvc queue start: {(output.read().strip() or 'failed').splitlines()[-1]}")

    def bury_dead(self) -> None:
        """Take running experiments whose worker was killed out of the queue, with what is left of them.

        Dead is what looks dead for some seconds: a worker may just be between two steps.
        """
        active = [entry for entry in self.celery.iter_active() if entry.baseline_rev == self.baseline]
        dead, now = self._orphans(active), time.monotonic()
        self._doubtful = {entry.stash_rev: self._doubtful.get(entry.stash_rev, now) for entry in dead}
        for entry in dead:
            if now - self._doubtful[entry.stash_rev] >= DOUBT:
                self._bury(entry)

    def withdraw(self, names: Iterable[str]) -> int:
        """Take experiments that were not started out of the queue; how many there were."""
        queued = self.look().queued
        entries = [queued[name] for name in names if name in queued]
        for entry in entries:
            with suppress(DvcException, ValueError):  # a worker was quicker
                self.celery.remove([entry.stash_rev])
        return len(entries)

    def forget(self, names: Collection[str], kept: Iterable[str] = ()) -> None:
        """Remove finished tasks called `names` from DVC's list, except the latest one of each of `kept`.

        Their results are in git and the cache; the list only makes `dvc exp show` wider.
        """
        end = time.monotonic() + SETTLE
        while time.monotonic() < end and any(name in names for name in self.look().running):
            time.sleep(0.1)  # the result is there, the worker still tidies up
        last = {self.latest[name].stash_rev for name in kept if name in self.latest}
        revs = [
            entry.stash_rev
            for entry, _ in self.celery.iter_done()
            if entry.name in names and entry.baseline_rev == self.baseline and entry.stash_rev not in last
        ]
        if revs:
            self.celery.remove(revs)

    def dismiss(self) -> None:
        """Let the workers end when they have finished what they are at."""
        self.celery.shutdown()

    def log(self, name: str, lines: int) -> list[str]:
        """The last lines of an experiment's log; none where it did not get that far."""
        entry = self.latest.get(name)
        process = self.celery.proc.get(entry.stash_rev) if entry else None
        if process is None or not process.stdout:
            return []
        with suppress(OSError):
            text = Path(process.stdout).read_text(encoding="utf-8", errors="replace")
            return [line for line in text.splitlines() if line.strip()][-lines:]
        return []

    def _processes(self) -> tuple[set[int], dict[str, psutil.Process]]:
        """The living workers of this queue; the process that runs an experiment, by the experiment's stash commit."""
        mark = f"dvc-exp-{hashlib.sha256(self.celery.wdir.encode()).hexdigest()[:6]}-"  # as DVC names them
        workers, runs = set(), {}
        for process in psutil.process_iter(["cmdline", "ppid"]):
            line = process.info["cmdline"] or []
            if "queue-worker" in line and any(word.startswith(mark) for word in line):
                workers.add(process.pid)
            elif "exec-run" in line and "--infofile" in line[:-1]:
                runs[Path(line[line.index("--infofile") + 1]).stem] = process
        return workers, runs

    def _orphans(self, active: list[QueueEntry]) -> list[QueueEntry]:
        """Those of the `active` entries (listed before this call) that no living worker can be at."""
        workers, runs = self._processes()
        parents = {rev: process.info["ppid"] for rev, process in runs.items()}
        free = workers - set(parents.values())  # these prepare or collect an experiment, or wait for one

        def is_orphan(rev: str) -> bool:
            if rev in parents:
                return parents[rev] not in workers
            process = self.celery.proc.get(rev)
            ended_alone = process is not None and process.returncode is None  # no worker noted how it ended
            return ended_alone or not free

        return [entry for entry in active if is_orphan(entry.stash_rev)]

    def _bury(self, entry: QueueEntry) -> None:
        rev = entry.stash_rev
        if process := self._processes()[1].get(rev):
            _kill(process)
        if (info := self.celery.proc.get(rev)) and info.returncode is None:
            info.returncode = -9
            self.celery.proc[rev] = info
        with redirect_stdout(StringIO()), suppress(DvcException):
            try:
                self.celery.kill([rev], force=True)  # nothing is left to kill: DVC notes the failure
            except CannotKillTasksError:  # DVC hears of a worker that has it
                return
            self.celery.remove([rev])
        with suppress(OSError, ValueError, TypeError):
            shutil.rmtree(ExecutorInfo.load_json(self.celery.get_infofile_path(rev)).root_dir)


def _kill(process: psutil.Process) -> None:
    """Kill a process and all that it started."""
    with suppress(psutil.NoSuchProcess):
        family = [*process.children(recursive=True), process]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=5)


def environment() -> dict[str, str]:
    """The environment for DVC's workers. They call the bare words `dvc` and `python`: PATH begins with this Python's.

    Raises UserError where these words would find nothing, or another Python.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), ENVIRONMENT.get("PATH", os.defpath)])
    for word in ("dvc", "python"):
        if not shutil.which(word, path=path):
            raise UserError(f"{word} is not on PATH, and DVC's workers call it by that name; . .venv/bin/activate")
    python = shutil.which("python", path=path)
    found = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if found != sys.prefix:
        raise UserError(f"python on PATH is {python}, not {sys.executable}, which runs this; . .venv/bin/activate")
    return {**ENVIRONMENT, "PATH": path}
