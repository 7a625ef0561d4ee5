"""`python -m benchmarks.decoding`: how fast a folder of images is read, beside torchvision, and in how much memory.

The images are squares of 64 to 512 pixels a side, cut from the photographs in scikit-image's wheel, half of them PNG
and half JPEG, in two folders; all become 3 x 64 x 64. speed: `ours`, decoding on all cores, and `torchvision`, its
ImageFolder with Resize and CenterCrop behind a DataLoader of two workers, in turn; both give uint8.
memory: the stage download on 1,000, 10,000 and 100,000 images (hard links to fewer files): its peaks, and those of
its decoding processes together. Run it on an idle machine. It writes docs/performance/decoding.csv and prints the
tables as Markdown.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from benchmarks.pipeline import prepare_folder, write_table
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.sources.folder.open_folder import open_folder
from stages.runtime.command import run_main
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT

TABLE = Path("docs/performance/decoding.csv")
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "ihc")  # in scikit-image's wheel
SIDE = 64  # of the images after decoding
FILES = 2000  # different files; further images are hard links to them
FOLDER = "photos"
READERS = ("ours", "torchvision")


def main() -> None:
    parser = ArgumentParser(prog="python -m benchmarks.decoding", description="Measure how a folder of images is read.")
    parser.add_argument("--images", type=int, default=4000, help="for the speed (default: 4000)")
    parser.add_argument("--repeat", type=int, default=5, help="turns of both readers (default: 5)")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000], help="images for the memory")
    options = parser.parse_args()
    for name, value in (("images", options.images), ("repeat", options.repeat), ("counts", min(options.counts))):
        if value < 1:
            raise UserError(f"benchmarks.decoding: --{name} must be at least 1; got {value}")
    with tempfile.TemporaryDirectory() as name:
        speeds = measure_speeds(Path(name) / "speed", options.images, options.repeat)
        print(speeds.to_markdown(index=False, floatfmt=".2f"))
        write_table(TABLE, pd.DataFrame(measure_memory(Path(name) / f"{n}", n) for n in options.counts))


def make_images(folder: Path, count: int) -> None:
    """Write `count` images, half into the folder a and half into b. Always the same ones."""
    import skimage

    data = Path(skimage.__file__).parent / "data"
    names = [next(data.glob(f"{name}.*")) for name in PHOTOGRAPHS]
    photographs = [np.asarray(Image.open(name).convert("RGB")) for name in names]
    rng = np.random.default_rng(0)
    for place in ("a", "b"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        ending = ".png" if number % 4 < 2 else ".jpg"
        path = folder / "ab"[number % 2] / f"{number:06d}{ending}"
        if number >= FILES:
            os.link(folder / "ab"[number % 2] / f"{number % FILES:06d}{ending}", path)
            continue
        photograph = photographs[number % len(photographs)]
        height, width = photograph.shape[:2]
        side = min(height, width, round(64 * 8 ** rng.random()))  # as many from 64 to 128 as from 256 to 512
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        Image.fromarray(photograph[top : top + side, left : left + side]).save(path, quality=90)


def prepare(folder: Path, count: int) -> None:
    """A folder with images and the params.yaml that reads them."""
    prepare_folder(folder, {"download": {"dataset": "folder", "folder": FOLDER, "size": [SIDE, SIDE]}})
    make_images(folder / FOLDER, count)


def measure_speeds(folder: Path, count: int, repeat: int) -> pd.DataFrame:
    """Images per second and CPU time of each reader, and its speed over torchvision's: medians over the turns."""
    prepare(folder, count)
    turns = []
    for turn in range(repeat):
        order = READERS if turn % 2 else READERS[::-1]  # speed depends on what ran before
        turns.append({reader: run_in_child(reader, folder) for reader in order})
        print(f"turn {turn + 1}/{repeat}: {json.dumps(turns[-1])}", file=sys.stderr)
    rows = []
    for reader in READERS:
        ratios = [times["torchvision"]["seconds"] / times[reader]["seconds"] for times in turns]
        medians = {name: statistics.median(times[reader][name] for times in turns) for name in ("seconds", "cpu")}
        row = {"reader": reader, "images/s": count / medians["seconds"], "CPU ms/image": medians["cpu"] / count * 1000}
        rows.append(row | {"ratio": statistics.median(ratios), "from": min(ratios), "to": max(ratios)})
    return pd.DataFrame(rows)


