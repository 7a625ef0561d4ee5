"""`python -m benchmarks.onnx_speed`: images per second of an exported model in ONNX Runtime, and of the same in torch.

The model is data/model.safetensors, the images those of data/split/test, after `dvc repro`. Both engines have two
threads and take turns; the ratio is that within a turn. Numerics are portable, which restricts torch alone, and fast,
each in a process of its own. Run it on an idle machine. It writes docs/performance/onnx.csv and prints it as Markdown.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.pipeline import write_table
from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import pieces, to_unit
from stages.autoencoder.model import devices, inference, model_file
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.runtime.command import run_main
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params

TABLE = Path("docs/performance/onnx.csv")
MODEL = Path("data/model.safetensors")
IMAGES = "images.safetensors"
NUMERICS = ("portable", "fast")
ENGINES = ("torch", "onnxruntime")
BATCHES = (1, 32, 500)
THREADS = 2
SECONDS = 0.3  # that a measurement takes at least
PAUSE = 0.05  # seconds, after which the threads of the other engine have stopped waiting for work
Run = Callable[[np.ndarray], object]  # one batch


class Task(NamedTuple):
    """What both engines compute: its input, for all images, and how each of ENGINES runs a batch of it."""

    name: str
    given: np.ndarray
    engines: dict[str, Run]


def main() -> None:
    parser = ArgumentParser(prog="python -m benchmarks.onnx_speed", description="Compare ONNX Runtime with torch.")
    parser.add_argument("--repeat", type=int, default=7, help="turns of both engines (default: 7)")
    options = parser.parse_args()
    if options.repeat < 1:
        raise UserError(f"benchmarks.onnx_speed: --repeat must be at least 1; got {options.repeat}")
    images = split_files.load(split_files.TEST).images[:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays.save(folder / IMAGES, {"images": images})
        rows = [row for numerics in NUMERICS for row in run_in_child(folder, numerics, options.repeat)]
    write_table(TABLE, pd.DataFrame(rows))


def run_in_child(folder: Path, numerics: str, repeat: int) -> list[dict[str, Any]]:
    """The rows of `measure`, from a new process with these numerics. folder: with the images."""
    write_params(folder / "params.yaml", {"numerics": numerics, "threads": THREADS})
    call = f"onnx_speed.measure(sys.argv[1], {numerics!r}, {repeat})"
    code = f"import stages.runtime.numerics, json, sys; from benchmarks import onnx_speed; print(json.dumps({call}))"
    command = [sys.executable, "-c", code, str(MODEL.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = commands.run(command, cwd=folder, env=environment, place="benchmarks.onnx_speed")
    return json.loads(printed.strip().splitlines()[-1])


def measure(model: str, numerics: str, repeat: int) -> list[dict[str, Any]]:
    """Images per second of both engines for each task and batch, in the current folder, which has the images.

    Medians over the turns. ratio: of ONNX Runtime's speed to torch's within a turn, with its extremes.
    """
    devices.prepare("cpu", numerics)
    torch.set_num_threads(THREADS)
    tasks = list(make_tasks(model_file.load(model).model, arrays.load(Path(IMAGES))[0]["images"]))
    rows = []
    for task in tasks:
        for batch in BATCHES:
            turns = []
            for turn in range(repeat):
                order = ENGINES if turn % 2 else ENGINES[::-1]  # speed depends on what ran before
                turns.append({name: measure_speed(task.engines[name], task.given, batch) for name in order})
            ratios = [speeds["onnxruntime"] / speeds["torch"] for speeds in turns]
            row: dict[str, Any] = {"numerics": numerics, "task": task.name, "batch": batch}
            row |= {f"{name}/s": statistics.median(speeds[name] for speeds in turns) for name in ENGINES}
            rows.append(row | {"ratio": statistics.median(ratios), "from": min(ratios), "to": max(ratios)})
    return rows


def make_tasks(network: Autoencoder, images: np.ndarray) -> Iterator[Task]:
    """encode and whole take the images, uint8 (N, C, H, W), decode takes their codes."""
    from stages.autoencoder.use import onnx_export  # imports onnx and onnxruntime

    contents = onnx_export.build_onnx(network, {})
    whole, encoder, decoder = (onnx_export.open_onnx(part, content, THREADS) for part, content in contents.items())
    codes = inference.encode(network, images, torch.device("cpu"))
    whole_in_torch = onnx_export.WholeModel(network)

    def in_torch(function: Callable[[torch.Tensor], object]) -> Run:
        return torch.no_grad()(lambda batch: function(torch.from_numpy(batch)))

    yield Task("encode", images, {"torch": in_torch(lambda x: network.encode(to_unit(x))), "onnxruntime": encoder.run})
    yield Task("decode", codes, {"torch": in_torch(network.decode), "onnxruntime": decoder.run})
    yield Task("whole", images, {"torch": in_torch(whole_in_torch), "onnxruntime": whole.run})


def measure_speed(run: Run, given: np.ndarray, batch: int) -> float:
    """Images per second in batches of one size, over and over until SECONDS have passed."""
    batches = [given[piece] for piece in pieces(len(given), batch) if piece.stop - piece.start == batch]
    if not batches:
        raise UserError(f"data/split/test: must have at least {batch} images; got {len(given)}")
    time.sleep(PAUSE)
    run(batches[0])  # memory is taken, threads are awake
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        run(batches[count % len(batches)])
        count += 1
    return count * batch / elapsed


if __name__ == "__main__":
    run_main(main)
