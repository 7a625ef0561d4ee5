"""Stage embed: the codes of the images and 2-D maps of them -> data/embeddings.safetensors, plots/.

Reads data/model, data/raw, data/split/{train,valid,test} and params device, numerics, threads, embed.
Arrays, in order of `index`: train, valid and test, the codes float32 (N, D) of these parts; mapped, int64 (M,), the
positions of the test images on the maps, all of them up to 10,000; pca and, by embed.map, tsne or umap, float32
(M, 2); with embed.n2d also n2d, float32 (N, 10), UMAP of the codes of all parts in this order. The description has
the model's bottleneck, the digest of its file, the chosen map, the trustworthiness of each map, and whether classifiers
of the codes are wanted. Also writes each map as picture and table to plots/embed/, traversals of the code, and
plots/dimensions.csv with its picture.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder.core import arrays, files
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import evenly_spaced
from stages.autoencoder.data.split_files import TEST, TRAIN, VALID
from stages.autoencoder.figures import code_figures, decoded_codes
from stages.autoencoder.figures.base import image_grids
from stages.autoencoder.model import devices, inference, model_file
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.embed import EmbedParams
from stages.autoencoder.scores import ablation, maps
from stages.autoencoder.scores.code_usage import is_active
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score
from stages.runtime.command import run_stage

MODEL = Path("data/model.safetensors")
EMBEDDINGS, PLOTS, DIMENSIONS = Path("data/embeddings.safetensors"), Path("plots/embed"), Path("plots/dimensions.csv")
MAX_POINTS = 2000  # of an interactive map: its page holds every point of every experiment as text
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(EmbedParams)
    device = devices.prepare(params.device, params.numerics)
    digest = files.digest(MODEL)
    model = model_file.load(MODEL, device).model
    parts = {path.stem: split_files.load(path) for path in (TRAIN, VALID, TEST)}
    test = parts["test"]
    codes = {name: inference.encode(model, part.images, device) for name, part in parts.items()}
    mapped = evenly_spaced(np.arange(len(test.images)), maps.MAX_CODES)
    points, trust = compute_maps(codes["test"][mapped], params.embed.map)
    wanted = {"map": params.embed.map, "classifiers": params.embed.classifiers}  # evaluate makes the latter
    description = {"bottleneck": model.spec.bottleneck, **wanted, "trust": trust}
    manifold = compute_manifold(np.concatenate([*codes.values()])) if params.embed.n2d else {}
    arrays.save(EMBEDDINGS, {**codes, **manifold, "mapped": mapped, **points}, description | {"model": digest})
    for name, coordinates in points.items():
        save_map(name, coordinates, trust.get(name), test.labels[mapped], test.class_names)

    mean = codes["train"].mean(0, dtype=np.float64)
    table = ablation.ablation_table(model, mean, test.images, codes["test"], device)
    files.write(DIMENSIONS, table.to_csv(index=False).encode())
    active = is_active(codes["test"], model.is_variational)
    code_figures.save_dimensions(PLOTS / "dimensions.png", table, int(active.sum()), len(active))
    picture = decoded_codes.traversals(model, codes["test"], table["dimension"].tolist(), device)
    image_grids.save_rows(PLOTS / f"{picture.name}.png", picture.rows, title=picture.title)


def compute_maps(codes: np.ndarray, chosen: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The maps, float32 (M, 2), of codes (M, D) by PCA and by the chosen method, and the trustworthiness of each."""
    methods = {"pca": maps.pca} | {name: method for name, method in maps.METHODS.items() if name == chosen}
    points: dict[str, np.ndarray] = {}
    trust: dict[str, float] = {}
    for name, method in methods.items():
        try:
            points[name] = method(codes)
        except UndefinedScore as reason:
            log.info("no %s map: %s", maps.TITLES[name], reason)
        else:
            add_score(trust, name, maps.trustworthiness, codes, points[name])
    return points, trust


def compute_manifold(codes: np.ndarray) -> dict[str, np.ndarray]:
    """n2d, what N2D clusters, float32 (N, 10), of the codes (N, D) of all parts; {} if they are too few or equal."""
    try:
        return {"n2d": maps.n2d(codes)}
    except UndefinedScore as reason:
        log.info("no n2d: %s", reason)
        return {}


def save_map(name: str, points: np.ndarray, trust: float | None, labels: np.ndarray, class_names: list[str]) -> None:
    """One map, (M, 2), as a picture of all points and, for the interactive plot, as a table of at most 2,000."""
    title = f"{maps.TITLES[name]} of the codes of {len(points):,} test images"
    if trust is not None:
        title += f"; trustworthiness {trust:.3f}"
    code_figures.save_map(PLOTS / f"{name}.png", points, labels, class_names, title, maps.UNITS[name])
    classes = np.array(class_names or [""])[labels]
    table = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": classes})
    table = table.iloc[evenly_spaced(np.arange(len(table)), MAX_POINTS)]
    files.write(PLOTS / f"{name}.csv", table.to_csv(index=False).encode())


if __name__ == "__main__":
    run_stage(main)
