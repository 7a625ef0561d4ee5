"""`python -m tests.stress.kills --trials 50`: `dvc repro` is killed at random moments, then run to its end.

Each trial copies the working tree without its results, with a folder of images and a configuration that takes
seconds. It starts `dvc repro`, kills it, and runs `dvc repro` once more. Every output, byte by byte, and dvc.lock must
be as after an undisturbed run. If DVC stops at a lock of its own that the kill has cut short, the trial removes it as
`python -m tools.repair` does, and says so.

With --power, each trial runs on an ext4 file system in a file. At any moment, that file holds what a disk would hold,
without what the kernel has not yet written. The trial copies the file at a random moment, mounts the copy, repairs
DVC's cache with `python -m tools.repair`, and runs `dvc repro` once more. Needs root, loop devices and mkfs.ext4.
Results: docs/reliability.md.
"""

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

import numpy as np
import psutil
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tests.stress.folder_contents import list_differences, read_files
from tools import repair
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import commit_all, copy_working_tree
from tools.workspace.params_file import write_params

EPOCHS = 10  # the epochs then take about as long as the imports, so kills hit both
SMALL = {"latent_dim": 4, "embed.map": "none", "train.architecture": "mlp"}
SMALL |= {"download.dataset": "folder", "download.folder": "photos", "download.colour": "grey"}
SMALL |= {"train.mlp.widths": [16], "train.epochs": EPOCHS, "train.batch_size": 32, "train.learning_rate": 0.01}
NOT_COPIED = ("metrics/", "plots/", "docs/", "tests/", "dvc.lock")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VICTIMS = ("group", "stage", "dvc")  # all processes; the stage alone; dvc alone, so that its stage goes on
MAX_RUN_SECONDS = 3600  # a run that takes longer hangs, even on a busy machine
DISK_BYTES = 2**28  # of the file system; the file is sparse


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tests.stress.kills", description="Kill dvc repro at random moments, then run it to its end."
    )
    parser.add_argument("--power", action="store_true", help="lose power instead: what is not yet on the disk is lost")
    parser.add_argument("--trials", type=int, help="default: 50, with --power 20")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--before", default="", help="words put before each dvc command, such as: taskset -c 1 nice")
    options = parser.parse_args()
    trials = options.trials if options.trials is not None else (20 if options.power else 50)
    if trials < 1:
        raise UserError(f"kills: --trials must be at least 1; got {trials}")
    if options.power and (obstacle := find_power_obstacle()):
        raise UserError(f"kills: {obstacle}; leave out --power")
    rng = random.Random(options.seed)  # noqa: S311  moments, not secrets
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        template = make_template(Path(name, "template"))
        try_trials = try_power_losses if options.power else try_kills
        faults = try_trials(template, Path(name), trials, rng, options.before)
    print(f"{trials - faults} of {trials} trials gave the outputs of the undisturbed run")
    if faults:
        raise UserError(
            f"kills: every trial must give the outputs of the undisturbed run; {faults} of {trials} did not, see above"
        )


