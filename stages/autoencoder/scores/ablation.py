"""Which dimensions of a code are used, and how much error ablating each one adds."""

import numpy as np
import pandas as pd
import torch

from stages.autoencoder.data.pixels import ImageRows, evenly_spaced, piece_length, pieces, to_unit
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.objectives import gaussian_kl_by_dimension
from stages.autoencoder.scores.code_usage import is_active

MAX_DIMENSIONS = 64  # dimensions to ablate, those that vary most: each costs a pass of the decoder
MAX_IMAGES, MIN_IMAGES = 500, 50  # test images decoded for each dimension, evenly spaced
NUMBERS = 2**23  # of such images in all, so that large images are fewer


def ablation_table(
    model: Autoencoder, mean: np.ndarray, test: ImageRows, codes: np.ndarray, device: torch.device
) -> pd.DataFrame:
    """A row for each of the at most 64 dimensions that vary most, the one whose ablation costs most first.

    mean: (D,), the value of an ablated dimension (the mean of the training codes); test: uint8 (N, C, H, W);
    codes: float32 (N, D), of the test images. Columns: rank from 1; dimension; std and active, over the test
    images; kl, in nats, mean over them, of a variational code only; mse_added, the MSE per pixel of 500 of them
    (fewer if they are large, at least 50) with this dimension ablated minus their MSE with the whole code.
    """
    columns = {"std": codes.std(0, dtype=np.float64), "active": is_active(codes, model.is_variational).astype(int)}
    if model.is_variational:
        columns["kl"] = kl_by_dimension(model, test, device)
    chosen = np.argsort(-columns["std"], kind="stable")[:MAX_DIMENSIONS]
    count = int(np.clip(NUMBERS // np.prod(model.spec.shape), MIN_IMAGES, MAX_IMAGES))
    images, whole_codes = evenly_spaced(test, count), evenly_spaced(codes, count)
    ablated = np.array([_mse(model, ablate(whole_codes, d, mean[d]), images, device) for d in chosen])
    table = pd.DataFrame({"dimension": chosen} | {name: values[chosen] for name, values in columns.items()})
    table["mse_added"] = ablated - _mse(model, whole_codes, images, device)
    table = table.sort_values("mse_added", ascending=False, kind="stable")
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def ablate(codes: np.ndarray, dimension: int, value: float) -> np.ndarray:
    """Codes (N, D) with one dimension set to one value."""
    codes = codes.copy()
    codes[:, dimension] = value
    return codes


def kl_by_dimension(model: Autoencoder, test: ImageRows, device: torch.device) -> np.ndarray:
    """The KL divergence of each dimension of a variational code, in nats, mean over test images: float64 (D,)."""

    def kl(x: torch.Tensor) -> torch.Tensor:
        code = model.code(x)
        assert code.mean is not None and code.log_var is not None  # noqa: S101, PT018 - the model is variational
        return gaussian_kl_by_dimension(code.mean, code.log_var)

    return inference.apply(kl, test, device).mean(0, dtype=np.float64)


def _mse(model: Autoencoder, codes: np.ndarray, target: np.ndarray, device: torch.device) -> float:
    total = 0.0
    for piece in pieces(len(codes), piece_length(target.shape[1:], MAX_IMAGES)):
        output = inference.apply(model.decode, codes[piece], device)
        total += float(np.square(output - to_unit(target[piece]), dtype=np.float64).sum())
    return total / target.size
