"""A trained model applied to many images: uint8 in, float32 out, batch by batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import to_unit

BATCH_SIZE = 500  # images held as float at a time


@torch.no_grad()
def apply(
    function: Callable[[Tensor], Tensor], values: np.ndarray, device: torch.device, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Apply `function` to `values` in batches along the first axis; uint8 images reach it as float in [0, 1].

    values: uint8 images (N, C, H, W) or float32 codes (N, D). Returns the function's results, float32 (N, ...).
    Raises UserError if a result is not finite.
    """
    outputs = []
    for batch in torch.from_numpy(values).split(batch_size):
        batch = batch.to(device)
        outputs.append(function(to_unit(batch) if batch.dtype == torch.uint8 else batch).float().cpu())
    result = torch.cat(outputs)
    if not result.isfinite().all():
        raise UserError(
            "model: must give finite numbers; got infinity or NaN; lower train.learning_rate and train it again"
        )
    return result.numpy()
