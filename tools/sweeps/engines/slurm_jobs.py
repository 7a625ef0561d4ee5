"""Jobs of a Slurm cluster, through submitit. Slurm finds a node for each job, and another one if the node dies.

A job is known by its name and its place in its array. Both are written down before it is submitted, so that a sweep
that was killed finds its jobs again. What a task gives back is a file; squeue tells which jobs ended without one.
submitit would ask sacct, which needs a database that not every cluster has.
"""

import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from contextlib import redirect_stderr, suppress
from io import StringIO
from itertools import islice
from pathlib import Path

from stages.autoencoder.core.errors import UserError
from tools.sweeps.engines.cluster import Pause, make_launcher, parse_outcome
from tools.sweeps.engines.slurm_commands import ENDED, Job, ask_queue, cancel_jobs, find_nodes, parse_minutes
from tools.sweeps.engines.worker import LOG_LINES, Outcome, make_private
from tools.workspace.commands import last_line

PROGRAMS = ("sbatch", "squeue", "sinfo", "scancel", "srun")
RECORD = "jobs.json"
MAX_ARRAY = 500  # jobs in one array; Slurm's own limit is 1000 unless it is set
MAX_CHECKED = 3  # nodes that are tried before the sweep starts
POLL_SECONDS = 0.5
QUEUE_SECONDS = 5.0  # between two calls of squeue, which cost the whole cluster
GONE_SECONDS = 10.0  # that the result of an ended job may take to appear on a shared disk
ADVICE = {
    "OUT_OF_MEMORY": "; with SBATCH_MEM_PER_CPU=4G in its environment the sweep asks for more",
    "TIMEOUT": "; give it more with --time",
}
NODE_TO_BLAME = {"BOOT_FAIL", "NODE_FAIL"}
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")  # submitit puts both into a script
FOLDER = re.compile(r"/[\w/.+-]*")  # no %, which Slurm would replace


