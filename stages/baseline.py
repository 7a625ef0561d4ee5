"""Stage baseline: PCA at every dimension, what an autoencoder has to beat.

data/split/{train,test}.safetensors -> data/baseline.safetensors, plots/pca.csv. PCA is fitted once, on the
training part; the test error at each number of components follows from one projection. Arrays: mean (P,) and
components (K, P), float32; mse, float64 (K,), the test MSE per pixel with 1, 2, ... K components.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from stages.autoencoder import arrays, images, parts
from stages.autoencoder.errors import run

TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
BASELINE, CURVE = Path("data/baseline.safetensors"), Path("plots/pca.csv")
LARGEST = 4096  # PCA of larger images takes at most so many of them: its time grows with the cube of the smaller


def main() -> None:
    train, test = (parts.load(path, "images")[0]["images"] for path in (TRAIN, TEST))
    if train[0].size > LARGEST:
        train = images.spread(train, LARGEST)
    mean, components = fit(images.pixels(train))
    mse = error_by_dimension(images.pixels(test), mean, components)
    arrays.save(BASELINE, {"mean": mean, "components": components, "mse": mse})
    table = pd.DataFrame({"dimension": np.arange(1, len(mse) + 1), "mse": mse})
    arrays.write(CURVE, table.to_csv(index=False).encode())


def fit(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and principal axes (K, P), the most important first, of images (N, P), N >= 2.

    K is P, or N - 1 where that is less: N images minus their mean span no more.
    """
    count, size = train.shape
    solver = "covariance_eigh" if count > size else "full"
    with np.errstate(invalid="ignore"):  # shares of a variance of 0, where all images are alike
        pca = PCA(min(count - 1, size), svd_solver=solver).fit(train)
    return pca.mean_, pca.components_


def error_by_dimension(test: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """MSE per pixel on images (N, P) with 1, 2, ... K components, float64 (K,).

    The axes are orthonormal: each component takes the mean square of its coordinate off the error. With as
    many as pixels nothing is lost.
    """
    centred = test - mean
    explained = np.square(centred @ components.T, dtype=np.float64).mean(0).cumsum()
    total = np.square(centred, dtype=np.float64).sum(1).mean()
    mse = np.maximum(total - explained, 0) / test.shape[1]
    if len(mse) == test.shape[1]:
        mse[-1] = 0
    return mse


if __name__ == "__main__":
    run(main)
