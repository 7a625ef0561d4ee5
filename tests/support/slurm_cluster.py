"""A Slurm cluster on the loopback address of this machine: munged, slurmctld and a slurmd for each node.

Debian has them in the packages slurmctld, slurmd and munge. Neither systemd nor a database is needed.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun")
PARTITION = "tiny"
START_SECONDS = 25
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.txt
SlurmdLogFile={folder}/%n.txt
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=5
KillWait=5
SchedulerParameters=sched_interval=2
GresTypes=gpu
PartitionName={partition} Nodes=ALL MaxTime=1:00:00
"""


def missing_program() -> str | None:
    """The first program of Slurm that is not installed here."""
    return next((name for name in PROGRAMS if not shutil.which(name)), None)


class SlurmCluster:
    """A controller, and nodes node1, node2, ... with one core each."""

    def __init__(self, folder: Path, nodes: int) -> None:
        """folder: for Slurm's files; its path must be short."""
        self.folder = folder
        self.names = [f"node{number}" for number in range(1, nodes + 1)]
        self.access = {"SLURM_CONF": str(folder / "slurm.conf")}  # what Slurm's commands need in their environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        port, *ports = _find_free_ports(1 + nodes)
        user = pwd.getpwuid(os.getuid()).pw_name
        lines = [
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1"
            for name, port in zip(self.names, ports, strict=True)
        ]
        text = CONFIGURATION.format(port=port, user=user, folder=folder, partition=PARTITION)
        (folder / "slurm.conf").write_text(text.replace("PartitionName", "\n".join([*lines, "PartitionName"])))
        (folder / "state").mkdir()

    def start(self) -> None:
        """Start all, and wait until the nodes are idle."""
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        files = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{option}={self.folder / name}" for option, name in files.items()]
        # --force: a socket in a folder that other users can't reach is what we want
        self._start("munged", "--foreground", "--force", f"--log-file={self.folder / 'munged.txt'}", *options)
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        deadline = time.monotonic() + START_SECONDS
        while self.ask("sinfo", "--noheader", "--Node", "--format=%T").split() != ["idle"] * len(self.names):
            if time.monotonic() > deadline:
                raise RuntimeError("\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.txt")))
            time.sleep(0.2)

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._start("slurmctld", "-D")

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        self._start(name, "-D", "-N", name, program="slurmd")

    def kill(self, name: str) -> None:
        """Kill a node's slurmd, and what runs its jobs, as a loss of power would do; or another process."""
        steps, others = self.find_job_processes(name)
        for pid in [*steps, self.processes[name].pid, *others]:  # in this order none can report the end of another
            with suppress(psutil.Error):
                psutil.Process(pid).kill()
        self.processes.pop(name).wait()

    def stop(self) -> None:
        """Kill all processes."""
        for name in [*self.processes]:
            self.kill(name)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints; "" while there is no controller."""
        environment = {**os.environ, **self.access}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    def _start(self, name: str, *options: str, program: str = "") -> None:
        with (self.folder / f"{name}.out").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [program or name, *options],
                cwd=self.folder,
                env={**os.environ, **self.access},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def find_job_processes(self, node: str) -> tuple[set[int], set[int]]:
        """Of the jobs on a node: slurmstepd, which outlives a slurmd, and what it has started."""
        steps, others = set(), set()
        for process in psutil.process_iter(["pid"]):
            with suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SLURM_CONF") == self.access["SLURM_CONF"]
                if ours and environment.get("SLURMD_NODENAME") == node:
                    others.add(process.pid)
                    steps |= {parent.pid for parent in process.parents() if parent.name() == "slurmstepd"}
        return steps, others


def _find_free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def running_cluster(nodes: int) -> Iterator[SlurmCluster]:
    """A cluster of so many nodes of one core each."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = SlurmCluster(folder, nodes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
