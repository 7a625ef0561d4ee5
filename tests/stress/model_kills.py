"""`python -m tests.stress.model_kills --trials 27`: tools.model is killed at random moments, then run again.

Each trial runs a verb on a folder of images, in a folder with an untrained model, and sends a signal to it. Then its
output must be absent or that of an undisturbed run; after another run of the same it must be there, byte by byte, no
temporary file may be left, and no process that decodes images may live on. Results: docs/reliability.md.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.runtime.command import run_main
from tests.stress.folder_contents import list_differences, read_files
from tests.stress.kills import SIGNALS, list_children
from tests.support import model_files
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT

IMAGES = 5000
VERBS = (
    ("encode", "photos", "--out", "codes.csv"),
    ("score", "photos", "--out", "scores.parquet"),
    ("reconstruct", "photos", "--out", "pictures"),
)
MAX_SECONDS = 60  # until the processes that decode have noticed that their parent is gone


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tests.stress.model_kills", description="Kill tools.model at random moments, then run it again."
    )
    parser.add_argument("--trials", type=int, default=27, help="nine cover each verb and signal once (default: 27)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    options = parser.parse_args()
    if options.trials < 1:
        raise UserError(f"model_kills: --trials must be at least 1; got {options.trials}")
    with tempfile.TemporaryDirectory(prefix="model-kills-") as name:
        make_inputs(Path(name), IMAGES)
        faults = try_kills(Path(name), options.trials, random.Random(options.seed))  # noqa: S311  moments, not secrets
    print(f"{options.trials - faults} of {options.trials} trials left a whole output or none")
    if faults:
        raise UserError(f"model_kills: every trial must leave a whole output or none; {faults} did not, see above")


def make_inputs(folder: Path, count: int) -> None:
    """Make a model and a folder of images for it."""
    torch.manual_seed(0)
    model_files.save(folder / "data/model.safetensors", Autoencoder(Spec((1, 8, 8), 3, (), (8,), Bottleneck.LINEAR)))
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / f"photos/{number}.png")


def try_kills(folder: Path, trials: int, rng: random.Random) -> int:
    """Kill each verb in turn; returns how many trials had a fault."""
    expected, seconds = {}, {}
    for verb in VERBS:
        start = time.monotonic()
        start_verb(verb, folder).communicate()
        seconds[verb], expected[verb] = time.monotonic() - start, read_outputs(folder)
        if not expected[verb]:
            raise UserError(f"model_kills: the undisturbed run of {verb[0]} wrote nothing")
        remove_outputs(folder)
    faults = 0
    for trial in range(trials):
        verb, number = VERBS[trial % len(VERBS)], SIGNALS[trial // len(VERBS) % len(SIGNALS)]
        moment = rng.uniform(0.2, seconds[verb])
        fault = try_kill(verb, folder, moment, number, expected[verb])
        remove_outputs(folder)
        faults += bool(fault)
        name = signal.Signals(number).name
        print(
            f"{trial + 1}/{trials} {name} to {verb[0]} after {moment:.1f} s: {fault or 'whole or absent'}", flush=True
        )
    return faults


def try_kill(
    verb: Sequence[str], folder: Path, moment: float, number: signal.Signals, expected: dict[str, bytes]
) -> str:
    """What was wrong; empty if nothing was. expected: {name: content} of the outputs of an undisturbed run."""
    process = start_verb(verb, folder)
    time.sleep(moment)
    workers = list_children(process.pid)
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
    printed = process.communicate()[0]
    _, alive = psutil.wait_procs(workers, MAX_SECONDS)
    outputs = read_outputs(folder)
    visible = {name: content for name, content in outputs.items() if not name.startswith(".")}
    if alive or "Traceback" in printed or (visible and visible != expected):
        return f"{len(alive)} processes live on, {sorted(visible)[:3]} are there; {printed[-300:]}"
    if not visible:
        again = start_verb(verb, folder)
        printed = again.communicate()[0]
        if again.returncode or (differ := list_differences(expected, read_outputs(folder))):
            return f"the run after it: status {again.returncode}, differ: {differ}; {printed[-300:]}"
    return ""


def start_verb(verb: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    """Start tools.model; its stderr is part of stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tools.model", *verb, "--device", "cpu"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read_outputs(folder: Path) -> dict[str, bytes]:
    """{name: content} of all that is there beside the inputs, temporary files included."""
    return read_files(folder, without=("photos/", "data/"))


def remove_outputs(folder: Path) -> None:
    """Remove all that is there beside the inputs."""
    for path in folder.iterdir():
        if path.name not in ("photos", "data"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    run_main(main)
