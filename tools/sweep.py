"""`python -m tools.sweep latent_dim=2,4,8 seed=0,1 --jobs 2 --name NAME`: runs a grid of experiments and reports on it.

Each combination becomes a DVC experiment with a readable name, run by DVC's own queue and workers. The sweep checks
first, waits, runs a failed experiment once more and ends with the report (tools.report). The same command again
continues with what is missing. docs/sweeps.md says how it works and what it leaves behind.
"""

import argparse
import logging
import math
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
from tools.sweeps.engines.cluster import ClusterEngine, Scheduler
from tools.sweeps.engines.engine import Engine
from tools.sweeps.engines.hub import Hub, locate
from tools.sweeps.engines.local import LocalEngine
from tools.sweeps.engines.storage import Storage
from tools.sweeps.grid import Combination
from tools.sweeps.shared_stages import run_shared_stages
from tools.sweeps.supervision import StopSignal, supervise
from tools.workspace.arguments import ArgumentParser
from tools.workspace.commands import worker_environment

CLUSTER = {"hub", "remote", "scratch", "cpus", "gpus"}
ENGINES = {  # and their options
    "local": {"jobs"},
    "ray": CLUSTER | {"address"},
    "slurm": CLUSTER | {"partition", "time", "folder"},
}
REQUIRED = {
    "ray": ("address", "that of the Ray cluster's head, such as 10.0.0.1:6379"),
    "slurm": ("partition", "one of those that sinfo lists"),
}


def main() -> None:
    logging.getLogger("kombu").setLevel(logging.ERROR)  # it warns that the queue is a folder and has no host
    for name in ("asyncssh", "botocore"):  # they tell each step of a connection, and where they found a password
        logging.getLogger(name).setLevel(logging.WARNING)
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
            failed = (
                _run_grid(repo, valid, _make_engine(repo, head, environment, options), environment, options.name)
                if valid
                else {}
            )
        if len(failed) < len(valid):
            names = {combination.name for combination in valid}
            report.write_report(options.name, head, names, explore=options.explore)
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
    parser.add_argument("--jobs", type=int, help="experiments at a time on this machine (default 1)")
    parser.add_argument(
        "--name", default="sweep", help="begins the experiments' names and names the report (default sweep)"
    )
    parser.add_argument("--explore", action="store_true", help="make a page to explore each experiment (tools.explore)")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what runs the experiments (default local)")
    cluster = parser.add_argument_group("with --engine ray or slurm (docs/cluster.md)")
    cluster.add_argument("--hub", help="git repository that all nodes can reach (default: the git remote origin)")
    cluster.add_argument("--remote", help="DVC remote that all nodes can reach (default: DVC's default remote)")
    cluster.add_argument("--scratch", help="folder for clones on each node (default: in that for temporary files)")
    cluster.add_argument("--cpus", type=float, help="cores for one experiment (default: threads in params.yaml)")
    cluster.add_argument("--gpus", type=float, help="GPUs for one experiment (default 0)")
    cluster.add_argument("--address", help="ray: host:port of the cluster's head")
    cluster.add_argument("--partition", help="slurm: where jobs run")
    cluster.add_argument("--time", help="slurm: limit of one job, minutes or H:MM:SS (default: the partition's)")
    cluster.add_argument("--folder", help="slurm: folder for jobs that all nodes see (default: .dvc/tmp/slurm)")
    options = parser.parse_args()
    _check_options(options)
    return options


def _check_options(options: argparse.Namespace) -> None:
    """Raise UserError for options that the engine does not have, or lacks."""
    for name in sorted(set().union(*ENGINES.values()) - ENGINES[options.engine]):
        if getattr(options, name) is not None:
            owners = " or ".join(engine for engine, own in ENGINES.items() if name in own)
            raise UserError(f"--{name} must be left out with --engine {options.engine}; it is for --engine {owners}")
    name, rule = REQUIRED.get(options.engine, ("engine", ""))
    if getattr(options, name) is None:
        raise UserError(f"--{name} must be {rule}; got none")
    options.jobs = 1 if options.jobs is None else options.jobs
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1; got {options.jobs}")
    for name, least in (("cpus", 0.01), ("gpus", 0)):
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            raise UserError(f"--{name} must be a number of at least {least}; got {value}")


def _make_engine(repo: Repo, head: str, environment: Mapping[str, str], options: argparse.Namespace) -> Engine:
    """The engine that the options name. Raises UserError where it can't be reached."""
    if options.engine == "local":
        return LocalEngine(repo, head, environment, options.jobs)
    hub = Hub(locate(options.hub), head, options.name)
    storage = Storage(repo, options.remote, environment)
    return ClusterEngine(_make_scheduler(repo, head, options), hub, storage, options.scratch or "")


def _make_scheduler(repo: Repo, head: str, options: argparse.Namespace) -> Scheduler:
    """The scheduler that the options name. Raises UserError where it can't be reached."""
    cpus, gpus = options.cpus or loader.load(ModelUseParams).threads, options.gpus or 0
    if options.engine == "ray":
        from tools.sweeps.engines.ray_nodes import RayNodes  # the packages of both are optional

        return RayNodes(options.address, cpus, gpus)
    from tools.sweeps.engines.slurm_jobs import SlurmJobs

    folder = Path(options.folder or Path(repo.tmp_dir, "slurm")).resolve() / f"{options.name}-{head[:12]}"
    return SlurmJobs(folder, options.name, options.partition, options.time, cpus, gpus)


def _print_reasons(prefix: str, problems: Mapping[str, str]) -> None:
    """Print a line for each reason in {name: reason}, with the names of those that it concerns."""
    for reason in dict.fromkeys(problems.values()):
        names = [name for name in problems if problems[name] == reason]
        print(f"{prefix}: {checks.list_names(names)}: {reason}", flush=True)


def _run_grid(
    repo: Repo, valid: Sequence[Combination], engine: Engine, environment: Mapping[str, str], sweep: str
) -> dict[str, str]:
    """Run what is missing of the grid. Returns {name: reason} of what failed. Cleans up however it ends."""
    names = [combination.name for combination in valid]
    with _lock_checkout(repo), StopSignal() as stop:
        checks.check_queue(engine, valid)
        state = engine.read_state()
        try:
            if not all(name in state for name in names):
                engine.check()
                keys = [override.partition("=")[0] for override in valid[0].overrides]
                engine.prepare(run_shared_stages(repo, keys, environment, stop), stop.check)
            failed = supervise(engine, valid, sweep, stop)
        except KeyboardInterrupt:
            raise UserError(f"{engine.stop(names)}; the same command continues") from None
        except BaseException:
            engine.abandon(names)
            raise
        engine.finish(names, failed)
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


if __name__ == "__main__":
    run_main(main)
