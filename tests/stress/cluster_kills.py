"""`python -m tests.stress.cluster_kills --trials 20`: a sweep on a Ray cluster is disturbed, and must end in its rows.

Three Ray nodes on loopback addresses, each with a disk of its own, a hub over ssh, DVC's remote on a real S3 server.
Each trial sweeps six rows of a small configuration and, at a random moment, kills a node, a worker or the sweep itself
(which is started again), stops the S3 server for a while, or fills the disk of a node. The experiments must have the
trees of an undisturbed local sweep, none that was done may be done again, and two minutes later no process and no clone
may be left. Needs requirements/cluster.txt, sshd and, for full disks, root. Results: docs/reliability.md.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tests.support.ray_cluster import RayCluster, running_cluster
from tests.support.servers import HOST, S3Server, running_sshd
from tests.support.toy_pipeline import find_marked, trees
from tools.sweeps.engines.worker import MARK
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import commit_all, copy_working_tree
from tools.workspace.params_file import write_params

SMALL = {"latent_dim": 4, "threads": 1, "embed.map": "none", "download.dataset": "digits"}
SMALL |= {"train.architecture": "mlp", "train.mlp.widths": [16], "train.epochs": 3, "train.batch_size": 32}
GRID = ("latent_dim=2,4,8", "seed=0,1")
ROWS = 6
NODES = 3
BUCKET = "experiments"
DISK_BYTES = 2**29  # of each node
S3_PAUSE = 60  # seconds
CLEAN_SECONDS = 120  # until nothing may be left
MAX_SECONDS = 1800  # of a trial
Sweep = subprocess.Popen[bytes]


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tests.stress.cluster_kills", description="Disturb sweeps on a Ray cluster at random moments."
    )
    parser.add_argument("--trials", type=int, default=20, help="default: 20")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default 0)")
    options = parser.parse_args()
    if options.trials < 1:
        raise UserError(f"cluster_kills: --trials must be at least 1; got {options.trials}")
    if obstacle := find_obstacle():
        raise UserError(f"cluster_kills: {obstacle}")
    rng = random.Random(options.seed)  # noqa: S311  moments, not secrets
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        faults = try_disturbances(Path(name), options.trials, rng)
    print(f"{options.trials - faults} of {options.trials} trials ended in the rows of an undisturbed local sweep")
    if faults:
        raise UserError(f"cluster_kills: every trial must end in the same rows; {faults} did not, see above")


def find_obstacle() -> str | None:
    """What keeps this machine from running the trials; None if nothing does."""
    if os.geteuid():
        return "must be run by root, to give each node a disk of its own"
    missing = [word for word in ("ray", "weed") if not Path(sys.executable).with_name(word).exists()]
    missing += [word for word in ("sshd", "ssh-keygen") if not shutil.which(word)]
    return f"needs {missing[0]}; python -m pip install -r requirements/cluster.txt, openssh-server" if missing else None


def try_disturbances(folder: Path, trials: int, rng: random.Random) -> int:
    """Run the trials; returns how many had a fault."""
    template = copy_working_tree(folder / "template", without=("metrics/", "plots/", "docs/", "tests/", "dvc.lock"))
    write_params(template / "params.yaml", SMALL, source=template / "params.yaml")
    commit_all(template)
    commands.run(["dvc", "remote", "add", "--quiet", "--default", "store", f"s3://{BUCKET}/data"], cwd=template)
    commit_all(template, "remote")
    expected, seconds = sweep_locally(template, folder / "local")
    print(f"the local sweep took {seconds:.0f} s", flush=True)
    faults = 0
    for trial in range(trials):
        kind = list(DISTURBANCES)[trial % len(DISTURBANCES)]
        with Stand(folder / f"trial-{trial}", template) as stand:
            fault = stand.try_disturbance(kind, rng, expected)
        faults += bool(fault)
        print(f"{trial + 1}/{trials} {kind}: {fault or 'the same rows'}", flush=True)
    return faults


def sweep_locally(template: Path, folder: Path) -> tuple[dict[str, str], float]:
    """{experiment: tree} of the sweep on this machine, and the seconds it took."""
    shutil.copytree(template, folder, symlinks=True)
    start = time.monotonic()
    commands.run([sys.executable, "-m", "tools.sweep", *GRID, "--name", "s"], cwd=folder, env=environment({}))
    return trees(folder), time.monotonic() - start


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of a sweep: the Python of this process, an identity for git."""
    people = {
        f"GIT_{role}_{key}": "stress@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")
    }
    return {**commands.worker_environment(), **people, **more}


