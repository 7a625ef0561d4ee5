"""Which dimensions of a code are used, and how much of the image each carries."""

import numpy as np
import pandas as pd
import torch

from stages.autoencoder import images, inference
from stages.autoencoder.activity import active
from stages.autoencoder.model import Autoencoder
from stages.autoencoder.objectives import gaussian_kl_by_dimension

MEASURED = 64  # dimensions that are silenced, those that vary most: a decoder's pass for each
SEEN = 500  # test images that are decoded for it, evenly spread


def table(
    model: Autoencoder, mean: np.ndarray, test: np.ndarray, codes: np.ndarray, device: torch.device
) -> pd.DataFrame:
    """A row for each of the at most 64 dimensions that vary most, the one that carries most first.

    mean: (D,), what a silenced dimension is set to (the mean of the training codes); test: uint8
    (N, C, H, W); codes: float32 (N, D), of the test images. Columns: rank from 1; dimension; std and active,
    over the test images; kl, in nats, mean over them, of a gaussian code alone; mse_added, the MSE per pixel
    of 500 of them with this dimension silenced less their MSE with the code as it is.
    """
    gaussian = model.spec.bottleneck == "gaussian"
    columns = {"std": codes.std(0, dtype=np.float64), "active": active(codes, gaussian).astype(int)}
    if gaussian:
        columns["kl"] = kl(model, test, device)
    chosen = np.argsort(-columns["std"], kind="stable")[:MEASURED]
    shown, shown_codes = images.spread(test, SEEN), images.spread(codes, SEEN)
    added = np.array([_mse(model, silenced(shown_codes, d, mean[d]), shown, device) for d in chosen])
    found = pd.DataFrame({"dimension": chosen} | {name: values[chosen] for name, values in columns.items()})
    found["mse_added"] = added - _mse(model, shown_codes, shown, device)
    found = found.sort_values("mse_added", ascending=False, kind="stable")
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found


def silenced(codes: np.ndarray, dimension: int, value: float) -> np.ndarray:
    """Codes (N, D) with one dimension set to one value."""
    codes = codes.copy()
    codes[:, dimension] = value
    return codes


def kl(model: Autoencoder, test: np.ndarray, device: torch.device) -> np.ndarray:
    """What each dimension of a gaussian code says about an image, in nats, mean over test images: float64 (D,)."""

    def by_dimension(x: torch.Tensor) -> torch.Tensor:
        code = model.code(x)
        return gaussian_kl_by_dimension(code.mean, code.log_var)

    return inference.apply(by_dimension, test, device).mean(0, dtype=np.float64)


def _mse(model: Autoencoder, codes: np.ndarray, target: np.ndarray, device: torch.device) -> float:
    output = inference.apply(model.decode, codes, device)
    return float(np.square(output - target / np.float32(255), dtype=np.float64).mean())
