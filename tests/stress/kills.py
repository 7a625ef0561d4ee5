"""`python -m tests.stress.kills --trials 50`: `dvc repro` is killed at random moments, then run to its end.

Each trial starts from a fresh copy of the working tree with a configuration of seconds and no cache, starts
`dvc repro`, kills it, runs `dvc repro` once more and compares every output, byte by byte, and dvc.lock with those
of an undisturbed run.

With --power, each trial runs on an ext4 file system in a file. What that file holds at a moment is what a disk
would hold: whatever the kernel has not yet written is lost. A copy of the file taken at that moment is mounted,
`python -m tools.repair` looks through DVC's cache, and `dvc repro` runs again. Needs root, loop devices and mkfs.ext4.
Results: docs/reliability.md.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run
from tests.stress.folder_contents import list_differences, read_files
from tools.workspace import commands
from tools.workspace.copies import commit_all, copy_working_tree
from tools.workspace.params_file import write_params

EPOCHS = 10  # so that a kill finds training in an epoch about as often as in its imports
SMALL = {"latent_dim": 4, "download.dataset": "digits", "embed.map": "none", "train.architecture": "mlp"}
SMALL |= {"train.mlp.widths": [16], "train.epochs": EPOCHS, "train.batch_size": 32, "train.learning_rate": 0.01}
LEFT_OUT = ("metrics/", "plots/", "docs/", "tests/", "dvc.lock")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VICTIMS = ("group", "stage", "dvc")  # all processes, the stage alone, dvc alone so that the stage goes on
MAX_RUN_SECONDS = 3600  # a longer run hangs, even on a busy machine
DISK_BYTES = 2**28  # of the file system; its holes take no room


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress.kills", description="dvc repro is killed at random moments, then run to its end."
    )
    parser.add_argument("--power", action="store_true", help="lose what is not yet on the disk too")
    parser.add_argument("--trials", type=int, help="default: 50, with --power 20")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--before", default="", help="put before each dvc command: taskset -c 1 nice")
    options = parser.parse_args()
    trials = options.trials if options.trials is not None else (20 if options.power else 50)
    if options.power and (obstacle := find_power_obstacle()):
        raise UserError(f"kills: {obstacle}; leave out --power")
    chance = random.Random(options.seed)  # noqa: S311  moments, no secrets
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        try_trials = try_power_losses if options.power else try_kills
        wrong = try_trials(Path(name), trials, chance, options.before)
    print(f"{trials - wrong} of {trials} trials gave the outputs of the undisturbed run")
    if wrong:
        raise UserError(
            f"kills: every trial must give the outputs of the undisturbed run; {wrong} of {trials} did not, see above"
        )


def try_kills(folder: Path, trials: int, chance: random.Random, before: str) -> int:
    """Kill `dvc repro` so many times, each in a copy of its own; the number of trials that ended in other outputs."""
    template = make_template(folder / "template")
    with temporary_copy(template, folder / "undisturbed") as world:
        seconds, expected = run_undisturbed(world, before)
    hit_stages: Counter[str] = Counter()
    wrong = resumed = 0
    for trial in range(trials):
        number, victim = SIGNALS[trial % 3], VICTIMS[trial // 3 % 3]
        moment = chance.uniform(1, seconds)
        with temporary_copy(template, folder / "trial") as world:
            stage = kill_repro(world, before, moment, number, victim)
            ended = run_repro(world, before)
            fault = describe_fault(expected, read_outputs(world), ended)
        training_resumed = "resumes after epoch" in ended.stdout
        wrong, resumed = wrong + bool(fault), resumed + training_resumed
        hit_stages[stage] += 1
        print(
            f"{trial + 1}/{trials} {signal.Signals(number).name} to {victim} after {moment:.1f} s, in {stage}:"
            f" {fault or 'the same'}" + (", training resumed" if training_resumed else ""),
            flush=True,
        )
        if fault:
            print(ended.stdout[-3000:], flush=True)
    print(f"hit: {', '.join(f'{name} {count}' for name, count in hit_stages.most_common())}; resumed: {resumed}")
    return wrong


def try_power_losses(folder: Path, trials: int, chance: random.Random, before: str) -> int:
    """Lose power so many times, each on a file system of its own; the number of trials that ended in other outputs."""
    template = make_template(folder / "template")
    start_disk, disk, lost_disk, mount_point = (folder / name for name in ("start", "disk", "lost", "mounted"))
    mount_point.mkdir()
    world = mount_point / "world"
    make_disk(start_disk)
    with mounted(start_disk, mount_point):
        shutil.copytree(template, world, symlinks=True)
    copy_disk(start_disk, disk)
    with mounted(disk, mount_point):
        seconds, expected = run_undisturbed(world, before)
    wrong = 0
    for trial in range(trials):
        moment = chance.uniform(1, seconds)
        copy_disk(start_disk, disk)
        with mounted(disk, mount_point):
            copy_disk_during_repro(world, before, moment, disk, lost_disk)
        with mounted(lost_disk, mount_point):
            repaired = commands.run([sys.executable, "-m", "tools.repair"], cwd=world)
            ended = run_repro(world, before)
            fault = describe_fault(expected, read_outputs(world), ended)
        wrong += bool(fault)
        outcome = f"{fault}\n{ended.stdout[-3000:]}" if fault else "the same"
        print(
            f"{trial + 1}/{trials} power lost after {moment:.1f} s, {commands.last_line(repaired, '')}: {outcome}",
            flush=True,
        )
    return wrong


def make_template(folder: Path) -> Path:
    """A repository with the working tree's files, SMALL in params.yaml, no results and no cache."""
    copy_working_tree(folder, without=LEFT_OUT)
    write_params(folder / "params.yaml", SMALL, source=folder / "params.yaml")
    commit_all(folder)
    return folder


