"""The nodes of a Ray cluster. Ray finds a node with free cores for each task, and another one if the node dies."""

import ipaddress
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stages.autoencoder.core.errors import UserError
from tools.sweeps.engines.cluster import Pause, make_launcher, parse_outcome
from tools.sweeps.engines.worker import Outcome

RETRIES = 5  # of a task whose node or process died
POLL_SECONDS = 0.5
SETTINGS = {  # of Ray, unless the user sets them
    "RAY_AUTH_MODE": "token",  # who has no token can't run code on the nodes
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayNodes:
    """The alive nodes of the cluster at `address`; each task takes some cores and GPUs of one of them."""

    def __init__(self, address: str, cpus: float, gpus: float) -> None:
        """Raises UserError where Ray is not installed, the cluster can't be reached, or no node is large enough."""
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        try:
            import ray
            import ray.exceptions
        except ModuleNotFoundError:
            raise UserError(
                "--engine ray needs the package ray; python -m pip install -r requirements/cluster.txt"
            ) from None
        self._ray = ray
        host = address.rpartition(":")[0]
        options: dict[str, Any] = {"_node_ip_address": host} if _is_loopback(host) else {}
        options |= {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
        said: list[str] = []
        try:
            with _held_stderr(said):
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())
            if any("InvalidAuthToken" in line for line in said):
                reason = "it does not know this token, that of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
            raise UserError(
                f"--address must be that of a Ray cluster's head, such as 10.0.0.1:6379; got {address}; {reason:.300}"
            ) from None
        self._wanted = {"CPU": cpus, "GPU": gpus}
        if not self._fit_nodes(()):
            ray.shutdown()
            raise UserError(
                f"--cpus and --gpus must be what one node has; got {cpus:g} and {gpus:g}, and no alive node has as many"
            )
        self._run = ray.remote(max_retries=RETRIES, num_cpus=cpus, num_gpus=gpus)(_make_launcher())
        self._running: dict[str, Any] = {}  # {name: reference to the outcome}
        self._turns = 0

    def check(self, task: str, pause: Pause) -> list[Outcome]:
        """Run a task on every node."""
        nodes = self._fit_nodes(())
        pending = {self._on_node(node, 0).remote(task): node for node in nodes}
        outcomes = []
        while pending:
            for answer in self._ready(pending):
                node = pending.pop(answer)
                outcome = parse_outcome(self._get(answer))
                outcome["node"] = nodes[node]
                outcomes.append(outcome)
            pause(POLL_SECONDS)
        return outcomes

    def submit(self, name: str, task: str, avoid: Collection[str]) -> None:
        """Queue a task: on any node, or in turn on those that are not in `avoid` where that is needed."""
        run = self._run
        if avoid and (nodes := sorted(self._fit_nodes(avoid))):
            self._turns += 1
            run = self._on_node(nodes[self._turns % len(nodes)], self._wanted["CPU"])
        self._running[name] = run.remote(task)

    def poll(self) -> dict[str, str]:
        """What has ended since the last call."""
        ready = set(self._ready(self._running.values()))
        ended = {name: answer for name, answer in self._running.items() if answer in ready}
        for name in ended:
            del self._running[name]
        return {name: self._get(answer) for name, answer in ended.items()}

    def unfinished(self) -> set[str]:
        """Names of all that was submitted and has not ended."""
        return set(self._running)

    def cancel(self, names: Iterable[str]) -> None:
        """End these; a guard on each node ends what they have started."""
        for name in names:
            with suppress(KeyError):
                self._ray.cancel(self._running.pop(name), force=True)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def _fit_nodes(self, avoid: Collection[str]) -> dict[str, str]:
        """{id: name} of the alive nodes that are large enough and not in `avoid`."""
        return {
            node["NodeID"]: node["NodeManagerAddress"]
            for node in self._ray.nodes()
            if node["Alive"]
            and node["NodeManagerAddress"] not in avoid
            and all(node["Resources"].get(key, 0) >= amount for key, amount in self._wanted.items())
        }

    def _on_node(self, node: str, cpus: float) -> Any:
        """The launcher, to be run on one node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._run.options(scheduling_strategy=strategy, num_cpus=cpus)

    def _ready(self, answers: Iterable[Any]) -> list[Any]:
        """Those that have ended."""
        waiting = list(answers)
        return self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []

    def _get(self, answer: Any) -> str:
        """What a task printed, or a line that says what happened to it."""
        try:
            return str(self._ray.get(answer))
        except self._ray.exceptions.RayError as error:
            return " ".join(str(error).split())[:300]


def _make_launcher() -> Callable[[str], str]:
    """The launcher, which tells the worker Ray's name of its node: several nodes can be on one host."""
    launch = make_launcher()

    def launch_by_ray(task: str) -> str:
        import os

        import ray

        os.environ["SWEEP_NODE"] = ray.util.get_node_ip_address()
        return launch(task)

    return launch_by_ray


@contextmanager
def _held_stderr(lines: list[str]) -> Iterator[None]:
    """Put what Ray's own library writes to stderr into `lines`: a warning each second while it is not let in."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            lines += file.read().splitlines()


def _is_loopback(host: str) -> bool:
    """Whether this is an address of this machine alone, which Ray would not choose for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
