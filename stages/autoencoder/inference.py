"""A trained model over many images: uint8 in, float32 out, batch by batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.errors import UserError

BATCH = 500  # images held as float at a time


@torch.no_grad()
def apply(
    function: Callable[[Tensor], Tensor], values: np.ndarray, device: torch.device, batch: int = BATCH
) -> np.ndarray:
    """function over `values` in batches along the first axis; uint8 images reach it as float in [0, 1].

    values: uint8 images (N, C, H, W) or float32 codes (N, D). Returns what the function gives, (N, ...).
    Raises UserError where that is no finite number.
    """
    outputs = []
    for part in torch.from_numpy(values).split(batch):
        given = part.to(device)
        outputs.append(function(given.float() / 255 if part.dtype == torch.uint8 else given).float().cpu())
    found = torch.cat(outputs)
    if not found.isfinite().all():
        raise UserError(
            "model: must give finite numbers; got infinite ones or NaN; lower train.rate and train it again"
        )
    return found.numpy()
