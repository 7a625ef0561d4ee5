"""`python -m tools.sweep latent_dim=2,4,8 seed=0,1 --jobs 2 --name NAME`: runs a grid of experiments and reports on it.

Each combination becomes a DVC experiment with a readable name, run by DVC's own queue and workers. The sweep checks
first, waits, runs a failed experiment once more and ends with the report (tools.report). The same command again
continues with what is missing. docs/sweeps.md says how it works and what it leaves behind.
"""

import argparse
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.model_use import ModelUseParams
from stages.runtime.command import run_main
from tools import report
from tools.sweeps import checks, grid
from tools.sweeps.grid import Combination
from tools.sweeps.queue import Queue
from tools.sweeps.shared_stages import run_shared_stages
from tools.sweeps.supervision import StopSignal, supervise
from tools.workspace.arguments import ArgumentParser
from tools.workspace.commands import worker_environment


def main() -> None:
    logging.getLogger("kombu").setLevel(logging.ERROR)  # it warns that the queue is a folder and has no host
    options = _parse_options()
    head = checks.check_git()
    environment = worker_environment()
    if options.jobs > 1 and options.jobs * loader.load(ModelUseParams).threads > (os.cpu_count() or 1):
        environment = {"OMP_WAIT_POLICY": "passive", **environment}  # as stages/runtime/numerics.py explains
    try:
        with Repo() as repo:
            checks.check_workspace(repo)
            combinations = grid.expand(options.parameters, options.name)
            valid = [combination for combination in combinations if not combination.problem]
            refused = {combination.name: combination.problem for combination in combinations if combination.problem}
            if valid:
                _print_reasons("sweep: does not run", refused)
                checks.check_folders(repo, valid)
            failed = _run_grid(repo, head, valid, environment, options) if valid else {}
        if len(failed) < len(valid):
            report.write_report(options.name, head, {combination.name for combination in valid})
    except DvcException as error:
        raise UserError(f"dvc: {error}") from None
    failed |= refused
    if failed:
        print()
        _print_reasons("failed", failed)
        raise UserError(
            f"{len(failed)} of {len(combinations)} experiments failed, for the reasons above;"
            " correct the cause and repeat the command"
        )


def _parse_options() -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m tools.sweep",
        description="Run a grid of experiments.",
        epilog="example: python -m tools.sweep latent_dim=2,4,8 seed=0,1 --name size",
    )
    parser.add_argument("parameters", nargs="+", metavar="KEY=VALUES", help="as after dvc exp run -S: seed=0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="experiments at a time (default 1)")
    parser.add_argument(
        "--name", default="sweep", help="begins the experiments' names and names the report (default sweep)"
    )
    options = parser.parse_args()
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1; got {options.jobs}")
    return options


def _print_reasons(prefix: str, problems: Mapping[str, str]) -> None:
    """Print a line for each reason in {name: reason}, with the names of those that it concerns."""
    for reason in dict.fromkeys(problems.values()):
        names = [name for name in problems if problems[name] == reason]
        print(f"{prefix}: {checks.list_names(names)}: {reason}", flush=True)


def _run_grid(
    repo: Repo, head: str, valid: Sequence[Combination], environment: Mapping[str, str], options: argparse.Namespace
) -> dict[str, str]:
    """Run what is missing of the grid. Returns {name: reason} of what failed. Cleans up the queue however it ends."""
    names = [combination.name for combination in valid]
    with _lock_checkout(repo), StopSignal() as stop:
        queue = Queue(repo, head, environment)
        checks.check_queue(queue, valid)
        state = queue.read_state()
        if not all(name in state for name in names):
            keys = [override.partition("=")[0] for override in valid[0].overrides]
            run_shared_stages(repo, keys, environment, stop)
        try:
            failed = supervise(queue, valid, options.name, options.jobs, stop)
        except KeyboardInterrupt:
            raise UserError(_stop_sweep(queue, names)) from None
        except BaseException:
            queue.remove_queued(names)
            raise
        queue.remove_finished(names, failed)
        queue.stop_workers()
    return failed


@contextmanager
def _lock_checkout(repo: Repo) -> Iterator[None]:
    """Hold the lock that only one sweep in a checkout can hold. Raises UserError if another sweep holds it."""
    lock = filelock.FileLock(Path(repo.tmp_dir) / "sweep.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise UserError("another sweep is running in this checkout; let it finish or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _stop_sweep(queue: Queue, names: Sequence[str]) -> str:
    """Remove what has not started from the queue and let the workers end. Returns what is left, in a line."""
    removed = queue.remove_queued(names)
    running = [name for name in queue.read_state().running if name in names]
    queue.stop_workers()
    remaining = f"interrupted; {removed} not started (removed from the queue)"
    if running:
        remaining += f", {len(running)} running to the end (dvc queue kill {' '.join(running)} stops them)"
    return f"{remaining}; the same command continues"


if __name__ == "__main__":
    run_main(main)
