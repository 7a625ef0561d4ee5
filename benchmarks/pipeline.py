"""`python -m benchmarks.pipeline stages | growth | numerics`: how the pipeline spends its seconds and memory.

stages: in a clone of the last commit, the seconds of `dvc repro` from nothing, of `dvc exp run -S latent_dim=4` and
of `dvc repro` with nothing to do, for each stage and for DVC; medians over --repeat clones.
Writes docs/performance/pipeline.csv.
growth: the seconds and memory of each stage, with one epoch of training, on the default images repeated 1, 4, 16 and
64 times (--times) and enlarged to 28, 56 and 112 pixels a side (--sides). Writes docs/performance/growth.csv.
numerics: trains the default mlp and conv with `numerics: portable` and `fast` in turn, each in a process of its own.
Prints the median seconds over --rounds and their ratio.
Run it on an idle machine. It prints the tables as Markdown.
"""

import argparse
import hashlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.packed_file import RAW
from stages.runtime.command import run_main
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params
from tools.workspace.pipeline_file import stage_names

PIPELINE, GROWTH = Path("docs/performance/pipeline.csv"), Path("docs/performance/growth.csv")
DVC_COMMANDS = ("dvc repro", "dvc exp run -S latent_dim=4", "dvc repro -q", "dvc --version")
# sitecustomize of every Python that DVC starts: at its end, each stage appends the seconds since its start
RECORD_SECONDS = """
import atexit, os, sys, time
def append_seconds(start=time.time()):
    if getattr(sys, "orig_argv", ["", ""])[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
        with open(os.environ["STAGE_SECONDS"], "a") as file:
            file.write(f"{sys.orig_argv[2]} {time.time() - start}\\n")
atexit.register(append_seconds)
"""


class Measurement(NamedTuple):
    """A finished command: its seconds, what it printed, and its peak memory in MiB."""

    seconds: float
    output: str
    memory: float


def main() -> None:
    options = parse_options()
    for name, value in vars(options).items():
        if isinstance(value, int) and value < 1:
            raise UserError(f"benchmarks.pipeline: --{name} must be at least 1; got {value}")
    with tempfile.TemporaryDirectory() as name:
        options.benchmark(Path(name), options)


def parse_options() -> argparse.Namespace:
    """The command line: a sub-command and its options."""
    parser = ArgumentParser(
        prog="python -m benchmarks.pipeline", description="Measure the pipeline's seconds and memory."
    )
    choices = parser.add_subparsers(required=True)
    stages = choices.add_parser("stages", help="seconds of each stage and of DVC")
    stages.add_argument("--repeat", type=int, default=3, help="number of clones (default: 3)")
    stages.set_defaults(benchmark=measure_stages)
    growth = choices.add_parser("growth", help="seconds and memory for more and larger images")
    growth.add_argument("--times", type=int, nargs="+", default=[1, 4, 16, 64], help="repeats of the default images")
    growth.add_argument("--sides", type=int, nargs="+", default=[28, 56, 112], help="pixels a side, multiples of 28")
    growth.set_defaults(benchmark=measure_growth)
    numerics = choices.add_parser("numerics", help="seconds of portable and fast numerics")
    numerics.add_argument("--rounds", type=int, default=5)
    numerics.add_argument("--epochs", type=int, default=3)
    numerics.set_defaults(benchmark=measure_numerics)
    return parser.parse_args()


def measure_stages(folder: Path, options: argparse.Namespace) -> None:
    """Write the table of seconds by command and part: medians over the clones."""
    rows = [row for number in range(options.repeat) for row in run_dvc_commands(folder / f"clone{number}")]
    write_table(PIPELINE, pd.DataFrame(rows).groupby(["command", "part"], sort=False).median().reset_index())


def measure_growth(folder: Path, options: argparse.Namespace) -> None:
    """Write the table of seconds and memory by number and size of images."""
    sizes = [(times, 28) for times in options.times] + [(1, side) for side in options.sides if side != 28]
    write_table(GROWTH, pd.DataFrame(row for size in sizes for row in run_stages_at_size(folder, *size)))


