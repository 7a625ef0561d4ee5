"""Folders in which the stages after training can run, with an untrained model: for tests of what they compute."""

import importlib
import json
from pathlib import Path

import numpy as np
import torch

from stages.autoencoder.core import arrays
from stages.autoencoder.model import autoencoder, model_file

APPLIED = ("baseline", "reconstruct", "embed", "evaluate")
SHAPE = (1, 8, 8)
EVERY = ["mse", "psnr", "ssim", "pca_ratio", "knn", "probe", "kmeans", "nmi", "trust", "per_image", "bce", "pca_mse"]


def make(
    folder: Path,
    *,
    shape: tuple[int, int, int] = SHAPE,
    counts: tuple[int, int] = (60, 40),
    classes: int = 4,
    normal: tuple[int, ...] = (),
    latent_dim: int = 3,
    bottleneck: str = "linear",
    corruption: str | None = None,
    constant: bool = False,
) -> autoencoder.Autoencoder:
    """Write train and test part and data/model.safetensors; params.yaml is the caller's.

    counts: images in train and test, each class a prototype with noise; normal: the classes that train has.
    """
    rng = np.random.default_rng(0)
    prototypes = rng.random((classes, *shape))
    start = 0
    for name, count in zip(("train", "test"), counts, strict=True):
        among = list(normal) if normal and name == "train" else range(classes)
        labels = np.array([among[i % len(among)] for i in range(count)])
        images = np.clip(prototypes[labels] + rng.normal(0, 0.1, (count, *shape)), 0, 1) * (not constant)
        part = {"images": np.rint(images * 255).astype(np.uint8), "labels": labels.astype(np.int64)}
        part["index"] = np.arange(start, start + count)
        about = {"class_names": [f"class {number}" for number in range(classes)], "normal_classes": list(normal)}
        arrays.save(folder / f"data/split/{name}.safetensors", part, about)
        start += count
    torch.manual_seed(0)
    spec = autoencoder.Spec(shape, latent_dim, (), (16,), bottleneck, k=min(2, latent_dim))
    made = autoencoder.Autoencoder(spec)
    noise = {"corruption": corruption, "level": 0.3} if corruption else None
    model_file.save(folder / "data/model.safetensors", made, {"corruption": noise})
    return made.eval()


def run(*names: str) -> None:
    """Run these stages in the current folder; all after training by default."""
    for name in names or APPLIED:
        importlib.import_module(f"stages.{name}").main()


def metrics() -> dict[str, float]:
    """What evaluate has written; NaN and infinity refused."""

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} in metrics/evaluate.json")

    return json.loads(Path("metrics/evaluate.json").read_text(), parse_constant=refuse)


def outputs() -> dict[str, bytes]:
    """The bytes of every metric, table and picture."""
    paths = [path for place in ("metrics", "plots") for path in Path(place).rglob("*") if path.is_file()]
    return {path.as_posix(): path.read_bytes() for path in sorted(paths)}


def shuffle(path: Path = Path("data/split/test.safetensors")) -> None:
    """Put the images of a part in another order, each with its label and index."""
    part, about = arrays.load(path)
    order = np.random.default_rng(1).permutation(len(part["index"]))
    assert (order != np.sort(order)).any()
    arrays.save(path, {name: values[order] for name, values in part.items()}, about)
