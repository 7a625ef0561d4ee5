"""A Ray cluster on loopback addresses of this machine: real nodes, each with processes of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START_SECONDS = 180  # on a busy machine


class RayCluster:
    """Nodes at consecutive loopback addresses; the first one is the head."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        """folder: for Ray's files; its path must be short. variables: environment of the experiments."""
        network = f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}"
        self.folder, self._hosts = folder, iter(f"{network}.{number}" for number in range(2, 250))
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        # what a driver needs to be let in
        self.access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self._environment = {**os.environ, **variables, **self.access, "RAY_USAGE_STATS_ENABLED": "0"}
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def start_node(self, cpus: int = 1, **variables: str) -> str:
        """Start one node and return its address, without a port."""
        host = next(self._hosts)
        if self.address:
            place = ["--address", self.address]
        else:
            with socket.socket() as probe:
                probe.bind((host, 0))
                port = probe.getsockname()[1]
            self.address = f"{host}:{port}"
            place = ["--head", "--port", str(port), "--include-dashboard=false", f"--temp-dir={self.folder}"]
        ray = Path(sys.executable).with_name("ray")
        with (self.folder / f"{host}.log").open("wb") as log:
            self.nodes[host] = subprocess.Popen(
                [ray, "start", *place, "--node-ip-address", host, "--num-cpus", str(cpus), "--block"],
                env={**self._environment, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_started(host)
        return host

    def kill_node(self, host: str) -> None:
        """Kill the raylet of a node: what Ray and its tasks have started there is left to end by itself."""
        for process in psutil.Process(self.nodes[host].pid).children(recursive=True):
            if process.name() == "raylet":
                process.kill()

    def stop(self) -> None:
        """Kill all processes of all nodes."""
        for node in self.nodes.values():
            with suppress(psutil.Error):
                parent = psutil.Process(node.pid)
                for process in [*parent.children(recursive=True), parent]:
                    with suppress(psutil.Error):
                        process.kill()
            node.wait()

    def _wait_until_started(self, host: str) -> None:
        log = self.folder / f"{host}.log"
        deadline = time.monotonic() + START_SECONDS
        while b"Ray runtime started" not in log.read_bytes():
            if self.nodes[host].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ray start: {log.read_text()[-2000:]}")
            time.sleep(0.1)


@contextmanager
def running_cluster(nodes: int, **variables: str) -> Iterator[RayCluster]:
    """A cluster of so many nodes of one core each, and a head without one, at which drivers start."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = RayCluster(folder, variables)
    try:
        for cpus in (0, *[1] * nodes):
            cluster.start_node(cpus)
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
