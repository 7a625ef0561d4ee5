"""`python -m tools.sweep latent_dim=2,4,8 seed=0,1 --jobs 2 --name NAME`: a grid of experiments, seen to its end.

Each combination becomes a DVC experiment with a readable name, run by DVC's own queue and workers; this checks
first, waits, tries a failed one once more and ends with the report (tools.report). The same command again goes
on with what is missing. How it works and what it leaves behind: docs/sweeps.md.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import filelock
import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML
from tqdm import tqdm

from stages.autoencoder.errors import UserError, run
from tools import combinations, experiments, report
from tools.combinations import Combination
from tools.experiments import Queue, git

TRIES = 2  # a failed experiment is queued once more: DVC's parallel workers can trip over each other (issue 10673)
POLL = 0.5, 5  # seconds between two looks at the queue, at first and after minutes: a look takes 30 ms of a core
LOG_LINES = 15  # of the log of what failed for good


def main() -> None:
    logging.getLogger("kombu").setLevel(logging.ERROR)  # it warns that the queue is a folder and has no host
    options = _options()
    head = _commit()
    environment = experiments.environment()
    grid = combinations.expand(options.parameters, options.name)
    good, bad = [c for c in grid if not c.problem], {c.name: c.problem for c in grid if c.problem}
    failed: dict[str, str] = {}
    try:
        if good:
            failed = _run(head, good, environment, options)
        if len(failed) < len(good):
            report.make(options.name, head, {combination.name for combination in good})
    except DvcException as error:
        raise UserError(f"dvc: {error}") from None
    failed |= bad
    if failed:
        print()
    for reason in dict.fromkeys(failed.values()):
        print(f"failed: {_some([name for name in failed if failed[name] == reason])}: {reason}", flush=True)
    if failed:
        raise UserError(f"sweep {options.name}: {len(failed)} of {len(grid)} failed, for the reasons above")


class Stop:
    """Notes SIGINT and SIGTERM instead of ending at once, so that no step of the queue is cut in two."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        self.asked.set()

    def check(self, seconds: float = 0) -> None:
        """Wait so long; raises KeyboardInterrupt as soon as a signal has come."""
        if self.asked.wait(seconds):
            raise KeyboardInterrupt


class Progress:
    """How far a sweep is: a bar on a terminal, a line for each finished experiment elsewhere."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.before, self.count, self.start = total, done, done, time.monotonic()
        self.bar = tqdm(total=total, initial=done, unit="experiment", disable=not sys.stderr.isatty())
        if done:
            self.say(f"{done} of {total} were done before")

    def finished(self, name: str, how: str) -> None:
        self.count += 1
        self.bar.update()
        elapsed = time.monotonic() - self.start
        left = elapsed / (self.count - self.before) * (self.total - self.count)
        self.say(f"{self.count}/{self.total} {name} {how} after {elapsed:.0f} s, about {_span(left)} left")

    def running(self, number: int) -> None:
        self.bar.set_description_str(f"{number} running")

    def say(self, text: str) -> None:
        if self.bar.disable:
            print(f"sweep: {text}", flush=True)
        else:
            self.bar.write(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.sweep", description="Run a grid of experiments.")
    parser.add_argument("parameters", nargs="+", metavar="KEY=VALUES", help="as after dvc exp run -S: seed=0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="experiments at a time (default 1)")
    parser.add_argument("--name", default="sweep", help="begins the experiments' names (default sweep)")
    options = parser.parse_args()
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1; got {options.jobs}")
    return options


def _commit() -> str:
    """The commit that the experiments start from. Raises UserError without one, or without a git identity."""
    try:
        head = git("rev-parse", "--verify", "--quiet", "HEAD").strip()
    except UserError:
        raise UserError("no git commit here to start experiments from; git add and git commit first") from None
    for key in ("name", "email"):
        if all(os.environ.get(f"GIT_{who}_{key.upper()}") for who in ("AUTHOR", "COMMITTER")):
            continue
        try:
            git("config", f"user.{key}")
        except UserError:
            raise UserError(f"git does not know your {key}; git config --global user.{key} ...") from None
    return head


def _run(
    head: str, grid: Sequence[Combination], environment: dict[str, str], options: argparse.Namespace
) -> dict[str, str]:
    """Run what is missing of the grid; {name: reason} of what failed. Leaves the queue sound however it ends."""
    names = [combination.name for combination in grid]
    with Repo() as repo, _alone(repo), Stop() as stop:
        queue = Queue(repo, head, environment)
        _check_workspace(repo)
        _check_queue(queue, grid)
        state = queue.look()
        if not all(name in state for name in names):
            _run_shared(repo, [text.partition("=")[0] for text in grid[0].overrides], environment, stop)
        try:
            failed = _supervise(queue, grid, options, stop)
        except KeyboardInterrupt:
            raise UserError(_interrupt(queue, names)) from None
        except BaseException:
            queue.withdraw(names)
            raise
        queue.forget(names, kept=failed)
        queue.dismiss()
    return failed


def _alone(repo: Repo) -> filelock.BaseFileLock:
    """The lock that only one sweep in a checkout can have. Raises UserError where another one has it."""
    lock = filelock.FileLock(Path(repo.tmp_dir) / "sweep.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise UserError("another sweep runs in this checkout; let it finish or stop it") from None
    return lock


def _interrupt(queue: Queue, names: Sequence[str]) -> str:
    """Take what was not started out of the queue and let the workers end; says what is left."""
    withdrawn = queue.withdraw(names)
    running = [name for name in queue.look().running if name in names]
    queue.dismiss()
    told = f"interrupted: {withdrawn} not yet started are out of the queue"
    if running:
        told += f"; {len(running)} running will finish (dvc queue kill {' '.join(running)} interrupts them)"
    return f"{told}; the same command goes on"


def _check_workspace(repo: Repo) -> None:
    """Refuse changes that experiments would take along unsaid, and files that they would not see."""
    written = [Path(out.fs_path).relative_to(repo.root_dir) for out in repo.index.outs] + [Path("dvc.lock")]
    changed = [
        path
        for path in git("diff", "--name-only", "-z", "HEAD").split("\0")[:-1]
        if not any(Path(path).is_relative_to(out) for out in written)
    ]
    if changed:
        raise UserError(f"{_some(changed)}: changed since the last commit; commit first, experiments start from it")
    needed = [Path(dep.fs_path).relative_to(repo.root_dir) for dep in repo.index.deps]
    unknown = [
        path
        for path in git("ls-files", "--others", "--exclude-standard", "-z").split("\0")[:-1]
        if any(Path(path).is_relative_to(dep) for dep in needed)
    ]
    if unknown:
        raise UserError(f"{_some(unknown)}: not in git, and experiments see nothing else; git add and commit first")


def _check_queue(queue: Queue, grid: Sequence[Combination]) -> None:
    """Refuse to start somebody else's experiments, and to take other experiments for ours."""
    others = queue.others(combination.name for combination in grid)
    if others:
        raise UserError(
            f"the queue holds {_some(others)}, not of this sweep; dvc queue start or dvc queue remove first"
        )
    done, yaml = queue.done(), YAML(typ="safe", pure=True)
    for combination in grid:
        name = combination.name
        if name in done and yaml.load(git("show", f"{done[name]}:params.yaml")) != combination.params:
            raise UserError(f"experiment {name} exists with other parameters; another --name, or dvc exp remove {name}")