def try_kills(template: Path, folder: Path, trials: int, rng: random.Random, before: str) -> int:
    """Kill `dvc repro` in `trials` copies of the template, below `folder`; returns how many trials had a fault."""
    with temporary_copy(template, folder / "undisturbed") as checkout:
        seconds, expected = run_undisturbed(checkout, before)
    hit_stages: Counter[str] = Counter()
    faults = resumed = 0
    for trial in range(trials):
        signal_number, victim = SIGNALS[trial % 3], VICTIMS[trial // 3 % 3]
        moment = rng.uniform(1, seconds)
        with temporary_copy(template, folder / "trial") as checkout:
            stage = kill_repro(checkout, before, moment, signal_number, victim)
            repro = run_repro(checkout, before)
            repaired = repro.returncode != 0 and remove_damaged_locks(checkout)
            if repaired:
                repro = run_repro(checkout, before)
            fault = describe_fault(expected, read_outputs(checkout), repro)
        training_resumed = "resumes after epoch" in repro.stdout
        faults, resumed = faults + bool(fault), resumed + training_resumed
        hit_stages[stage] += 1
        print(
            f"{trial + 1}/{trials} {signal.Signals(signal_number).name} to {victim} after {moment:.1f} s, in {stage}:"
            f" {fault or 'the same'}"
            + (", after a repair" if repaired else "")
            + (", training resumed" if training_resumed else ""),
            flush=True,
        )
        if fault:
            print(repro.stdout[-3000:], flush=True)
    print(f"hit: {', '.join(f'{name} {count}' for name, count in hit_stages.most_common())}; resumed: {resumed}")
    return faults


def try_power_losses(template: Path, folder: Path, trials: int, rng: random.Random, before: str) -> int:
    """Lose power `trials` times, each on a file system of its own; returns how many trials had a fault.

    template: is copied to each file system. folder: of the files that hold them, and of the mount point.
    """
    start_disk, disk, lost_disk, mount_point = (folder / name for name in ("start", "disk", "lost", "mount"))
    mount_point.mkdir()
    checkout = mount_point / "checkout"
    make_disk(start_disk)
    with mount_disk(start_disk, mount_point):
        shutil.copytree(template, checkout, symlinks=True)
    copy_disk(start_disk, disk)
    with mount_disk(disk, mount_point):
        seconds, expected = run_undisturbed(checkout, before)
    faults = 0
    for trial in range(trials):
        moment = rng.uniform(1, seconds)
        copy_disk(start_disk, disk)
        with mount_disk(disk, mount_point):
            copy_disk_during_repro(checkout, before, moment, disk, lost_disk)
        with mount_disk(lost_disk, mount_point):
            repair_log = commands.run([sys.executable, "-m", "tools.repair"], cwd=checkout)
            repro = run_repro(checkout, before)
            fault = describe_fault(expected, read_outputs(checkout), repro)
        faults += bool(fault)
        outcome = f"{fault}\n{repro.stdout[-3000:]}" if fault else "the same"
        print(
            f"{trial + 1}/{trials} power lost after {moment:.1f} s, {commands.last_line(repair_log, '')}: {outcome}",
            flush=True,
        )
    return faults


def make_template(folder: Path) -> Path:
    """Make a repository of the working tree's files, with SMALL in params.yaml, without results and cache.

    Its images are scikit-learn's digits, as a folder of PNG files.
    """
    copy_working_tree(folder, without=NOT_COPIED)
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / f"photos/{label}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(path)
    write_params(folder / "params.yaml", SMALL, source=folder / "params.yaml")
    commit_all(folder)
    return folder


@contextmanager
def temporary_copy(template: Path, folder: Path) -> Iterator[Path]:
    """A copy of the template, removed at the end."""
    shutil.copytree(template, folder, symlinks=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_undisturbed(checkout: Path, before: str) -> tuple[float, dict[str, bytes]]:
    """The seconds and outputs of a `dvc repro` that nothing disturbs. Raises UserError if it fails."""
    start = time.monotonic()
    repro = run_repro(checkout, before)
    seconds = time.monotonic() - start
    if repro.returncode:
        raise UserError(f"kills: the undisturbed run failed: {repro.stdout[-500:]}")
    outputs = read_outputs(checkout)
    print(f"undisturbed: {seconds:.1f} s, {len(outputs)} files", flush=True)
    return seconds, outputs


def start_repro(checkout: Path, before: str) -> subprocess.Popen[str]:
    """Start `dvc repro` in a session of its own, with this Python's folder first on PATH."""
    return subprocess.Popen(
        [*before.split(), "dvc", "repro"],
        cwd=checkout,
        env=commands.worker_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_repro(checkout: Path, before: str) -> subprocess.CompletedProcess[str]:
    """Run `dvc repro` to its end; its stderr is part of stdout."""
    process = start_repro(checkout, before)
    output, _ = process.communicate(timeout=MAX_RUN_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def kill_repro(checkout: Path, before: str, moment: float, signal_number: signal.Signals, victim: str) -> str:
    """Start `dvc repro`, send a signal after `moment` seconds, and return the stage that ran, or "dvc itself"."""
    process = start_repro(checkout, before)
    time.sleep(moment)
    stages = [child for child in list_children(process.pid) if "-m stages." in " ".join(read_command(child))]
    stage = read_command(stages[0])[-1].rpartition(".")[2] if stages else "dvc itself"
    with suppress(ProcessLookupError):
        if victim == "group":
            os.killpg(process.pid, signal_number)
        elif victim == "stage" and stages:
            os.kill(stages[-1].pid, signal_number)
        else:
            os.kill(process.pid, signal_number)
    if victim == "dvc" and signal_number == signal.SIGKILL:
        process.wait(MAX_RUN_SECONDS)  # its stage, if any, goes on during the next run
    else:
        process.communicate(timeout=MAX_RUN_SECONDS)
    return stage


def list_children(pid: int) -> list[psutil.Process]:
    """All descendants of a process; none if it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def read_command(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def remove_damaged_locks(checkout: Path) -> bool:
    """Remove the locks at which DVC stops, as tools.repair does; returns whether there were any."""
    damaged = list(repair.damaged_locks(checkout))
    for path in damaged:
        path.unlink()
    return bool(damaged)


def read_outputs(checkout: Path) -> dict[str, bytes]:
    """{name: content} of all files outside .git and .dvc, leftovers included; each stage in dvc.lock is one entry."""
    files = read_files(checkout, without=(".git/", ".dvc/"))
    outputs = {name: content for name, content in files.items() if "__pycache__" not in name}
    lock = YAML(typ="safe").load(outputs.pop("dvc.lock", b"{}")) or {}
    return outputs | {f"dvc.lock {name}": repr(entry).encode() for name, entry in lock.get("stages", {}).items()}


def describe_fault(
    expected: Mapping[str, bytes], outputs: Mapping[str, bytes], repro: subprocess.CompletedProcess[str]
) -> str:
    """The exit status and the outputs that differ from those of the undisturbed run; empty if nothing is wrong."""
    differing = list_differences(expected, outputs)
    if repro.returncode or differing or "Traceback" in repro.stdout:
        return f"status {repro.returncode}, differ: {differing}"
    return ""


def find_power_obstacle() -> str | None:
    """What keeps this machine from mounting file systems; None if nothing does."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        return "must be run by root and with mkfs.ext4, to mount file systems"
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        disk, mount_point = Path(name, "disk"), Path(name, "mount")
        mount_point.mkdir()
        try:
            make_disk(disk)
            with mount_disk(disk, mount_point):
                return None
        except UserError as error:
            return f"must be able to mount file systems; {error}"


def make_disk(path: Path) -> None:
    """Make a file with an empty ext4 file system."""
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    commands.run(["mkfs.ext4", "-q", path])


def copy_disk(source: Path, target: Path) -> None:
    """Copy a file as it is now; the copy is sparse."""
    commands.run(["cp", "--sparse=always", source, target])


def copy_disk_during_repro(checkout: Path, before: str, moment: float, disk: Path, copy: Path) -> None:
    """Start `dvc repro`, stop it after `moment` seconds, copy the disk that it runs on, and kill it."""
    process = start_repro(checkout, before)
    time.sleep(moment)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGSTOP)
    copy_disk(disk, copy)
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextmanager
def mount_disk(disk: Path, mount_point: Path) -> Iterator[None]:
    """Mount the file system in a file until the block ends. The kernel replays its journal first, as after a crash."""
    commands.run(["mount", "-o", "loop", disk, mount_point])
    try:
        yield
    finally:
        commands.run(["umount", mount_point])


if __name__ == "__main__":
    run_main(main)