class SlurmJobs:
    """Jobs in one partition; each gets some cores and GPUs of one node, for some time."""

    def __init__(
        self, folder: Path, sweep: str, partition: str, time_limit: str | None, cpus: float, gpus: float
    ) -> None:
        """folder: for this sweep alone, and all nodes see it. time_limit: as Slurm writes it; None: the partition's.

        Raises UserError where Slurm or submitit is missing, or no node of the partition is fit.
        """
        for name, value, rule, signs in (
            ("name", sweep, WORD, "_ + - ."),
            ("partition", partition, WORD, "_ + - ."),
            ("folder", str(folder), FOLDER, "_ + - . /"),
        ):
            if not rule.fullmatch(value):
                raise UserError(f"--{name} must have no signs but letters, digits and {signs}; got {value!r:.200}")
        if missing := [name for name in PROGRAMS if not shutil.which(name)]:
            raise UserError(
                f"--engine slurm needs Slurm's commands, and {missing[0]} is not on PATH; start the sweep on a login"
                " node, or apt-get install slurm-client"
            )
        try:
            import submitit
        except ModuleNotFoundError:
            raise UserError(
                "--engine slurm needs the package submitit; python -m pip install -r requirements/cluster.txt"
            ) from None
        self._submitit = submitit
        self._nodes = find_nodes(partition, time_limit, cpus, gpus)
        self._folder, self._sweep, self._partition = folder, sweep, partition
        _make_private(folder)
        self._executor = submitit.SlurmExecutor(folder)
        self._executor.update_parameters(
            partition=partition,
            time=None if time_limit is None else math.ceil(parse_minutes(time_limit)),
            cpus_per_task=int(cpus),
            gpus_per_node=int(gpus) or None,
            array_parallelism=MAX_ARRAY,
            stderr_to_stdout=True,
            use_srun=False,  # it would have to be told the cores once more
            wckey=None,
        )
        self._launch = _make_launcher()
        self._waiting: dict[str, str] = {}  # {name: task} of what is to be submitted
        self._avoid: set[str] = set()  # nodes
        self._refusals: dict[str, str] = {}  # {key: why sbatch failed}
        self._jobs: dict[str, Job] = {}  # {key: as it was last seen}
        self._gone: dict[str, float] = {}  # {key: since when it is not in the queue}
        self._asked = -math.inf  # when squeue was called last
        self._answering = True  # whether it answered
        self._keys = self._find_running()
        self._sent = set(self._keys.values())

    def check(self, task: str, pause: Pause) -> list[Outcome]:
        """Run a task on one node, and on another one where that is unfit. Nothing where jobs of this sweep run."""
        outcomes: list[Outcome] = []
        while not self._keys and len(outcomes) < min(MAX_CHECKED, sum(self._nodes.values())):
            outcomes.append(self._check_once(task, {outcome["node"] for outcome in outcomes}, pause))
            if not outcomes[-1]["unfit"]:
                break
        return outcomes

    def submit(self, name: str, task: str, avoid: Collection[str]) -> None:
        """Note a task, which the next `poll` submits together with others."""
        self._waiting[name] = task
        self._avoid = set(avoid)

    def poll(self) -> dict[str, str]:
        """What has ended since the last call."""
        while self._waiting:
            self._send(dict(islice(self._waiting.items(), MAX_ARRAY)))
        written = {path.name for path in self._folder.iterdir()}  # makes a network's file system look again
        ended = {
            name: (self._folder / f"{key}.json").read_text(encoding="utf-8")
            for name, key in self._keys.items()
            if f"{key}.json" in written
        }
        for name in ended:
            self._gone.pop(self._keys.pop(name), None)
        if time.monotonic() - self._asked > QUEUE_SECONDS:
            self._look_for_gone()
        for name, key in [*self._keys.items()]:
            if time.monotonic() - self._gone.get(key, math.inf) > GONE_SECONDS:
                ended[name] = json.dumps(self._explain_end(self._keys.pop(name)))
        if ended:
            self._save()
        return ended

    def unfinished(self) -> set[str]:
        """Names of all that was submitted and has not ended."""
        return {*self._waiting, *self._keys}

    def cancel(self, names: Iterable[str]) -> None:
        """End these; the processes on the nodes clean up after them."""
        names = set(names)
        self._waiting = {name: task for name, task in self._waiting.items() if name not in names}
        cancel_jobs({key for name, key in self._keys.items() if name in names})
        self._keys = {name: key for name, key in self._keys.items() if name not in names}
        self._save()

    def close(self) -> None:
        """Remove the files, unless a log may still be of use, and jobs that Slurm would run though they are done."""
        with suppress(UserError):  # as where a node was lost for Slurm alone
            cancel_jobs(self._sent - set(self._keys.values()))
        if not self._keys and not self._gone:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check_once(self, task: str, avoid: Collection[str], pause: Pause) -> Outcome:
        """Run a task that has no experiment. Raises UserError where Slurm does not take it."""
        self.submit("", task, avoid)
        shown = ""
        try:
            while not (ended := self.poll()):
                job = self._jobs.get(self._keys[""])
                if job and job.state == "PENDING" and job.reason not in (shown, "None"):
                    shown = job.reason
                    print(f"sweep: the first job, {job.id}, waits in Slurm's queue: {shown}", flush=True)
                pause(POLL_SECONDS)
        except BaseException:
            self.cancel([""])
            raise
        outcome = parse_outcome(ended[""])
        if not outcome["node"]:
            raise UserError(f"partition {self._partition}: no job can run there: {outcome['reason']}")
        return outcome

    def _send(self, tasks: dict[str, str]) -> None:
        """Submit tasks as one array."""
        name = f"{self._sweep}-{uuid.uuid4().hex[:12]}"
        keys = {task_name: f"{name}.{index}" for index, task_name in enumerate(tasks)}
        self._keys |= keys
        self._sent |= set(keys.values())
        self._save()
        avoid = self._avoid & self._nodes.keys()
        exclude = None if avoid == self._nodes.keys() else ",".join(sorted(avoid)) or None
        self._executor.update_parameters(job_name=name, exclude=exclude)
        answers = [str(self._folder / f"{key}.json") for key in keys.values()]
        try:
            with redirect_stderr(StringIO()):  # submitit prints there what it raises
                self._executor.map_array(self._launch, tasks.values(), answers)
        except (RuntimeError, OSError) as error:  # it may have got there nevertheless: squeue decides
            self._refusals |= dict.fromkeys(keys.values(), last_line(str(error), "sbatch failed"))
        for task_name in tasks:
            del self._waiting[task_name]

    def _look_for_gone(self) -> None:
        """Ask squeue which jobs will not run any more. Nothing while it gives no answer."""
        self._asked = time.monotonic()
        try:
            jobs = ask_queue()
        except UserError as error:
            if self._answering:
                print(f"sweep: {error}; the jobs go on, and the sweep waits for Slurm", flush=True)
            self._answering = False
            return
        self._answering = True
        for key in self._keys.values():
            if key in jobs:
                self._jobs[key] = jobs[key]
            if key in jobs and jobs[key].state not in ENDED:
                self._gone.pop(key, None)
            else:
                self._gone.setdefault(key, self._asked)

    def _explain_end(self, key: str) -> Outcome:
        """Why a job has ended without a result, with the end of its log."""
        job = self._jobs.get(key)
        if job is None or key in self._refusals:
            reason = self._refusals.get(key, "its job is not in Slurm's queue and has left no result")
            return Outcome(reason=reason, unfit=False, node="", log=[])
        path = self._submitit.SlurmJob(self._folder, job.id).paths.stdout
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        advice = ADVICE.get(job.state, "")
        if job.node and not lines:
            advice = f"; it left no log: do all nodes see --folder {self._folder}?"
        place = f" on node {job.node}" if job.node else ""
        reason = f"Slurm's job {job.id} ended without a result{place}: {job.state} ({job.reason}){advice}"
        unfit = job.state in NODE_TO_BLAME
        return Outcome(reason=reason, unfit=unfit, node=job.node, log=[*lines[-LOG_LINES + 1 :], reason])

    def _find_running(self) -> dict[str, str]:
        """{name: key} of this sweep's jobs that an earlier start has left, and that wait or run."""
        path = self._folder / RECORD
        if not path.exists():
            return {}
        jobs = ask_queue()
        record: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return {name: key for name, key in record.items() if name and key in jobs and jobs[key].state not in ENDED}

    def _save(self) -> None:
        part = self._folder / f"{RECORD}.part"
        part.write_text(json.dumps(self._keys), encoding="utf-8")
        part.replace(self._folder / RECORD)


def _make_launcher() -> Callable[[str, str], None]:
    """The launcher, which tells the worker Slurm's name of its node and writes the answer to a file."""
    launch = make_launcher()

    def launch_by_slurm(task: str, answer: str) -> None:
        import os
        import signal
        import sys
        from pathlib import Path

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # submitit would ignore it
        os.environ["SWEEP_NODE"] = os.environ["SLURMD_NODENAME"]
        text = launch(task)
        part = Path(f"{answer}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(answer)

    return launch_by_slurm


def _make_private(folder: Path) -> None:
    """Make the folder, in which nobody else may write: nodes run what they find there. Raises UserError."""
    if not make_private(folder):
        raise UserError(
            f"{folder}: must be a folder that only its user, {os.getuid()}, can write to; choose another --folder"
        )
