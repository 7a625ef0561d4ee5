"""One experiment of a sweep on a node of a cluster: `python -c SOURCE`, a Task as JSON on its stdin.

An engine sends this source along, so a node needs the locked packages, git and dvc, but no checkout. The experiment
runs in a full clone of its own on the node's own disk. It is done once its reference is on the hub, which is written
last: after a kill at any moment the same task can run again, here or elsewhere, and what is done is not run twice.
stdin stays open as long as the engine lives. When the engine or this process ends, a guard kills all that it started.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

MARK = "SWEEP_TASK"  # environment variable of all that a task starts, by which its guard finds them
NODE = "SWEEP_NODE"  # environment variable with the engine's name of this node
GUARD = "guard"  # the word after the source that makes this process a guard
MIN_FREE = 2**28  # bytes of disk without which a node takes no experiment
PATIENCE = 300.0  # seconds in which a hub or remote that fails may come back
PAUSES = (2.0, 5.0, 15.0)  # seconds between attempts, the last one again and again
LOG_LINES = 15  # of a failed experiment
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*")  # valid in git references and in paths, no option
COMMIT = re.compile(r"[0-9a-f]{40,64}")


class Task(TypedDict):
    """What a node is asked to do."""

    source: str  # of this module, for the guard
    name: str  # of the experiment; "": only prepare the node
    overrides: list[str]  # key=value each, as after -S
    message: str  # of the experiment's commit
    commit: str  # that the experiment starts from
    base: str  # the hub's reference to it
    hub: str  # address of the git repository that has the code and gets the results
    identity: dict[str, str]  # user.name and user.email of the commits
    remote: str  # name of DVC's remote
    remote_config: dict[str, str]  # its settings, no secret
    shared: list[str]  # stages whose outputs are on the remote
    own: list[str]  # the other stages
    lock: str  # content of dvc.lock; "": there is none
    versions: dict[str, str]  # of Python and of the packages that can affect results
    scratch: str  # folder on the node's own disk; "": in that for temporary files


class Outcome(TypedDict):
    """How it went."""

    reason: str  # why the experiment failed; "": it is done
    unfit: bool  # the node is to blame: try another one
    node: str  # its name
    log: list[str]  # the last lines of what failed


class TaskError(Exception):
    """A task that ends without a result; unfit: the node is to blame."""

    def __init__(self, reason: str, log: Sequence[str] = (), *, unfit: bool = False) -> None:
        super().__init__(reason)
        self.log, self.unfit = list(log), unfit


def main() -> None:
    """Read a task, work on it, print the outcome. As a guard: wait, then clean up."""
    if sys.argv[1:2] == [GUARD]:
        guard(sys.argv[2], Path(sys.argv[3]))
        return
    task: Task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_engine, daemon=True).start()
    print(json.dumps(run(task)), flush=True)


def _end_with_engine() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin: Python's end would wait for its reader
        pass
    os._exit(1)


def run(task: Task) -> Outcome:
    """Work on a task. Never raises for what a task, a node, a hub or a remote can do wrong."""
    node = os.environ.get(NODE) or socket.gethostname()
    try:
        _check_task(task)
        _check_versions(task["versions"])
        _run_in(_open_scratch(task["scratch"]), task)
    except TaskError as error:
        return Outcome(reason=str(error), unfit=error.unfit, node=node, log=error.log)
    except OSError as error:
        return Outcome(reason=f"{error.filename or 'disk'}: {error.strerror or error}", unfit=True, node=node, log=[])
    return Outcome(reason="", unfit=False, node=node, log=[])


def _run_in(scratch: Path, task: Task) -> None:
    """Run the task's experiment in a new clone below `scratch`. Raises TaskError."""
    _remove_stale_clones(scratch)
    if (free := shutil.disk_usage(scratch).free) < MIN_FREE:
        raise TaskError(f"{scratch}: needs {MIN_FREE >> 20} MiB of disk; got {free >> 20} MiB", unfit=True)
    with _new_clone(scratch, task) as (folder, environment):
        call = _Caller(folder / "clone", environment, scratch)
        call("git", "clone", "--quiet", "--no-checkout", "--", task["hub"], ".", lasting=True)
        if task["name"] and _is_done(call, task):
            return
        call("git", "fetch", "--quiet", "origin", f"+{task['base']}:{task['base']}", lasting=True)
        call("git", "checkout", "--quiet", "--detach", task["commit"])
        if task["lock"]:
            (call.cwd / "dvc.lock").write_text(task["lock"], encoding="utf-8")
        _fetch_shared(call, task, scratch)
        if not task["name"]:
            return
        overrides = [f"--set-param={override}" for override in task["overrides"]]
        call("dvc", "exp", "run", f"--name={task['name']}", f"--message={task['message']}", *overrides)
        call("dvc", "push", f"--remote={task['remote']}", *task["own"], lasting=True)
        reference = _reference(task)
        try:  # only where it does not exist yet: another node may have been faster
            call("git", "push", "--quiet", f"--force-with-lease={reference}:", "origin", reference, lasting=True)
        except TaskError:
            if not _is_done(call, task):
                raise


