"""A trained model applied to many images: uint8 in, float32 out, batch by batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import ImageRows, evenly_spaced, piece_length, pieces, to_unit
from stages.autoencoder.model.autoencoder import Autoencoder

BATCH_SIZE = 500  # images held as float at a time; fewer where they are large


def apply(
    function: Callable[[Tensor], Tensor], values: ImageRows, device: torch.device, batch_size: int | None = None
) -> np.ndarray:
    """Apply `function` to `values` in batches along the first axis; uint8 images reach it as float in [0, 1].

    values: uint8 images (N, C, H, W) or float32 codes (N, D). batch_size: by default 500, fewer large images.
    Returns the function's results, float32 (N, ...). Raises UserError if a result is not finite.
    """
    length = batch_size or piece_length(values.shape[1:], BATCH_SIZE)
    return np.concatenate([_apply_to_batch(function, values[batch], device) for batch in pieces(len(values), length)])


def apply_to_some(
    function: Callable[[Tensor], Tensor], images: ImageRows, most: int, device: torch.device
) -> np.ndarray:
    """`apply` for evenly spaced ones of many images, at most `most`, read batch by batch."""
    rows = evenly_spaced(np.arange(len(images)), most)
    batches = pieces(len(rows), BATCH_SIZE)
    return np.concatenate([apply(function, images[rows[batch]], device) for batch in batches])


def encode(model: Autoencoder, images: ImageRows, device: torch.device) -> np.ndarray:
    """The codes, float32 (N, D), of images (N, C, H, W), uint8 or float32 in [0, 1]."""
    return apply(model.encode, images, device)


def compute_logits(model: Autoencoder, images: ImageRows, device: torch.device) -> Tensor:
    """The reconstructions before their sigmoid, float32 (N, C, H, W) on the CPU, of images as `encode` takes."""
    return torch.from_numpy(apply(lambda x: model.decoder(model.code(x).z), images, device))


def decode(model: Autoencoder, codes: np.ndarray, device: torch.device) -> np.ndarray:
    """The images, float32 (N, C, H, W) in [0, 1], of codes float32 (N, D)."""
    return apply(model.decode, codes, device, piece_length(model.spec.shape, BATCH_SIZE))


@torch.no_grad()
def _apply_to_batch(function: Callable[[Tensor], Tensor], values: np.ndarray, device: torch.device) -> np.ndarray:
    batch = torch.from_numpy(values).to(device)
    result = function(to_unit(batch) if batch.dtype == torch.uint8 else batch).float().cpu()
    if not result.isfinite().all():
        raise UserError(
            "model: must give finite numbers; got infinity or NaN; lower train.learning_rate and train it again"
        )
    return result.numpy()
