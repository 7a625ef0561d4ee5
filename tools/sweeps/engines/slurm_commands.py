"""What Slurm's own commands say: squeue of jobs, sinfo of nodes, scancel ends jobs."""

import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass

from stages.autoencoder.core.errors import UserError
from tools.workspace.commands import run

QUEUE_FORMAT = "%K|%i|%T|%N|%r|%j"  # the job's name last: it may hold any sign
NODE_FORMAT = "%N|%c|%G|%T|%l"
ENDED = {  # states of jobs that will not run any more
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
UNUSABLE = re.compile(r"(down|drain|fail|future|unknown).*|.*\*")  # states of nodes; * does not respond
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)


@dataclass(frozen=True)
class Job:
    """What squeue says about one job. node: "" while it has none. reason: why it waits or has ended."""

    id: str
    state: str
    node: str
    reason: str


@dataclass(frozen=True)
class Node:
    """What sinfo says about one node. minutes: the time limit of its partition."""

    name: str
    cpus: int
    gpus: int
    usable: bool
    minutes: float


def ask_queue() -> dict[str, Job]:
    """{key: job} of this user. Raises UserError where Slurm does not answer."""
    states = ["--states=all", f"--user={os.getuid()}"]
    return parse_queue(run(["squeue", "--array", "--noheader", f"--format={QUEUE_FORMAT}", *states], new_session=True))


def cancel_jobs(keys: Collection[str]) -> None:
    """End those of these jobs that wait or run. Raises UserError where Slurm does not answer."""
    if keys and (ids := [job.id for key, job in ask_queue().items() if key in keys and job.state not in ENDED]):
        run(["scancel", "--quiet", *ids], new_session=True)


def parse_queue(text: str) -> dict[str, Job]:
    """{NAME.INDEX: job} from what squeue prints; INDEX is that in an array, or 0."""
    rows = [line.split("|", 5) for line in text.splitlines() if line.count("|") >= 5]
    return {
        f"{name.strip()}.{index if index.isdecimal() else 0}": Job(job_id, state, node, reason)
        for index, job_id, state, node, reason, name in rows
    }


def find_nodes(partition: str, time_limit: str | None, cpus: float, gpus: float) -> dict[str, bool]:
    """{name: whether it is up} of the nodes that are large enough for a job. Raises UserError where none is up."""
    for name, value in (("cpus", cpus), ("gpus", gpus)):
        if value != int(value):
            raise UserError(f"--{name} must be a whole number with --engine slurm; got {value}")
    sinfo = ["sinfo", "--noheader"]
    nodes = parse_nodes(run([*sinfo, "--Node", f"--partition={partition}", f"--format={NODE_FORMAT}"]))
    if not nodes:
        known = ", ".join(run([*sinfo, "--format=%R"]).split())
        raise UserError(f"--partition must be one of Slurm's: {known}; got {partition}")
    if time_limit is not None and (minutes := parse_minutes(time_limit)) > nodes[0].minutes:
        raise UserError(
            f"--time must be at most {nodes[0].minutes:g} minutes, the limit of partition {partition}; got {minutes:g}"
        )
    fit = {node.name: node.usable for node in nodes if node.cpus >= cpus and node.gpus >= gpus}
    if not fit:
        raise UserError(
            f"--cpus and --gpus must be what one node of partition {partition} has; got {cpus:g} and {gpus:g}; its"
            f" nodes have at most {max(node.cpus for node in nodes)} and {max(node.gpus for node in nodes)}"
        )
    if not any(fit.values()):
        raise UserError(f"partition {partition}: no node that is large enough is up; sinfo --partition={partition}")
    return fit


def parse_nodes(text: str) -> list[Node]:
    """The nodes from what sinfo prints: `node1|64|gpu:a100:4(S:0-1)|idle|1-00:00:00`."""
    rows = [line.split("|") for line in text.splitlines()]
    return [
        Node(
            name,
            int(cpus),
            sum(map(int, re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", gres))),
            not UNUSABLE.fullmatch(state),
            parse_minutes(limit),
        )
        for name, cpus, gres, state, limit in rows
    ]


def parse_minutes(text: str) -> float:
    """Minutes from a time as Slurm writes it. Raises UserError for anything else."""
    if text == "infinite":
        return math.inf
    match = TIME.fullmatch(text)
    if not match:
        raise UserError(f"--time must be minutes or H:MM:SS, such as 90 or 1:30:00; got {text!r:.40}")
    days, *parts = (int(part) if part else None for part in match.groups())
    numbers = [part for part in parts if part is not None]
    if days is None and len(numbers) < 3:  # then minutes come first, otherwise hours
        numbers = [0, *numbers]
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return (days or 0) * 24 * 60 + hours * 60 + minutes + seconds / 60
