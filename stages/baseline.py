"""Stage baseline: PCA at every dimension, what an autoencoder has to beat.

data/split/{train,test}.safetensors -> data/baseline.safetensors, plots/pca.csv. PCA is fitted once, on the
training part; the test error at each number of components follows from one projection.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from stages.autoencoder import arrays
from stages.autoencoder.errors import run
from stages.autoencoder.images import pixels

TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
BASELINE, CURVE = Path("data/baseline.safetensors"), Path("plots/pca.csv")


def main() -> None:
    train, test = (pixels(arrays.load(path, "images")[0]["images"]) for path in (TRAIN, TEST))
    mean, components = fit(train)
    mse = error_by_dimension(test, mean, components)
    arrays.save(BASELINE, {"mean": mean, "components": components, "mse": mse})
    table = pd.DataFrame({"dimension": np.arange(1, len(mse) + 1), "mse": mse})
    arrays.write(CURVE, table.to_csv(index=False).encode())


def fit(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and principal axes (K, P), K = min(N, P), the most important first, of images (N, P)."""
    solver = "covariance_eigh" if len(train) >= train.shape[1] else "full"
    pca = PCA(svd_solver=solver).fit(train)
    return pca.mean_, pca.components_


def error_by_dimension(test: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """MSE per pixel on images (N, P) with 1, 2, ... K components, float64 (K,).

    The axes are orthonormal: each component takes the mean square of its coordinate off the error.
    """
    centred = test - mean
    explained = np.square(centred @ components.T, dtype=np.float64).mean(0).cumsum()
    total = np.square(centred, dtype=np.float64).sum(1).mean()
    return np.maximum(total - explained, 0) / test.shape[1]


if __name__ == "__main__":
    run(main)
