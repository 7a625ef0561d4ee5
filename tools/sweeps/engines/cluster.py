"""Experiments on other machines: what Ray and Slurm have in common.

Each experiment is a task (worker.py) that some node runs. The scheduler decides where; the hub says what is done; data
go through DVC's remote.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from stages.autoencoder.core.errors import UserError
from tools.sweeps.engines import worker
from tools.sweeps.engines.engine import State, list_done
from tools.sweeps.engines.hub import Hub
from tools.sweeps.engines.storage import Storage
from tools.sweeps.engines.worker import Outcome, Task
from tools.workspace.commands import git

MAX_MOVES = 5  # of an experiment to another node, because one is unfit
HUB_PATIENCE = 300.0  # seconds in which a hub that can't be read may come back
LOCK, RECORD = Path("dvc.lock"), Path("environment.json")
Pause = Callable[[float], None]  # waits for so many seconds; raises KeyboardInterrupt when the sweep is to stop


class Scheduler(Protocol):
    """Runs tasks on nodes."""

    def check(self, task: str, pause: Pause) -> list[Outcome]:
        """Run a task without an experiment on every node that can be told. Raises UserError where none would do."""

    def submit(self, name: str, task: str, avoid: Collection[str]) -> None:
        """Have some node, none of those in `avoid`, run a task (JSON)."""

    def poll(self) -> dict[str, str]:
        """{name: Outcome as JSON, or a line that says what happened instead} of what has ended since the last call."""

    def unfinished(self) -> set[str]:
        """Names of all that was submitted and has not ended."""

    def cancel(self, names: Iterable[str]) -> None:
        """End these, running or not."""

    def close(self) -> None:
        """Leave the cluster."""


class ClusterEngine:
    """Runs experiments that start from a commit on the nodes of a cluster."""

    worker_log = "the logs of the cluster"

    def __init__(self, scheduler: Scheduler, hub: Hub, storage: Storage, scratch: str) -> None:
        """scratch: the folder for clones on each node; "": below that for temporary files."""
        self.scheduler, self.hub, self.storage, self.scratch = scheduler, hub, storage, scratch
        self._task: Task | None = None
        self._submitted: dict[str, str] = {}  # {name: task}
        self._moves: defaultdict[str, int] = defaultdict(int)
        self._unfit: set[str] = set()  # nodes
        self._logs: dict[str, list[str]] = {}
        self._arriving: set[str] = set()  # done, but not fetched yet
        self._unread_since: float | None = None  # since when the hub can't be read

    def read_state(self) -> State:
        """The state now. Fetches what has become done. Before `prepare`, no job of an earlier start counts."""
        first = self._task is None
        for name, answer in self.scheduler.poll().items():
            self._take_outcome(name, parse_outcome(answer))
        if self._arriving or first:
            self._fetch()
        done = list_done(self.hub.commit)
        pending = set() if first else (self.scheduler.unfinished() | self._arriving) - done.keys()
        return State(done, dict.fromkeys(pending), {})

    def list_unrelated(self, names: Iterable[str]) -> list[str]:
        """None: each sweep is a job of its own."""
        return []

    def check(self) -> None:
        """Publish the commit, write to the remote. Raises UserError where this machine may not."""
        self.hub.publish()
        self.storage.check()

    def prepare(self, shared: Sequence[str], pause: Pause) -> None:
        """Push the shared outputs, and have every node fetch them. Raises UserError where no node is fit."""
        self.storage.push(shared)
        stages = [stage.addressing for stage in self.storage.repo.index.stages]
        self._task = Task(
            source=Path(worker.__file__).read_text(encoding="utf-8"),
            name="",
            overrides=[],
            message="",
            commit=self.hub.commit,
            base=self.hub.base,
            hub=self.hub.address,
            identity={key: _identity(key) for key in ("name", "email")},
            remote=self.storage.name,
            remote_config=self.storage.config,
            shared=list(shared),
            own=[stage for stage in stages if stage not in shared],
            lock=LOCK.read_text(encoding="utf-8") if LOCK.exists() else "",
            versions=_versions(),
            scratch=self.scratch,
        )
        outcomes = self.scheduler.check(json.dumps(self._task), pause)
        bad = [outcome for outcome in outcomes if outcome["reason"]]
        for outcome in bad:
            print(f"sweep: node {outcome['node']} is left out: {outcome['reason']}", flush=True)
            self._unfit.add(outcome["node"])
        if outcomes and len(bad) == len(outcomes):
            raise UserError(f"no node can run an experiment, for the reasons above; {len(bad)} were tried")

    def add(self, name: str, overrides: Iterable[str], message: str) -> None:
        """Submit one experiment."""
        if self._task is None:
            raise RuntimeError("prepare comes first")
        task = Task(**{**self._task, "name": name, "overrides": list(overrides), "message": message})
        self._submitted[name] = json.dumps(task)
        self.scheduler.submit(name, self._submitted[name], self._unfit)

    def tend(self, state: State) -> None:
        """Nothing: the scheduler starts what it was given."""

    def read_log(self, name: str, line_count: int) -> list[str]:
        """The last lines of what failed."""
        return self._logs.get(name, [])[-line_count:]

    def abandon(self, names: Collection[str]) -> None:
        """End what is left of these, as far as hub and cluster can still be reached."""
        with suppress(UserError):
            self.stop(names)

    def stop(self, names: Collection[str]) -> str:
        """End what is left of these. Returns how many, in a line."""
        left = self.scheduler.unfinished() & set(names)
        self.scheduler.cancel(left)
        self._leave()
        return f"interrupted; {len(left)} not finished (cancelled)"

    def finish(self, names: Collection[str], failed: Iterable[str]) -> None:
        """Leave the cluster."""
        self._leave()

    def _leave(self) -> None:
        self.scheduler.close()
        self.hub.withdraw()

    def _take_outcome(self, name: str, outcome: Outcome) -> None:
        """Note what became of an experiment, and move it where its node was to blame."""
        if not outcome["reason"]:
            self._arriving.add(name)
        elif outcome["unfit"] and name in self._submitted and self._moves[name] < MAX_MOVES:
            self._moves[name] += 1
            self._unfit.add(outcome["node"])
            print(f"sweep: {name} moves from node {outcome['node']}: {outcome['reason']}", flush=True)
            self.scheduler.submit(name, self._submitted[name], self._unfit)
        else:
            self._logs[name] = outcome["log"] or [outcome["reason"]]

    def _fetch(self) -> None:
        """Get what is done from the hub, which may be out of reach for a while."""
        try:
            self.hub.fetch()
        except UserError:
            now = time.monotonic()
            self._unread_since = self._unread_since or now
            if self._task is None or now - self._unread_since > HUB_PATIENCE:
                raise
            return
        self._unread_since = None
        missing = self._arriving - list_done(self.hub.commit).keys()
        self._logs |= {name: ["it said that it is done, and the hub does not have it"] for name in missing}
        self._arriving.clear()


def make_launcher() -> Callable[[str], str]:
    """A function that runs a task in a process of its own on a node: a Task as JSON -> its Outcome as JSON.

    Engines send it by value, since no node can import this module.
    """

    def launch(task: str) -> str:
        import json
        import subprocess
        import sys

        command = [sys.executable, "-c", json.loads(task)["source"]]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdin  # noqa: S101  for the type checker
            assert process.stdout  # noqa: S101
            process.stdin.write(f"{task}\n")
            process.stdin.flush()  # and stays open: the worker ends when this process does
            output = process.stdout.read()
        return output or f"the worker ended with status {process.returncode}"

    return launch


def parse_outcome(answer: str) -> Outcome:
    """What a node printed; anything but an outcome is the reason why there is none."""
    last = (answer.strip().splitlines() or ["it ended without a word"])[-1]
    try:
        outcome: Outcome = json.loads(last)
        return Outcome(**{key: outcome[key] for key in Outcome.__annotations__})  # type: ignore[literal-required, typeddict-item]
    except (ValueError, TypeError, KeyError):
        return Outcome(reason=last, unfit=False, node="", log=[])


def _versions() -> dict[str, str]:
    """The versions here of Python, of DVC and of the packages that can affect results, which environment.json lists."""
    names = ["dvc"]
    if RECORD.exists():
        names += json.loads(RECORD.read_text(encoding="utf-8"))["packages"]
    return {"python": worker.python_version()} | {name: version(name) for name in names}


def _identity(key: str) -> str:
    """The user's name or email in git."""
    text = git("var", "GIT_AUTHOR_IDENT").strip()
    name, _, rest = text.partition(" <")
    return name if key == "name" else rest.partition(">")[0]