def _check_task(task: Task) -> None:
    """Raises TaskError for a value that could be taken for an option, a path or a part of a command."""
    if task["name"] and not NAME.fullmatch(task["name"]):
        raise TaskError(f"name must be letters and digits, with - + _ . between them; got {task['name']!r:.80}")
    if not COMMIT.fullmatch(task["commit"]):
        raise TaskError(f"commit must be 40 hexadecimal digits; got {task['commit']!r:.80}")
    for stage in (*task["shared"], *task["own"], task["remote"], task["hub"]):
        if stage.startswith("-"):
            raise TaskError(f"no name of a stage, a remote or a hub may begin with -; got {stage!r:.80}")


def _check_versions(expected: Mapping[str, str]) -> None:
    """Raises TaskError where this node's Python or packages are not those of the machine that started the sweep."""
    here = {"python": python_version()}
    for name in expected.keys() - here:
        with suppress(PackageNotFoundError):
            here[name] = version(name)
    if other := sorted(name for name in expected if here.get(name) != expected[name]):
        name = other[0]
        more = f" and {len(other) - 1} more" if other[1:] else ""
        raise TaskError(
            f"{name} must be {expected[name]}, as where the sweep started; got {here.get(name, 'none')}{more};"
            " install the same lock on every node",
            unfit=True,
        )


def python_version() -> str:
    """The version of this Python, such as 3.11.7."""
    return ".".join(map(str, sys.version_info[:3]))


def _open_scratch(name: str) -> Path:
    """The folder for clones on this node, which belongs to this user alone. Raises TaskError where it is another's."""
    scratch = Path(name or Path(tempfile.gettempdir(), f"sweeps-{os.getuid()}"))
    if not make_private(scratch):
        raise TaskError(
            f"{scratch}: must be a folder that only its user, {os.getuid()}, can write to; choose another one with"
            " --scratch",
            unfit=True,
        )
    return scratch


