"""Pages of untrained models, and a browser that opens them: what the tests of the explorer share."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.explorer import OPTIONS, find_browser
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.scores.reconstruction import mse_per_image
from stages.autoencoder.use import TrainedModel
from tests.support import model_files
from tools.exploration import contents, page
from tools.exploration.experiment import Experiment

CPU = torch.device("cpu")


def make_network(
    shape: tuple[int, int, int] = (1, 13, 10),
    latent_dim: int = 4,
    channels: tuple[int, ...] = (4, 6, 8),
    widths: tuple[int, ...] = (12,),
    bottleneck: str = "linear",
    encode_k: int = 0,
) -> Autoencoder:
    """An untrained network whose batch norms have the statistics of random images, and random weights."""
    torch.manual_seed(0)
    k = 2 if bottleneck == "top_k" else 0
    network = Autoencoder(Spec(shape, latent_dim, channels, widths, bottleneck, k, encode_k))
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0  # one batch gives the statistics
            if module.affine:
                torch.nn.init.normal_(module.weight, 1, 0.3)
                torch.nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        network(torch.from_numpy(draw_images(shape, 200)) / 255)
    return network.eval()


def draw_images(shape: tuple[int, int, int], count: int) -> np.ndarray:
    """Random images uint8 (count, C, H, W), some bright, some dark, so that their codes differ."""
    rng = np.random.default_rng(0)
    return (rng.uniform(0, 256, (count, 1, 1, 1)) * rng.random((count, *shape))).astype(np.uint8)


def make_experiment(network: Autoencoder, count: int = 100, class_names: tuple[str, ...] = ("a", "b"), **about: Any):
    """An experiment with random images of this network, as `experiment.load` gives it. about: of its description."""
    rng = np.random.default_rng(0)
    images = draw_images(network.spec.shape, count)
    codes = inference.encode(network, images, CPU)
    output = inference.decode(network, codes, CPU)
    corruption = about.pop("corruption", None)
    description = model_files.describe(network, corruption, class_names=class_names, **about)
    mixture = None if network.is_variational else model_files.make_mixture(network.spec.latent_dim)
    dimensions = list(range(network.spec.latent_dim))[::-1]
    return Experiment(
        model=TrainedModel(network, description, model_files.make_detector(network), mixture, CPU),
        images=images,
        codes=codes,
        errors=mse_per_image(output, images / np.float32(255)),
        labels=np.arange(count) % max(1, len(class_names)),
        class_names=list(class_names),
        names=[f"photos/{number}.png" for number in range(count)],
        test_count=count,
        mean_code=codes.mean(0, dtype=np.float64),
        points={"pca": rng.normal(size=(count, 2)).astype(np.float32)},
        trust={"pca": 0.75},
        dimensions=dimensions,
        mse_added=dict.fromkeys(dimensions[:64], 0.01),
        params={"download.dataset": "digits", "train.architecture": "conv", "latent_dim": network.spec.latent_dim},
        metrics={"mse": float(mse_per_image(output, images / np.float32(255)).mean())},
        pca=[(1, 0.08), (2, 0.06), (4, 0.04), (8, 0.02)],
    )


def write_page(folder: Path, experiment: Experiment, title: str = "title", sweep: dict | None = None) -> Path:
    path = folder / "page.html"
    path.write_bytes(page.render(contents.build(experiment, title, sweep)))
    return path


@contextmanager
def open_browser() -> Iterator[Any]:
    """A Chromium. The test is skipped where there is none, or no playwright to drive it."""
    pytest.importorskip("playwright", reason="requirements/browser.txt is not installed")
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


class OpenPage:
    """A page in a browser, with what it asked for and what it complained of."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, height: int = 800, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").inner_text()

    def show(self, tab: str) -> None:
        self.page.click(f"#tab-{tab}")
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def wait(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds. The page's own policy forbids playwright's wait_for_function."""
        for _ in range(300):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {condition}")

    def place(self, index: int) -> tuple[float, float]:
        """Where the dot of an image is in the window."""
        return self.places([index])[0]

    def places(self, indexes: Iterable[int]) -> list[tuple[float, float]]:
        """Where dots are in the window."""
        box = self.page.locator("#overlay").bounding_box()
        code = "all => all.map(i => [explorer.map.screenX(i), explorer.map.screenY(i)])"
        return [(box["x"] + x, box["y"] + y) for x, y in self.page.evaluate(code, list(indexes))]

    def pixels(self, selector: str) -> np.ndarray:
        """What canvases of one size show, uint8 (N, H, W, 3), read from a copy of each."""
        data, width, height = self.page.eval_on_selector_all(
            selector,
            """all => {
            const copy = new OffscreenCanvas(all[0].width, all[0].height);
            const context = copy.getContext("2d", { willReadFrequently: true });
            const read = canvas => {
              context.clearRect(0, 0, copy.width, copy.height);
              context.drawImage(canvas, 0, 0);
              return Array.from(context.getImageData(0, 0, copy.width, copy.height).data);
            };
            return [all.map(read), copy.width, copy.height]; }""",
        )
        return np.array(data, np.uint8).reshape(-1, height, width, 4)[..., :3]