class Stand:
    """A cluster, its servers and a checkout for one trial."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.checkout, self.hub = folder / "checkout", folder / "hub"
        shutil.copytree(template, self.checkout, symlinks=True)
        commands.git("clone", "--quiet", "--bare", str(self.checkout), str(self.hub))

    def __enter__(self) -> "Stand":
        with ExitStack() as stack:  # which ends what has started where something does not
            self._exit = stack
            self._start()
            self._exit = stack.pop_all()
        return self

    def _start(self) -> None:
        self.s3 = S3Server(self.folder / "s3")
        self._exit.callback(self.s3.stop)
        self.s3.start()
        ssh = self._exit.enter_context(running_sshd(self.folder / "ssh"))
        self.variables = {**self.s3.access, "GIT_SSH_COMMAND": ssh["GIT_SSH_COMMAND"]}
        config = self.checkout / ".dvc/config.local"
        config.write_text(f"['remote \"store\"']\n    endpointurl = {self.s3.endpoint}\n")
        commands.git("remote", "add", "origin", f"ssh://{HOST}:{ssh['PORT']}{self.hub}", cwd=self.checkout)
        self.cluster: RayCluster = self._exit.enter_context(running_cluster(0, **self.variables))
        self.disks = [self.start_node(number) for number in range(NODES)]

    def __exit__(self, *_: object) -> None:
        self._exit.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_node(self, number: int) -> Path:
        """Start a node with a disk of its own, and return the place of that disk."""
        disk = self._exit.enter_context(small_disk(self.folder / f"disk-{number}"))
        self.cluster.start_node(TMPDIR=str(disk))
        return disk

    def try_disturbance(self, kind: str, rng: random.Random, expected: Mapping[str, str]) -> str:
        """Sweep, disturb, wait. Returns what is wrong at the end; empty if nothing is."""
        sweep = self.start_sweep()
        self._wait(lambda: bool(find_marked(self.folder)) or sweep.poll() is not None)
        time.sleep(rng.uniform(0, 30))
        sweep = DISTURBANCES[kind](self, sweep)
        with suppress(subprocess.TimeoutExpired):
            sweep.wait(MAX_SECONDS)
        log = (self.folder / "log").read_text()
        faults = []
        if sweep.poll() is None:
            sweep.kill()
            faults.append("the sweep did not end")
        elif sweep.returncode:
            faults.append(f"status {sweep.returncode}: {log.strip().splitlines()[-1]}")
        rows = trees(self.hub)
        if rows != expected:
            faults.append(f"rows differ: {sorted(name for name in expected if rows.get(name) != expected[name])}")
        faults += self._find_left_overs()
        return "; ".join(faults)

    def start_sweep(self) -> Sweep:
        """Start the sweep on the cluster."""
        command = [sys.executable, "-m", "tools.sweep", *GRID, "--name", "s", "--engine", "ray", "--cpus", "1"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--address", self.cluster.address],
                cwd=self.checkout,
                env=environment({**self.variables, **self.cluster.access}),
                stdout=log,
                stderr=log,
            )

    def _find_left_overs(self) -> list[str]:
        """Processes and clones that are still there after CLEAN_SECONDS."""

        def left() -> list[str]:
            clones = [str(path) for disk in self.disks for path in disk.glob("sweeps-*/clone-*")]
            return [f"process {process.pid} is left" for process in find_marked(self.folder)] + [
                f"{path} is left" for path in clones
            ]

        with suppress(TimeoutError):
            self._wait(lambda: not left(), CLEAN_SECONDS)
        return left()

    def _wait(self, condition: Callable[[], bool], seconds: float = MAX_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.2)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system in memory."""
    place.mkdir()
    commands.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(place)])
    try:
        yield place
    finally:
        commands.run(["umount", "--lazy", str(place)])


def kill_node(stand: Stand, sweep: Sweep) -> Sweep:
    """Kill the raylet of a node that works, and start another node."""
    hosts = {process.environ().get("SWEEP_NODE") for process in find_marked(stand.folder)} - {None}
    if hosts:
        stand.cluster.kill_node(str(sorted(map(str, hosts))[0]))
    stand.disks.append(stand.start_node(len(stand.disks)))
    return sweep


def kill_worker(stand: Stand, sweep: Sweep) -> Sweep:
    """Kill the process that runs an experiment."""
    for process in find_marked(stand.folder):
        with suppress(psutil.Error):
            worker = process.parent()
            if worker and "-c" in worker.cmdline() and MARK not in worker.environ():
                worker.kill()
                break
    return sweep


def kill_sweep(stand: Stand, sweep: Sweep) -> Sweep:
    """Kill the sweep, and start it again."""
    sweep.kill()
    sweep.wait()
    return stand.start_sweep()


def stop_s3(stand: Stand, sweep: Sweep) -> Sweep:
    """Stop the S3 server for a minute."""
    stand.s3.stop()
    time.sleep(S3_PAUSE)
    stand.s3.start()
    return sweep


def fill_disk(stand: Stand, sweep: Sweep) -> Sweep:
    """Fill the disk of a node."""
    with suppress(OSError), (stand.disks[0] / "filling").open("wb") as file:
        while True:
            file.write(bytes(2**20))
    return sweep


DISTURBANCES: dict[str, Callable[[Stand, Sweep], Sweep]] = {
    "a node killed": kill_node,
    "a worker killed": kill_worker,
    "the sweep killed and started again": kill_sweep,
    "S3 stopped for a minute": stop_s3,
    "the disk of a node full": fill_disk,
}


if __name__ == "__main__":
    run_main(main)