def run_in_child(reader: str, folder: Path) -> dict[str, float]:
    """What `time_reader` finds, in a process of its own."""
    code = f"import json; from benchmarks import decoding; print(json.dumps(decoding.time_reader({reader!r})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = commands.run([sys.executable, "-c", code], cwd=folder, env=environment, place="benchmarks.decoding")
    return json.loads(printed.strip().splitlines()[-1])


def time_reader(reader: str) -> dict[str, float]:
    """Seconds to read all images below the current folder, and CPU seconds of this process and its children.

    Imports are not included, starting processes is.
    """
    read = {"ours": read_ours, "torchvision": read_torchvision}[reader]
    params = loader.load(DownloadParams)
    if reader == "torchvision":
        import_torchvision()
    start, cpu_start = time.perf_counter(), sum(os.times()[:4])
    for images in read(params):
        if images.shape[1:] != (3, SIDE, SIDE) or images.dtype != np.uint8:
            raise ValueError(f"{reader} must give uint8 (n, 3, {SIDE}, {SIDE}); got {images.dtype} {images.shape}")
    return {"seconds": time.perf_counter() - start, "cpu": sum(os.times()[:4]) - cpu_start}


def read_ours(params: DownloadParams) -> Iterator[np.ndarray]:
    """This project's decoding."""
    yield from open_folder(params.download).pieces


def read_torchvision(params: DownloadParams, workers: int = 2) -> Iterator[np.ndarray]:
    """torchvision's own: Pillow's images, bilinear with antialiasing, so many worker processes."""
    image_folder, transform, loader_class = import_torchvision()
    for images, _ in loader_class(image_folder(params.download.folder, transform), batch_size=32, num_workers=workers):
        yield images.numpy()


def import_torchvision() -> tuple[Any, Any, Any]:
    """ImageFolder, what it does to each image, and DataLoader."""
    from stages.autoencoder.sources.torchvision_datasets import datasets  # first: torchvision beside any torch

    # isort: split
    from torch.utils.data import DataLoader
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    return datasets.ImageFolder, Compose([Resize(SIDE), CenterCrop(SIDE), PILToTensor()]), DataLoader


def measure_memory(folder: Path, count: int) -> dict[str, Any]:
    """Seconds of the stage download, and peaks in MiB: of its process and of its children together.

    anonymous: RssAnon, what only this process holds and no file backs; NaN except on Linux.
    """
    prepare(folder, count)
    command = [sys.executable, "-m", "stages.download"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    peaks: dict[str, float] = {}
    start = time.perf_counter()
    with (
        (folder / "log").open("w") as log,
        psutil.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        while process.poll() is None:
            for name, value in measure_processes(process).items():
                peaks[name] = max(peaks.get(name, 0.0), value)
            time.sleep(0.02)
    if process.returncode:
        raise UserError(f"benchmarks.decoding: {commands.last_line((folder / 'log').read_text(), 'failed')}")
    seconds = time.perf_counter() - start
    return {"images": count, "seconds": seconds, **peaks}


def measure_processes(process: psutil.Process) -> dict[str, float]:
    """Memory now, in MiB."""
    try:
        children = process.children()
        sums = {"MiB": [process], "MiB of children": children}
        memory = {name: sum(each.memory_info().rss for each in those) for name, those in sums.items()}
        memory |= {
            name.replace("MiB", "anonymous MiB"): sum(map(anonymous_bytes, those)) for name, those in sums.items()
        }
    except psutil.NoSuchProcess:  # it ended meanwhile
        return {}
    return {name: value / 2**20 for name, value in memory.items()}


def anonymous_bytes(process: psutil.Process) -> float:
    """RssAnon of a process; 0 for one that has ended."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0 if sys.platform == "linux" else float("nan")
    lines = [line.split() for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0][1]) * 1024.0 if lines else 0.0


if __name__ == "__main__":
    run_main(main)
