"""What the page shows of one experiment, read from the files that the pipeline wrote and checked to belong together."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dvc.utils.flatten import flatten

from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.data.pixels import evenly_spaced
from stages.autoencoder.params.base.loader import read_yaml
from stages.autoencoder.scores import maps
from stages.autoencoder.scores.reconstruction import mse_per_image, score_in_batches
from stages.autoencoder.use import TrainedModel, load_model

MODEL, RAW, TEST = Path("data/model.safetensors"), packed_file.RAW, split_files.TEST
EMBEDDINGS, RECONSTRUCTIONS = Path("data/embeddings.safetensors"), Path("data/reconstructions.safetensors")
PARAMS, METRICS = Path("params.yaml"), (Path("metrics/evaluate.json"), Path("metrics/train.json"))
DIMENSIONS, PCA = Path("plots/dimensions.csv"), Path("plots/pca.csv")
FILES = (MODEL, RAW, TEST, EMBEDDINGS, RECONSTRUCTIONS, PARAMS, *METRICS, DIMENSIONS, PCA)
MAX_NUMBERS = 2**24  # of all images: 10,000 digits, 5,461 colour images of 32 x 32, 341 of 128 x 128


@dataclass(frozen=True)
class Experiment:
    """A trained model with test images, n of which are shown, and what is known of each."""

    model: TrainedModel
    images: np.ndarray  # uint8 (n, C, H, W)
    codes: np.ndarray  # float32 (n, D)
    errors: np.ndarray  # float64 (n,), MSE per pixel
    labels: np.ndarray  # int64 (n,), each an index into class_names; all 0 if there are no classes
    class_names: list[str]  # [] if there are no classes
    names: list[str]  # of each image: its path in the folder, or its row of data/raw
    test_count: int  # test images, shown or not
    mean_code: np.ndarray  # float64 (D,), of the training part
    points: dict[str, np.ndarray]  # the maps, float32 (n, 2) each
    trust: dict[str, float]  # trustworthiness of the maps
    dimensions: list[int]  # all of them, the one whose ablation costs most first
    mse_added: dict[int, float]  # by the ablation of a dimension; of at most 64
    params: dict[str, Any]
    metrics: dict[str, float]
    pca: list[tuple[int, float]]  # dimensions and PCA's test error


def load(folder: Path, max_images: int | None = None) -> Experiment:
    """The experiment whose outputs lie in a folder, as those of the pipeline in a checkout.

    max_images: test images at most, evenly spaced; None: those of the maps. Raises UserError if a file is absent,
    damaged, or made with another model than the rest.
    """
    model = load_model(folder / MODEL, "cpu")
    test = split_files.load(folder / TEST, folder / RAW)
    shape = test.images.shape[1:]
    if shape != model.shape:
        raise UserError(
            f"{MODEL}: must be trained on images {shape}, as the test images; got {model.shape}; run dvc repro"
        )
    embedding = check_model(folder, EMBEDDINGS)
    check_model(folder, RECONSTRUCTIONS)
    held = arrays.load(folder / EMBEDDINGS)[0]
    output = arrays.map_array(folder / RECONSTRUCTIONS, "output")
    if not len(held["test"]) == len(output) == len(test.images):
        counts = f"{len(held['test'])} codes and {len(output)} reconstructions"
        raise UserError(f"data: must hold one of each for {len(test.images)} test images; got {counts}; run dvc repro")
    errors = score_in_batches(mse_per_image, output, test.images)
    metrics = {key: value for path in METRICS for key, value in read_json(folder / path).items()}
    if not np.isclose(metrics.get("mse", np.nan), errors.mean(), rtol=1e-6, atol=0):
        raise UserError(
            f"{METRICS[0]}: mse must be that of data/reconstructions, {errors.mean():.6g}; got {metrics.get('mse')};"
            " run dvc repro"
        )
    # positions on the maps, of which fewer are shown where images are large
    count = min(max_images or maps.MAX_CODES, max(1, MAX_NUMBERS // int(np.prod(shape))))
    chosen = evenly_spaced(np.arange(len(held["mapped"])), count)
    rows = held["mapped"][chosen]
    codes = held["test"]
    dimensions, mse_added = order_dimensions(folder, codes)
    return Experiment(
        model=model,
        images=test.images[rows],
        codes=codes[rows],
        errors=errors[rows],
        labels=test.labels[rows],
        class_names=test.class_names,
        names=choose(test.read_names(), rows) or [f"test/{row}" for row in test.index[rows]],
        test_count=len(test.images),
        mean_code=held["train"].mean(0, dtype=np.float64),
        points={name: held[name][chosen] for name in (*maps.METHODS, "pca") if name in held},
        trust=embedding["trust"],
        dimensions=dimensions,
        mse_added=mse_added,
        params=flatten(read_yaml(folder / PARAMS)),
        metrics=metrics,
        pca=[(int(row["dimension"]), float(row["mse"])) for _, row in read_table(folder / PCA).iterrows()],
    )


def check_model(folder: Path, path: Path) -> dict[str, Any]:
    """The description of a file made with the model. Raises UserError if another model made it."""
    about, _ = arrays.describe(folder / path)
    if about.get("model") != files.digest(folder / MODEL):
        raise UserError(f"{path}: must be made with {MODEL}; got one made with another; run dvc repro to remake it")
    return about


def order_dimensions(folder: Path, codes: np.ndarray) -> tuple[list[int], dict[int, float]]:
    """All dimensions by what they carry, and the error that the ablation of one adds, for those that were ablated.

    The stage embed ablates at most 64; the others follow, those that vary most first. Raises UserError for a table
    that is not of these codes.
    """
    table = read_table(folder / DIMENSIONS)
    ablated = [int(dimension) for dimension in table["dimension"]]
    latent_dim = codes.shape[1]
    if not set(ablated) <= set(range(latent_dim)):
        raise UserError(f"{DIMENSIONS}: must list dimensions below {latent_dim}; got {max(ablated)}; run dvc repro")
    by_spread = np.argsort(-codes.std(0, dtype=np.float64), kind="stable").tolist()
    others = [dimension for dimension in by_spread if dimension not in set(ablated)]
    return ablated + others, dict(zip(ablated, table["mse_added"].tolist(), strict=True))


def choose(names: list[str] | None, rows: np.ndarray) -> list[str] | None:
    """The names at these rows, if there are names."""
    return names and [names[row] for row in rows]


def read_json(path: Path) -> dict[str, float]:
    """A metrics file. Raises UserError if it is absent or damaged."""
    try:
        values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which makes it") from None
    except ValueError as error:
        raise UserError(f"{path}: must be a metrics file; {error}; run dvc repro") from None
    return values


def read_table(path: Path) -> pd.DataFrame:
    """A table of the pipeline. Raises UserError if it is absent or damaged."""
    try:
        table: pd.DataFrame = pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which makes it") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: must be a table; {error}; run dvc repro") from None
    return table