def make_private(folder: Path) -> bool:
    """Make a folder if it is absent. Returns whether only this user can write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    return not (folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022)


@contextmanager
def _new_clone(scratch: Path, task: Task) -> Iterator[tuple[Path, dict[str, str]]]:
    """A new folder for one clone, locked and guarded, and the environment of all that works there.

    When the block ends, nothing that was started in it is left, and the folder is gone.
    """
    with _locked(scratch / "clones.lock"):  # no other task takes the folder for a stale one before it is locked
        folder = Path(tempfile.mkdtemp(prefix="clone-", dir=scratch))
        claim = (folder / "lock").open("w")
        fcntl.flock(claim, fcntl.LOCK_EX)
    (folder / "clone").mkdir()
    guarding = subprocess.Popen(
        [sys.executable, "-c", task["source"], GUARD, folder.name, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what kills this process group must not kill its guard
    )
    try:
        yield folder, _environment(task, folder.name)
    finally:
        if guarding.stdin:
            guarding.stdin.close()
        guarding.wait()
        claim.close()


def guard(mark: str, folder: Path) -> None:
    """Wait until stdin ends, then kill all processes that have `mark` in their environment and remove the folder."""
    import psutil  # only here: a tenth of a second

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm sends it to all processes of a job that it ends
    sys.stdin.read()
    while True:
        marked = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == mark:
                    process.kill()
                    marked.append(process)
        if not marked:
            break
        psutil.wait_procs(marked, timeout=1)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_clones(scratch: Path) -> None:
    """Remove the clones of tasks that are gone: a node that was switched off could not do it."""
    with _locked(scratch / "clones.lock"):
        for folder in scratch.glob("clone-*"):
            with suppress(OSError), (folder / "lock").open("a") as claim:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where its task lives
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that one process of this node can hold."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _environment(task: Task, mark: str) -> dict[str, str]:
    """The environment of git and DVC: the packages of this Python, no question, no report, host keys checked."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    people = {
        f"GIT_{role}_{key.upper()}": task["identity"][key]
        for role in ("AUTHOR", "COMMITTER")
        for key in ("name", "email")
    }
    fixed = {"PATH": path, MARK: mark, "GIT_TERMINAL_PROMPT": "0", "DVC_NO_ANALYTICS": "1", **people}
    return {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes", **os.environ, **fixed}


class _Caller:
    """Runs commands in a clone."""

    def __init__(self, cwd: Path, environment: dict[str, str], scratch: Path) -> None:
        self.cwd, self.environment, self.scratch = cwd, environment, scratch

    def __call__(self, *command: str, lasting: bool = False) -> str:
        """Run a command and return its stdout. lasting: repeat it for PATIENCE seconds while it fails.

        A full disk does not become empty by itself, so there nothing is repeated.
        Raises TaskError with the line that says why it failed.
        """
        start = time.monotonic()
        for attempt in range(10**6):
            ended = subprocess.run(
                command,
                cwd=self.cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            if not ended.returncode:
                return ended.stdout
            full = shutil.disk_usage(self.scratch).free < MIN_FREE
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            if not lasting or full or time.monotonic() - start + pause > PATIENCE:
                break
            time.sleep(pause)
        lines = [line.rstrip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()][-LOG_LINES:]
        reason = find_reason(lines) if lines else f"exit status {ended.returncode}"
        raise TaskError(f"{' '.join(command[:2])}: {reason}", lines, unfit=full)


def find_reason(lines: Sequence[str]) -> str:
    """The line of a failed experiment's log that says why it failed: the last one that is not DVC's summary."""
    own = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    return (own or lines)[-1].strip()


def _fetch_shared(call: _Caller, task: Task, scratch: Path) -> None:
    """Bring the outputs of the shared stages into the clone: over the network once for a node, then by links."""
    store = scratch / f"shared-{hashlib.sha256(task['hub'].encode()).hexdigest()[:16]}"
    if task["shared"]:
        with _locked(scratch / f"{store.name}.lock"):
            _configure(call.cwd, task, {"dir": str(store)})
            call("dvc", "pull", f"--remote={task['remote']}", *task["shared"], lasting=True)
            _link_files(store, call.cwd / ".dvc" / "cache")  # what the experiment adds is not kept on the node
    _configure(call.cwd, task, {})


def _configure(clone: Path, task: Task, cache: Mapping[str, str]) -> None:
    """Tell DVC in a clone of the remote, and of its cache."""
    from dvc.config import Config  # only here: half a second

    with Config(str(clone / ".dvc")).edit("local") as local:
        local["remote"][task["remote"]] = task["remote_config"]
        local["cache"] = cache


def _link_files(source: Path, target: Path) -> None:
    """Repeat a folder with hard links, or with copies where there are none."""
    shutil.copytree(source, target, copy_function=_link_file, dirs_exist_ok=True)


def _link_file(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def experiments_of(commit: str) -> str:
    """Where git's references to the experiments that start from a commit are, as DVC names it."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/"


def _reference(task: Task) -> str:
    """The reference of the experiment."""
    return experiments_of(task["commit"]) + task["name"]


def _is_done(call: _Caller, task: Task) -> bool:
    """Whether the hub has the experiment."""
    return bool(call("git", "ls-remote", "origin", _reference(task), lasting=True).strip())


if __name__ == "__main__":
    main()
