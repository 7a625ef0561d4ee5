"""`python -m tools.faults kill --trials 50`: the pipeline is killed at random moments, then run to its end.

Each trial starts from a fresh clone of the working tree with a configuration of seconds and no cache, starts
`dvc repro`, kills it, runs `dvc repro` once more and compares every output, byte by byte, and dvc.lock with
those of an undisturbed run. What was found stands in docs/reliability.md.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from stages.autoencoder.errors import UserError, run
from tools import ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 10  # so that a kill finds training in an epoch about as often as in its imports
SMALL = {"latent_dim": 4, "download.dataset": "digits", "embed.map": "none", "train.architecture": "mlp"}
SMALL |= {"train.mlp.widths": [16], "train.epochs": EPOCHS, "train.batch_size": 32, "train.rate": 0.01}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VICTIMS = ("group", "stage", "dvc")  # all processes, the stage alone, dvc alone so that the stage goes on
PATIENCE = 3600  # seconds after which a run hangs, on a machine that is busy with other things


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__.splitlines()[0])
    parser.add_argument("fault", choices=["kill"])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--before", default="", help="put before each dvc command: taskset -c 1 nice")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        kill(Path(folder), options)


def kill(folder: Path, options: argparse.Namespace) -> None:
    """The trials of `kill`. Raises UserError where one ended in other outputs."""
    template = clone(folder / "template")
    with copied(template, folder / "undisturbed") as world:
        start = time.monotonic()
        ended = repro(world, options.before)
        length = time.monotonic() - start
        if ended.returncode:
            raise UserError(f"the undisturbed run failed: {ended.stdout[-500:]}")
        wanted = outputs(world)
        print(f"undisturbed: {length:.1f} s, {len(wanted)} files", flush=True)
    chance = random.Random(options.seed)  # noqa: S311  moments, no secrets
    hit: Counter[str] = Counter()
    wrong = resumed = 0
    for trial in range(options.trials):
        number, victim = SIGNALS[trial % 3], VICTIMS[trial // 3 % 3]
        moment = chance.uniform(1, length)
        with copied(template, folder / "trial") as world:
            stage = disturb(world, options.before, moment, number, victim)
            ended = repro(world, options.before)
            found = outputs(world)
        bad = fault(wanted, found, ended)
        goes_on = "goes on after epoch" in ended.stdout
        wrong, resumed = wrong + bool(bad), resumed + goes_on
        hit[stage] += 1
        print(
            f"{trial + 1}/{options.trials} {signal.Signals(number).name} to {victim} after {moment:.1f} s, in {stage}:"
            f" {bad or 'the same'}" + (", training went on" if goes_on else ""),
            flush=True,
        )
        if bad:
            print(ended.stdout[-3000:], flush=True)
    print(f"hit: {', '.join(f'{name} {count}' for name, count in hit.most_common())}; training went on in {resumed}")
    print(f"{options.trials} trials, {options.trials - wrong} times the outputs of the undisturbed run")
    if wrong:
        raise UserError(f"{wrong} of {options.trials} trials ended in other outputs, see above")


def fault(wanted: dict[str, bytes], found: dict[str, bytes], ended: subprocess.CompletedProcess[str]) -> str:
    """What is wrong after a run to the end: its status and what differs; empty where all is as undisturbed."""
    differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    bad = ended.returncode or differ or "Traceback" in ended.stdout
    return f"status {ended.returncode}, differ: {differ}" if bad else ""


def clone(folder: Path) -> Path:
    """A repository with the working tree's files, SMALL in params.yaml, no results and no cache."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "plots/", "docs/", "tests/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    for key, value in SMALL.items():
        *sections, last = key.split(".")
        place = params
        for section in sections:
            place = place[section]
        place[last] = value
    yaml.dump(params, folder / "params.yaml")
    for command in ("init -q", "add -A", "-c user.name=t -c user.email=t@example.org commit -qm start"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@contextmanager
def copied(template: Path, folder: Path) -> Iterator[Path]:
    """A copy of the template, removed in the end."""
    shutil.copytree(template, folder, symlinks=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(world: Path, before: str) -> subprocess.Popen[str]:
    """`dvc repro` in a session of its own, with this Python's folder first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    return subprocess.Popen(
        [*before.split(), "dvc", "repro"],
        cwd=world,
        env=ENVIRONMENT | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def repro(world: Path, before: str) -> subprocess.CompletedProcess[str]:
    """`dvc repro` to its end, with all that it prints."""
    process = start(world, before)
    output, _ = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def disturb(world: Path, before: str, moment: float, number: signal.Signals, victim: str) -> str:
    """Start `dvc repro` and send a signal after `moment` seconds; the stage that was running, else `dvc`."""
    process = start(world, before)
    time.sleep(moment)
    stages = [p for p in _below(process.pid) if "-m stages." in " ".join(_command(p))]
    stage = _command(stages[0])[-1].rpartition(".")[2] if stages else "dvc itself"
    with suppress(ProcessLookupError):
        if victim == "group":
            os.killpg(process.pid, number)
        elif victim == "stage" and stages:
            os.kill(stages[-1].pid, number)
        else:
            os.kill(process.pid, number)
    if victim == "dvc" and number == signal.SIGKILL:
        process.wait(PATIENCE)  # the stage, if any, goes on beside what comes next
    else:
        process.communicate(timeout=PATIENCE)
    return stage


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def outputs(world: Path) -> dict[str, bytes]:
    """Every file that a run leaves behind, DVC's own folder aside: results, dvc.lock, and what should not be there."""
    found = {}
    for path in sorted(world.rglob("*")):
        name = path.relative_to(world).as_posix()
        if path.is_file() and not name.startswith((".git/", ".dvc/")) and "__pycache__" not in name:
            found[name] = path.read_bytes()
    lock = YAML(typ="safe").load(found.pop("dvc.lock", b"{}")) or {}
    return found | {f"dvc.lock {name}": repr(entry).encode() for name, entry in lock.get("stages", {}).items()}


if __name__ == "__main__":
    run(main)
