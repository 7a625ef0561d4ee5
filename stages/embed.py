"""Stage embed: data/model + data/split/{train,test} -> data/embeddings.safetensors, plots/.

Reads params device, numerics, threads, embed. Arrays, all in the order of `index`: train and test, the codes
float32 (N, D) of these parts; mapped, int64 (M,), the places of the test images on the maps, all of them up
to 10,000; pca and, by embed.map, tsne or umap, float32 (M, 2). The description: the bottleneck of the model, the
chosen map and the trustworthiness of each.
Beside them each map as picture and table in plots/embed/, and plots/dimensions.csv with its picture.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder import arrays, devices, dimensions, images, inference, latent_figures, maps, model, parts
from stages.autoencoder.activity import active
from stages.autoencoder.errors import run
from stages.autoencoder.params.embed import EmbedParams, check
from stages.autoencoder.params.reading import read
from stages.autoencoder.undefined import Undefined, offer

MODEL = Path("data/model.safetensors")
TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
EMBEDDINGS, PLOTS, DIMENSIONS = Path("data/embeddings.safetensors"), Path("plots/embed"), Path("plots/dimensions.csv")
POINTS = 2000  # of an interactive map, evenly spread: its page holds every point of every experiment as text
log = logging.getLogger(__name__)


def main() -> None:
    params = read(EmbedParams)
    check(params.embed)
    device = devices.prepare(params.device, params.numerics)
    autoencoder, _ = model.load(MODEL, device)
    train = parts.load(TRAIN, "images")[0]["images"]
    test, about = parts.load(TEST, "images", "labels")
    codes = {
        "train": inference.apply(autoencoder.encode, train, device),
        "test": inference.apply(autoencoder.encode, test["images"], device),
    }
    mapped = images.spread(np.arange(len(test["images"])), maps.LARGEST)
    points, trust = lay_out(codes["test"][mapped], params.embed.map)
    chosen = {"bottleneck": autoencoder.spec.bottleneck, "map": params.embed.map, "trust": trust}
    arrays.save(EMBEDDINGS, {**codes, "mapped": mapped, **points}, chosen)
    for name, laid in points.items():
        save_map(name, laid, trust.get(name), test["labels"][mapped], about["class_names"])

    mean = codes["train"].mean(0, dtype=np.float64)
    table = dimensions.table(autoencoder, mean, test["images"], codes["test"], device)
    arrays.write(DIMENSIONS, table.to_csv(index=False).encode())
    used = active(codes["test"], autoencoder.spec.bottleneck == "gaussian")
    latent_figures.save_dimensions(PLOTS / "dimensions.png", table, int(used.sum()), len(used))


def lay_out(codes: np.ndarray, chosen: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The maps, float32 (M, 2), of codes (M, D) by PCA and by the chosen way, and the trustworthiness of each."""
    ways = {"pca": maps.pca} | {name: way for name, way in maps.MAPS.items() if name == chosen}
    points: dict[str, np.ndarray] = {}
    trust: dict[str, float] = {}
    for name, way in ways.items():
        try:
            points[name] = way(codes)
        except Undefined as reason:
            log.info("no %s map: %s", maps.TITLES[name], reason)
        else:
            offer(trust, name, maps.trustworthiness, codes, points[name])
    return points, trust


def save_map(name: str, points: np.ndarray, trust: float | None, labels: np.ndarray, class_names: list[str]) -> None:
    """One map, (M, 2), as a picture of all points and a table, for the interactive plot, of at most 2,000."""
    title = f"{maps.TITLES[name]} of the codes of {len(points):,} test images"
    if trust is not None:
        title += f"; trustworthiness {trust:.3f}"
    latent_figures.save_map(PLOTS / f"{name}.png", points, labels, class_names, title, maps.UNITS[name])
    classes = np.array(class_names)[labels]
    table = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": classes})
    table = table.iloc[images.spread(np.arange(len(table)), POINTS)]
    arrays.write(PLOTS / f"{name}.csv", table.to_csv(index=False).encode())


if __name__ == "__main__":
    run(main)
