"""Where seconds and memory go: `python -m tools.costs --pipeline` by stage and DVC, `--growth` by size of the data.

--pipeline: in a clone of the last commit, `dvc repro` from nothing, `dvc exp run -S latent_dim=4`, and `dvc repro`
with nothing to do; medians over --repeat clones. --growth: each stage alone on the default images repeated 1, 4, 16,
64 times (--times), one epoch of training, and on images of 28, 56, 112 pixels a side (--sides). Run it on an idle
machine.
Writes docs/performance/{pipeline,growth}.csv and prints them as Markdown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from stages.autoencoder import arrays
from stages.autoencoder.errors import UserError, run
from tools import ENVIRONMENT
from tools.dependencies import DVC_YAML

ROOT = Path(__file__).resolve().parent.parent
PIPELINE, GROWTH = Path("docs/performance/pipeline.csv"), Path("docs/performance/growth.csv")
RAW = Path("data/raw.safetensors")
# sitecustomize of every Python below DVC: at its end each stage appends its seconds since it was started
RECORD = """
import atexit, os, sys, time
def _end(start=time.time()):
    if getattr(sys, "orig_argv", ["", ""])[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
        with open(os.environ["STAGE_SECONDS"], "a") as file:
            file.write(f"{sys.orig_argv[2]} {time.time() - start}\\n")
atexit.register(_end)
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pipeline", action="store_true")
    options.add_argument("--repeat", type=int, default=3, help="runs of --pipeline, whose medians count")
    options.add_argument("--growth", action="store_true")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16, 64], help="of the default images")
    options.add_argument("--sides", type=int, nargs="+", default=[28, 56, 112], help="pixels, multiples of 28")
    given = options.parse_args()
    if not (given.pipeline or given.growth):
        raise UserError("costs: give --pipeline or --growth")
    if given.repeat < 1:
        raise UserError(f"costs: --repeat must be at least 1; got {given.repeat}")
    with tempfile.TemporaryDirectory() as name:
        if given.pipeline:
            rows = [row for turn in range(given.repeat) for row in pipeline(Path(name) / f"clone{turn}")]
            write(PIPELINE, pd.DataFrame(rows).groupby(["command", "part"], sort=False).median().reset_index())
        if given.growth:
            sizes = [(times, 28) for times in given.times] + [(1, side) for side in given.sides if side != 28]
            write(GROWTH, pd.DataFrame(row for size in sizes for row in grown(Path(name), *size)))


def write(path: Path, table: pd.DataFrame) -> None:
    """The table as a file, and on the screen."""
    arrays.write(path, table.to_csv(index=False, float_format="%.2f").encode())
    print(table.to_markdown(index=False, floatfmt=".1f"))


def pipeline(clone: Path) -> Iterator[dict]:
    """Rows command, part, seconds: each stage (of it `imports`), the loop of training, DVC: the rest."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    (clone / "hook").mkdir()
    (clone / "hook/sitecustomize.py").write_text(RECORD)
    stages = list(YAML(typ="safe").load((ROOT / DVC_YAML).read_text())["stages"])
    imports = {stage: imported(clone, stage) for stage in stages}
    for command in ("dvc repro", "dvc exp run -S latent_dim=4", "dvc repro -q", "dvc --version"):
        record = clone / "seconds"
        record.write_text("")
        paths = os.pathsep.join([str(Path(sys.executable).parent), ENVIRONMENT["PATH"]])
        more = {"PATH": paths, "PYTHONPATH": str(clone / "hook"), "STAGE_SECONDS": str(record)}
        wall, printed, _ = timed(command.split(), clone, more)
        lines = dict(line.split() for line in record.read_text().splitlines())
        ran = {module.removeprefix("stages."): float(seconds) for module, seconds in lines.items()}
        for stage, seconds in ran.items():
            yield {"command": command, "part": stage, "seconds": seconds, "of it imports": imports[stage]}
        loops = [
            float(line.split()[1]) for line in printed.splitlines() if line.startswith("train: ") and " s," in line
        ]
        yield from ({"command": command, "part": "train: the loop", "seconds": loop} for loop in loops)
        yield {"command": command, "part": "DVC", "seconds": wall - sum(ran.values())}
        yield {"command": command, "part": "all", "seconds": wall}


def imported(folder: Path, stage: str) -> float:
    """Seconds from the start of Python to the end of importing a stage, files in memory; the best of three."""
    return min(timed([sys.executable, "-c", f"import stages.{stage}"], folder)[0] for _ in range(3))


def grown(folder: Path, times: int, side: int) -> Iterator[dict]:
    """Rows images, side, stage, seconds, MiB at the peak: the default images `times` times, `side` pixels a side."""
    place = folder / f"{times}_{side}"
    place.mkdir()
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["train"].update(epochs=1)
    with (place / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    for stage in YAML(typ="safe").load((ROOT / DVC_YAML).read_text())["stages"]:
        command = [sys.executable, "-m", f"stages.{stage}"]
        seconds, _, memory = timed(command, place, {"PYTHONPATH": str(ROOT)})
        if stage == "download":
            with ProcessPoolExecutor(1, get_context("spawn")) as other:  # a stage's peak has that of its parent in it
                other.submit(grow, place / RAW, times, side).result()
            continue
        if stage != "check":
            yield {"images": 5000 * times, "side": side, "stage": stage, "seconds": seconds, "MiB": memory}


def grow(path: Path, times: int, side: int) -> None:
    """Repeat the images of an array file, each pixel enlarged to a square."""
    found, about = arrays.load(path)
    factor = side // found["images"].shape[-1]
    images = np.tile(found["images"].repeat(factor, 2).repeat(factor, 3), (times, 1, 1, 1))
    arrays.save(path, {"images": images, "labels": np.tile(found["labels"], times)}, about)


def timed(command: Sequence[str], folder: Path, more: dict[str, str] | None = None) -> tuple[float, str, float]:
    """Seconds, what is printed, peak memory in MiB of a command that must succeed."""
    with tempfile.TemporaryFile("w+") as printed:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env={**ENVIRONMENT, **(more or {})}, stdout=printed, stderr=printed
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        printed.seek(0)
        text = printed.read()
    if status:
        raise UserError(f"costs: {' '.join(command)}: {(text.strip().splitlines() or ['failed'])[-1]}")
    return seconds, text, usage.ru_maxrss / 1024


if __name__ == "__main__":
    run(main)
