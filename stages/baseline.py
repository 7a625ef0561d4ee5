"""Stage baseline: PCA at every dimension, which an autoencoder has to beat.

Reads data/split/{train,test}.safetensors and params numerics, threads. Writes data/baseline.safetensors and
plots/pca.csv. PCA is fitted once, on the training part; one projection gives the test error for every number of
components. Arrays: mean (P,) and components (K, P), float32; mse, float64 (K,), the test MSE per pixel with 1, 2,
... K components.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder.core import arrays, files
from stages.autoencoder.data import pixels, split_files
from stages.autoencoder.scores import pca
from stages.runtime.command import run_stage

TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
BASELINE, CURVE = Path("data/baseline.safetensors"), Path("plots/pca.csv")
MAX_PIXELS = 4096  # images with more pixels are fitted on at most this many of them: the time grows with the cube


def main() -> None:
    train, test = (split_files.load(path, "images")[0]["images"] for path in (TRAIN, TEST))
    if train[0].size > MAX_PIXELS:
        train = pixels.evenly_spaced(train, MAX_PIXELS)
    mean, components = pca.fit(pixels.flatten(train))
    mse = pca.error_by_dimension(pixels.flatten(test), mean, components)
    arrays.save(BASELINE, {"mean": mean, "components": components, "mse": mse})
    table = pd.DataFrame({"dimension": np.arange(1, len(mse) + 1), "mse": mse})
    files.write(CURVE, table.to_csv(index=False).encode())


if __name__ == "__main__":
    run_stage(main)