def measure_numerics(folder: Path, options: argparse.Namespace) -> None:
    """Print a line for each architecture: median seconds of portable and fast training, and their ratio."""
    for architecture in ("mlp", "conv"):
        places = {numerics: folder / f"{architecture}-{numerics}" for numerics in ("portable", "fast")}
        for numerics, place in places.items():
            prepare_folder(
                place, {"numerics": numerics, "train": {"architecture": architecture, "epochs": options.epochs}}
            )
            for stage in ("download", "split"):
                run_stage(stage, place)
        rounds = [
            {numerics: training_seconds(run_stage("train", place).output)[0] for numerics, place in places.items()}
            for _ in range(options.rounds)
        ]
        portable, fast = (statistics.median(seconds[numerics] for seconds in rounds) for numerics in places)
        ratios = [seconds["portable"] / seconds["fast"] for seconds in rounds]
        print(
            f"{architecture}: portable {portable:.2f} s, fast {fast:.2f} s, medians of {options.rounds};"
            f" ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}",
            flush=True,
        )


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write the table to a file and print it."""
    files.write(path, table.to_csv(index=False, float_format="%.2f").encode())
    print(table.to_markdown(index=False, floatfmt=".1f"))


def run_dvc_commands(clone: Path) -> Iterator[dict[str, Any]]:
    """Rows of command, part, seconds: each stage, with the seconds of its imports; the training loop; DVC, the rest."""
    commands.run(["git", "clone", "--quiet", ROOT, clone])
    (clone / "hook").mkdir()
    (clone / "hook/sitecustomize.py").write_text(RECORD_SECONDS)
    imports = {stage: measure_imports(clone, stage) for stage in stage_names()}
    seconds_file = clone / "seconds"
    environment = commands.worker_environment()
    environment |= {"PYTHONPATH": str(clone / "hook"), "STAGE_SECONDS": str(seconds_file)}
    for command in DVC_COMMANDS:
        seconds_file.write_text("")
        finished = measure_command(command.split(), clone, environment)
        lines = dict(line.split() for line in seconds_file.read_text().splitlines())
        seconds_by_stage = {module.removeprefix("stages."): float(seconds) for module, seconds in lines.items()}
        for stage, seconds in seconds_by_stage.items():
            yield {"command": command, "part": stage, "seconds": seconds, "imports": imports[stage]}
        for seconds in training_seconds(finished.output):
            yield {"command": command, "part": "train: the loop", "seconds": seconds}
        yield {"command": command, "part": "DVC", "seconds": finished.seconds - sum(seconds_by_stage.values())}
        yield {"command": command, "part": "all", "seconds": finished.seconds}


def measure_imports(folder: Path, stage: str) -> float:
    """Seconds of a Python that only imports a stage; the fastest of three, so the files are in memory."""
    command = [sys.executable, "-c", f"import stages.{stage}"]
    return min(measure_command(command, folder, os.environ).seconds for _ in range(3))


def training_seconds(log: str) -> list[float]:
    """The seconds of each training loop in a log, as the stage train reports them; imports are not included."""
    return [float(seconds) for seconds in re.findall(r"^train: ([\d.]+) s,", log, re.MULTILINE)]


def run_stages_at_size(folder: Path, times: int, side: int) -> Iterator[dict[str, Any]]:
    """Rows of images, side, stage, seconds, peak MiB: the default images `times` times, `side` pixels a side."""
    place = folder / f"{times}_{side}"
    prepare_folder(place, {"train.epochs": 1})
    for stage in stage_names():
        seconds, _, memory = run_stage(stage, place)
        if stage == "download":
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a child inherits its parent's peak memory
                pool.submit(enlarge, place / RAW, times, side).result()
        elif stage != "check":
            yield {"images": 5000 * times, "side": side, "stage": stage, "seconds": seconds, "MiB": memory}


def enlarge(path: Path, times: int, side: int) -> None:
    """Repeat the images of data/raw `times` times and enlarge each to `side` pixels a side, pixel by pixel."""
    raw, about = arrays.load(path)
    factor = side // raw["images"].shape[-1]
    images = np.tile(raw["images"].repeat(factor, 2).repeat(factor, 3), (times, 1, 1, 1))
    digest = np.frombuffer(hashlib.sha256(images.data).digest(), np.uint8)
    many = {name: np.tile(raw[name], times) for name in ("labels", "parts")}
    arrays.save(path, {"images": images, "digest": digest, **many}, about)


def prepare_folder(folder: Path, changes: Mapping[str, Any]) -> None:
    """Make a folder with a params.yaml: the project's own, with `changes`."""
    folder.mkdir()
    write_params(folder / "params.yaml", changes, source=ROOT / "params.yaml")


def run_stage(stage: str, folder: Path) -> Measurement:
    """Run a stage in a folder and measure it. Raises UserError if it fails."""
    command = [sys.executable, "-m", f"stages.{stage}"]
    return measure_command(command, folder, {**os.environ, "PYTHONPATH": str(ROOT)})


def measure_command(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Measurement:
    """Run a command in a folder and measure it. Raises UserError if it fails."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if status:
        raise UserError(f"benchmarks.pipeline: {' '.join(command)}: {commands.last_line(text, 'failed')}")
    return Measurement(seconds, text, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    run_main(main)
