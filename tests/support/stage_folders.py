"""Folders in which the stages after training can run, with an untrained model: for tests of what they compute."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stages import download
from stages.autoencoder.core import arrays
from stages.autoencoder.data import packed_file
from stages.autoencoder.model import autoencoder
from stages.autoencoder.sources.dataset import Dataset, Masks, in_memory
from tests.support import model_files

APPLIED = ("baseline", "reconstruct", "embed", "evaluate")
SHAPE = (1, 8, 8)
VALID_IMAGES = 12
CLASS_NAMES = tuple(f"class {number}" for number in range(400))
EVERY = ["mse", "psnr", "ssim", "pca_ratio", "knn", "probe", "kmeans", "nmi", "trust", "per_image", "bce", "pca_mse"]
EVERY += ["participation", "twonn"]


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
    names: bool = False,
    masks: bool = False,
    binarize: str = "none",
    score: str = "mse",
) -> autoencoder.Autoencoder:
    """Write data/raw, train, valid and test part and data/model.safetensors; params.yaml is the caller's.

    counts: images in train and test, each class a prototype with noise; valid has VALID_IMAGES more, the last rows;
    classes: 0 for none; normal: the classes that train and valid have; names: each image has a path; masks: each test
    image of another class has a mask, its left half; score: what finds anomalies.
    """
    rng = np.random.default_rng(0)
    prototypes = rng.random((max(1, classes), *shape))
    trained = list(normal) or range(max(1, classes))
    among = {"train": trained, "test": range(max(1, classes)), "valid": trained}
    sizes = (*counts, VALID_IMAGES)
    labels = np.array(
        [among[name][i % len(among[name])] for name, n in zip(among, sizes, strict=True) for i in range(n)]
    )
    images = np.clip(prototypes[labels] + rng.normal(0, 0.1, (len(labels), *shape)), 0, 1) * (not constant)
    dataset = in_memory(np.rint(images * 255).astype(np.uint8), labels, CLASS_NAMES[:classes], counts[1])
    anomalous = np.flatnonzero(~np.isin(labels, normal))
    if masks:
        halves = np.zeros((len(anomalous), *shape[1:]), np.uint8)
        halves[:, :, : shape[2] // 2] = 1
        dataset = replace(dataset, masks=Masks(anomalous, [halves]))
    if names:
        dataset = replace(dataset, names=[f"folder/image {number}.png" for number in range(len(labels))])
    normal_names = [CLASS_NAMES[number] for number in normal]
    save_raw(folder, dataset, normal_names)
    for name, index in zip(among, np.split(np.arange(len(labels)), np.cumsum(counts)), strict=True):
        save_part(folder, name, labels[index], index, CLASS_NAMES[:classes], normal_names)
    torch.manual_seed(0)
    spec = autoencoder.Spec(shape, latent_dim, (), (16,), bottleneck, k=min(2, latent_dim))
    made = autoencoder.Autoencoder(spec)
    changes = {"class_names": CLASS_NAMES[:classes], "binarize": binarize, "score": score}
    model_files.save(folder / "data/model.safetensors", made, corruption, **changes)
    return made.eval()


def save_raw(folder: Path, dataset: Dataset, normal_names: Sequence[str] = ()) -> None:
    """Write data/raw.safetensors."""
    about = download.describe(dataset, "made") | {"normal_classes": list(normal_names)}
    download.save(folder / packed_file.RAW, dataset, about)


def save_part(
    folder: Path, name: str, labels: np.ndarray, index: np.ndarray, class_names: Sequence[str], normal: Sequence[str]
) -> None:
    """Write one file of the split, of the images in data/raw."""
    raw = folder / packed_file.RAW
    about = {"class_names": list(class_names), "normal_classes": list(normal), "images": packed_file.read_digest(raw)}
    about["fitting"] = arrays.describe(raw)[0]["fitting"]
    arrays.save(folder / f"data/split/{name}.safetensors", {"labels": labels, "index": index}, about)


def read_images(name: str = "test") -> np.ndarray:
    """The images of a part in the current folder, uint8 (n, C, H, W), read without the project's reader of parts."""
    index = arrays.load(Path(f"data/split/{name}.safetensors"), "index")[0]["index"]
    return arrays.load(packed_file.RAW, "images")[0]["images"][index]


def read_labels(name: str = "test") -> np.ndarray:
    """The labels of a part in the current folder, int64 (n,)."""
    return arrays.load(Path(f"data/split/{name}.safetensors"), "labels")[0]["labels"]


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
