"""`python -m tools.power --trials 20`: power is lost at random moments of the pipeline, which is then run to its end.

Each trial runs `dvc repro` on an ext4 file system in a file. What that file holds at a moment is what a disk would
hold: whatever the kernel had not yet written is lost. A copy of the file taken at that moment is mounted, tools.mend
looks through DVC's cache, `dvc repro` runs again and every output is compared with those of an undisturbed run.
Needs root, loop devices and mkfs.ext4.
What was found stands in docs/reliability.md.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.autoencoder.errors import UserError, run
from tools import faults

SIZE = 2**28  # bytes of the file system; holes take no room


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.power", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--before", default="", help="put before each dvc command: taskset -c 1 nice")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        raise UserError("power: must be run by root, with mkfs.ext4: it mounts file systems; use tools.faults instead")
    with tempfile.TemporaryDirectory(prefix="power-") as name:
        trials(Path(name), options)


def trials(folder: Path, options: argparse.Namespace) -> None:
    """All trials. Raises UserError where one ended in other outputs."""
    template = faults.clone(folder / "template")
    full, disk, lost, place = (folder / name for name in ("full", "disk", "lost", "mounted"))
    place.mkdir()
    with full.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", full], check=True)
    with mounted(full, place):
        shutil.copytree(template, place / "world", symlinks=True)
    copy(full, disk)
    with mounted(disk, place):
        start = time.monotonic()
        faults.repro(place / "world", options.before)
        length = time.monotonic() - start
        wanted = faults.outputs(place / "world")
    print(f"undisturbed: {length:.1f} s, {len(wanted)} files", flush=True)
    chance = random.Random(options.seed)  # noqa: S311  moments, no secrets
    wrong = 0
    for trial in range(options.trials):
        moment = chance.uniform(1, length)
        copy(full, disk)
        with mounted(disk, place):
            process = faults.start(place / "world", options.before)
            time.sleep(moment)
            running = process.poll() is None
            if running:
                os.killpg(process.pid, signal.SIGSTOP)
            copy(disk, lost)
            if running:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        with mounted(lost, place):
            mended = subprocess.check_output([sys.executable, "-m", "tools.mend"], cwd=place / "world", text=True)
            ended = faults.repro(place / "world", options.before)
            found = faults.outputs(place / "world")
        bad = faults.fault(wanted, found, ended)
        wrong += bool(bad)
        outcome = f"{bad}\n{ended.stdout[-3000:]}" if bad else "the same"
        print(
            f"{trial + 1}/{options.trials} power lost after {moment:.1f} s, {mended.splitlines()[-1]}: {outcome}",
            flush=True,
        )
    print(f"{options.trials} trials, {options.trials - wrong} times the outputs of the undisturbed run")
    if wrong:
        raise UserError(f"power: {wrong} of {options.trials} trials ended in other outputs, see above")


def copy(source: Path, target: Path) -> None:
    """The bytes of a file as they are now, holes kept."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    """The file system in `image`, at `place`; its journal is replayed first, as after a crash."""
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


if __name__ == "__main__":
    run(main)
