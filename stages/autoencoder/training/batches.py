"""Batches of images for training, gathered from disk or memory onto the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.autoencoder.data.pixels import ImageRows, piece_length

MAX_RESIDENT_BYTES = 2**31  # images that an accelerator holds whole; more are copied to it batch by batch

MIN_AUTO_BATCH, MAX_AUTO_BATCH = 16, 128  # images
MIN_STEPS = 28  # in an epoch: mnist5k's, with batches of 128


def suitable_batch_size(shape: Sequence[int]) -> int:
    """The batch size for so many training images, (N, C, H, W), where params.yaml leaves the choice to us.

    128; fewer of large images, so that a batch takes no more memory; and fewer of few images, but 16 or more, so that
    an epoch has about 28 steps (docs/dev/log.md).
    """
    count, *image = shape
    return min(piece_length(image, MAX_AUTO_BATCH), max(MIN_AUTO_BATCH, count // MIN_STEPS))


class Batches:
    """The images of one part, as batches on a device."""

    def __init__(self, images: ImageRows, device: torch.device) -> None:
        """images: uint8 (N, C, H, W)."""
        self._images, self._device = images, device
        size = torch.Size(images.shape).numel()
        is_resident = device.type != "cpu" and size <= MAX_RESIDENT_BYTES
        self._resident = torch.from_numpy(images[:]).to(device) if is_resident else None

    def __len__(self) -> int:
        return len(self._images)

    def take(self, rows: Tensor | slice) -> Tensor:
        """The images at these positions, uint8 (n, C, H, W) on the device."""
        if self._resident is not None:
            return self._resident[rows]
        positions = rows if isinstance(rows, slice) else rows.cpu().numpy()
        return torch.from_numpy(self._images[positions]).to(self._device)