def _run_shared(repo: Repo, keys: Sequence[str], environment: dict[str, str], stop: Stop) -> None:
    """Run the stages that no swept key reaches, once, where they are not up to date: else each worker would."""
    targets = shared_stages(repo, keys)
    if not targets or not repo.status(targets):
        return
    print(f"sweep: dvc repro {' '.join(targets)}: the same for every experiment, run once", flush=True)
    process = subprocess.Popen(
        ["dvc", "repro", *targets],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(process.stdout), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            stop.check(0.2)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise UserError("interrupted before anything was queued; the same command goes on") from None
    reader.join()
    if process.returncode:
        _show_log(line for line in output if line.strip())
        raise UserError("the stages that the experiments share failed, see above; nothing was queued")


def shared_stages(repo: Repo, keys: Sequence[str]) -> list[str]:
    """Names of the stages whose results are the same whatever the values of `keys`, in the order of dvc.yaml.

    A stage that reads the whole of params.yaml (`check`) is one of them: it looks at every key and writes
    always the same.
    """
    reached = set()
    for stage in repo.index.stages:
        declared = [name for dep in stage.params for name in dep.params]
        if any(
            f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for key in keys for name in declared
        ):
            reached |= {stage} | networkx.ancestors(repo.index.graph, stage)
    return [stage.addressing for stage in repo.index.stages if stage not in reached]


def _supervise(queue: Queue, grid: Sequence[Combination], options: argparse.Namespace, stop: Stop) -> dict[str, str]:
    """Queue what is missing and see to it until all is done or has failed TRIES times."""
    waiting = {combination.name: combination for combination in grid}
    tries: Counter[str] = Counter()
    failed: dict[str, str] = {}
    state = queue.look()
    progress = Progress(len(grid), sum(name in state.done for name in waiting))
    waiting = {name: combination for name, combination in waiting.items() if name not in state.done}
    with progress.bar:
        while True:
            queue.bury_dead()
            state = queue.look()
            for name in list(waiting):
                stop.check()
                if name in state.done:
                    del waiting[name]
                    progress.finished(name, "done")
                elif name in state:
                    tries[name] = tries[name] or 1
                elif tries[name] < TRIES:
                    if tries[name]:
                        progress.say(f"{name} failed, tried once more")
                    tries[name] += 1
                    overrides = waiting[name].overrides
                    queue.put(name, overrides, f"sweep {options.name}: {' '.join(overrides)}")
                else:
                    del waiting[name]
                    failed[name] = _reason(queue, name)
                    progress.finished(name, "failed")
            if not waiting:
                return failed
            progress.running(len(state.running))
            if state.queued:
                queue.staff(min(options.jobs, len(state.running) + len(state.queued)))
            stop.check(min(POLL[1], max(POLL[0], (time.monotonic() - progress.start) / 60)))


def _reason(queue: Queue, name: str) -> str:
    """Shows the end of a failed experiment's log; returns the line that says why it failed."""
    lines = queue.log(name, LOG_LINES)
    if not lines:
        return f"did not start or was killed; see {queue.celery.wdir}/dvc-exp-worker-1.out"
    print(f"the end of {name}'s log:")
    _show_log(lines)
    before_dvc = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    return before_dvc[-1].strip() if before_dvc else lines[-1].strip()


def _show_log(lines: Iterable[str]) -> None:
    for line in list(lines)[-LOG_LINES:]:
        print(f"    {line.rstrip()}", flush=True)


def _some(names: Sequence[str]) -> str:
    """a, b, c and 4 more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    run(main)