@contextmanager
def temporary_copy(template: Path, folder: Path) -> Iterator[Path]:
    """A copy of the template, removed in the end."""
    shutil.copytree(template, folder, symlinks=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_undisturbed(world: Path, before: str) -> tuple[float, dict[str, bytes]]:
    """Seconds and outputs of a `dvc repro` that nothing disturbs. Raises UserError where it fails."""
    start = time.monotonic()
    ended = run_repro(world, before)
    seconds = time.monotonic() - start
    if ended.returncode:
        raise UserError(f"kills: the undisturbed run failed: {ended.stdout[-500:]}")
    outputs = read_outputs(world)
    print(f"undisturbed: {seconds:.1f} s, {len(outputs)} files", flush=True)
    return seconds, outputs


def start_repro(world: Path, before: str) -> subprocess.Popen[str]:
    """`dvc repro` in a session of its own, with this Python's folder first on PATH."""
    return subprocess.Popen(
        [*before.split(), "dvc", "repro"],
        cwd=world,
        env=commands.worker_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_repro(world: Path, before: str) -> subprocess.CompletedProcess[str]:
    """`dvc repro` to its end, with all that it prints."""
    process = start_repro(world, before)
    output, _ = process.communicate(timeout=MAX_RUN_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def kill_repro(world: Path, before: str, moment: float, number: signal.Signals, victim: str) -> str:
    """Start `dvc repro`, send a signal after `moment` seconds, and return the stage that it hit, else `dvc itself`."""
    process = start_repro(world, before)
    time.sleep(moment)
    stages = [child for child in list_children(process.pid) if "-m stages." in " ".join(read_command(child))]
    stage = read_command(stages[0])[-1].rpartition(".")[2] if stages else "dvc itself"
    with suppress(ProcessLookupError):
        if victim == "group":
            os.killpg(process.pid, number)
        elif victim == "stage" and stages:
            os.kill(stages[-1].pid, number)
        else:
            os.kill(process.pid, number)
    if victim == "dvc" and number == signal.SIGKILL:
        process.wait(MAX_RUN_SECONDS)  # its stage, if any, goes on beside the next run
    else:
        process.communicate(timeout=MAX_RUN_SECONDS)
    return stage


def list_children(pid: int) -> list[psutil.Process]:
    """All processes below one, none where it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def read_command(process: psutil.Process) -> list[str]:
    """The command line of a process, empty where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def read_outputs(world: Path) -> dict[str, bytes]:
    """Every file that a run leaves outside .git and .dvc: results, each stage in dvc.lock, and leftovers, if any."""
    files = read_files(world, without=(".git/", ".dvc/"))
    outputs = {name: content for name, content in files.items() if "__pycache__" not in name}
    lock = YAML(typ="safe").load(outputs.pop("dvc.lock", b"{}")) or {}
    return outputs | {f"dvc.lock {name}": repr(entry).encode() for name, entry in lock.get("stages", {}).items()}


def describe_fault(
    expected: Mapping[str, bytes], outputs: Mapping[str, bytes], ended: subprocess.CompletedProcess[str]
) -> str:
    """What is wrong after a run to the end: its status and what differs; empty where all is as undisturbed."""
    differing = list_differences(expected, outputs)
    if ended.returncode or differing or "Traceback" in ended.stdout:
        return f"status {ended.returncode}, differ: {differing}"
    return ""


def find_power_obstacle() -> str | None:
    """What keeps this machine from mounting file systems, None if nothing does."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        return "must be run by root, with mkfs.ext4, to mount file systems"
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        disk, mount_point = Path(name, "disk"), Path(name, "mounted")
        mount_point.mkdir()
        try:
            make_disk(disk)
            with mounted(disk, mount_point):
                return None
        except UserError as error:
            return f"must be able to mount file systems; {error}"


def make_disk(path: Path) -> None:
    """A file with an empty ext4 file system."""
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    commands.run(["mkfs.ext4", "-q", path])


def copy_disk(source: Path, target: Path) -> None:
    """Copy the bytes of a file as they are now, its holes kept."""
    commands.run(["cp", "--sparse=always", source, target])


def copy_disk_during_repro(world: Path, before: str, moment: float, disk: Path, copy: Path) -> None:
    """Start `dvc repro`, copy the disk that it runs on after `moment` seconds, and kill it."""
    process = start_repro(world, before)
    time.sleep(moment)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGSTOP)
    copy_disk(disk, copy)
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextmanager
def mounted(disk: Path, mount_point: Path) -> Iterator[None]:
    """The file system in a file, mounted; its journal is replayed first, as after a crash."""
    commands.run(["mount", "-o", "loop", disk, mount_point])
    try:
        yield
    finally:
        commands.run(["umount", mount_point])


if __name__ == "__main__":
    run(main)
