"""`python -m benchmarks.explorer`: how large the page of tools.explore is, and how fast in Chromium without a GPU.

The pages: the one of data/, after `dvc repro`; the same with ten thousand dots, each test image ten times beside
itself; and pages of untrained networks, an MLP and one for colour images of 128 x 128 pixels. The dots are dragged for
some seconds; frames are those that the browser's own tracing saw drawn. Needs requirements/browser.txt and Chromium.
Run it on an idle machine. It writes docs/performance/explorer.csv and prints it as Markdown.
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.pipeline import write_table
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.networks import suitable_channels
from stages.runtime.command import run_main
from tools.exploration import contents, experiment, page
from tools.exploration.experiment import Experiment
from tools.workspace.arguments import ArgumentParser

TABLE = Path("docs/performance/explorer.csv")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu"]
COPIES = 10  # of each test image, on the page with the most dots
DRAGS, DRAG_SECONDS = 3, 4.0
WINDOW = {"width": 1280, "height": 800}
TIME_RUNS = """repeat => {
  const pixels = explorer.imagePixels(0);
  const { code } = explorer.encode(pixels);
  const time = run => {
    const times = [...Array(repeat)].map(() => { const start = performance.now(); run(); return performance.now() - start; });
    return times.sort((a, b) => a - b)[repeat >> 1];
  };
  return [time(() => explorer.encode(pixels)), time(() => explorer.decode(code))];
}"""  # noqa: E501


def main() -> None:
    parser = ArgumentParser(prog="python -m benchmarks.explorer", description="Measure the page of tools.explore.")
    parser.add_argument("--repeat", type=int, default=5, help="times that each page is opened (default: 5)")
    options = parser.parse_args()
    if options.repeat < 1:
        raise UserError(f"benchmarks.explorer: --repeat must be at least 1; got {options.repeat}")
    with tempfile.TemporaryDirectory() as folder:
        write_table(TABLE, pd.DataFrame(measure_all(Path(folder), options.repeat)))


def measure_all(folder: Path, repeat: int) -> list[dict[str, Any]]:
    """A row for each page. Raises UserError if there is no browser or nothing to drive it."""
    path = find_browser()
    if path is None:
        raise UserError("benchmarks.explorer: must find chromium; it is not on PATH; apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UserError(
            "benchmarks.explorer: must find playwright; it is not installed; python -m pip install -r"
            " requirements/browser.txt"
        ) from None
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        for name, held in list_pages():
            target = folder / "page.html"
            target.write_bytes(page.render(contents.build(held, name, None)))
            rows.append({"page": name, "MB": target.stat().st_size / 1e6, **measure(browser, target, repeat)})
        browser.close()
    return rows


def find_browser() -> str | None:
    """Where a Chromium is installed, if one is."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def list_pages() -> Iterator[tuple[str, Experiment]]:
    """What is measured, by name."""
    held = experiment.load(Path())
    yield "default", held
    yield f"default, {COPIES * len(held.images):,} dots", multiply(held, COPIES)
    yield (
        "mlp 1024, 512",
        with_network(held, Spec((1, 28, 28), 16, (), (1024, 512), held.model.network.spec.bottleneck)),
    )
    shape = (3, 128, 128)
    spec = Spec(shape, 16, suitable_channels(shape), (256,), held.model.network.spec.bottleneck)
    yield "colour, 128 x 128", with_network(replace(held, images=held.images[:300]), spec)


def multiply(held: Experiment, copies: int) -> Experiment:
    """The experiment with each image several times, their dots a little apart."""
    rng = np.random.default_rng(0)
    count = copies * len(held.images)
    points = {name: np.tile(array, (copies, 1)) for name, array in held.points.items()}
    return replace(
        held,
        images=np.tile(held.images, (copies, 1, 1, 1)),
        codes=np.tile(held.codes, (copies, 1)),
        errors=np.tile(held.errors, copies),
        labels=np.tile(held.labels, copies),
        names=[f"{name}/{number}" for number in range(copies) for name in held.names],
        points={name: array + rng.normal(0, 0.02 * array.std(), array.shape) for name, array in points.items()},
        test_count=count,
    )


def with_network(held: Experiment, spec: Spec) -> Experiment:
    """As many random images as the experiment has, and an untrained network for them."""
    rng = np.random.default_rng(0)
    count = len(held.images)
    images = rng.integers(0, 256, (count, *spec.shape), np.uint8)
    network = Autoencoder(spec).eval()
    about = replace(held.model.about, spec=spec)
    return replace(
        held,
        model=replace(held.model, network=network, about=about),
        images=images,
        codes=inference.encode(network, images, held.model.device),
        errors=held.errors[:count],
        labels=held.labels[:count],
        names=held.names[:count],
        points={name: array[:count] for name, array in held.points.items()},
    )


def measure(browser: Any, path: Path, repeat: int) -> dict[str, float]:
    """Milliseconds until a page is ready, to encode and to decode an image, and frames a second: all medians."""
    opened, times = [], []
    for _ in range(repeat):
        tab = browser.new_page(viewport=WINDOW)
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        opened.append(int(tab.get_attribute("html", "data-ready")))
        times.append(tab.evaluate(TIME_RUNS, 21))
        tab.close()
    encode, decode = (statistics.median(values) for values in zip(*times, strict=True))
    drags = pd.DataFrame(measure_frames(browser, path) for _ in range(DRAGS))
    frames = {str(name): float(value) for name, value in drags.median().items()}
    return {"open ms": statistics.median(opened), "encode ms": encode, "decode ms": decode, **frames}


def measure_frames(browser: Any, path: Path) -> dict[str, float]:
    """Frames a second while the dots are dragged: those that tracing saw, and the page's own drawings."""
    tab = browser.new_page(viewport=WINDOW)
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    tab.evaluate("""() => { window.paints = 0; const paint = explorer.map.paint;
        explorer.map.paint = function () { window.paints++; paint.call(this); }; }""")
    box = tab.locator("#overlay").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    browser.start_tracing(page=tab, categories=["disabled-by-default-devtools.timeline.frame"])
    start, step = time.perf_counter(), 0
    while time.perf_counter() - start < DRAG_SECONDS:
        step += 1
        tab.mouse.move(x + 80 * np.sin(step / 20), y + 80 * np.cos(step / 20))
    seconds = time.perf_counter() - start
    events = json.loads(browser.stop_tracing())["traceEvents"]
    frames = sum(event["name"] == "DrawFrame" for event in events)
    paints = tab.evaluate("window.paints")
    tab.close()
    return {"frames/s": frames / seconds, "drawings/s": paints / seconds}


if __name__ == "__main__":
    run_main(main)
