"""Stage baseline: PCA, which an autoencoder has to beat.

Reads data/raw, data/split/{train,test} and params numerics, threads. Writes data/baseline.safetensors and
plots/pca.csv. PCA is fitted once, on the training part; one projection gives the test error for every number of
components. Arrays: mean (P,) and components (K, P), float32; mse, float64 (K,), the test MSE per pixel with 1, 2,
... K components. K is at most 512 for images of more than 4,096 numbers.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder.core import arrays, files
from stages.autoencoder.data import split_files
from stages.autoencoder.scores import pca
from stages.runtime.command import run_stage

BASELINE, CURVE = Path("data/baseline.safetensors"), Path("plots/pca.csv")


def main() -> None:
    train, test = (split_files.load(path).images for path in (split_files.TRAIN, split_files.TEST))
    mean, components = pca.fit(train)
    mse = pca.error_by_dimension(test, mean, components)
    held = {"mse": mse, "components": components, "mean": mean}
    with arrays.create(BASELINE, {name: (array.dtype, array.shape) for name, array in held.items()}) as file:
        for name, array in held.items():  # as `arrays.save`, which would hold the components once more
            file.append(name, array)
    table = pd.DataFrame({"dimension": np.arange(1, len(mse) + 1), "mse": mse})
    files.write(CURVE, table.to_csv(index=False).encode())


if __name__ == "__main__":
    run_stage(main)
