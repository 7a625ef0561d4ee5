"""The processes that train one model together, each on its slice of every batch (stages/runtime/processes.py).

All of them draw the order, the augmentation and the noise of whole batches, batch norm takes the statistics of whole
batches (model/layers/batch_norm.py), and DistributedDataParallel gives each of them the mean of all gradients. So they
take the same steps as one process would, up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stages.autoencoder.core.errors import UserError


@dataclass(frozen=True)
class Group:
    """This process and its number among all, from 0. Alone, it keeps and returns what it is given."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that validates, writes and reports."""
        return self.rank == 0

    def slice(self, images: int) -> slice:
        """This process's part of a batch of so many images; parts differ by one image at most.

        Raises UserError if there are more processes than images.
        """
        if self.size > images:
            raise UserError(
                f"params.yaml: processes must be at most the number of images in a batch, {images}; got {self.size};"
                " lower it"
            )
        return slice(self.rank * images // self.size, (self.rank + 1) * images // self.size)

    def weight(self, images: int) -> float:
        """What the mean over this process's part counts, so that the mean over processes is that of the batch."""
        part = self.slice(images)
        return (part.stop - part.start) * self.size / images

    def choose_device(self, device: torch.device) -> torch.device:
        """This process's own GPU where `device` is one, else `device`."""
        if device.type != "cuda" or not distributed.is_initialized():
            return device
        torch.cuda.set_device(self.rank)
        return torch.device("cuda", self.rank)

    def share(self, objective: nn.Module) -> nn.Module:
        """The objective, whose gradients become the mean over all processes; call it instead of its parts."""
        if not distributed.is_initialized():
            return objective
        if next(objective.parameters()).device.type != "cpu":  # there, BatchNorm itself asks the other processes
            objective = nn.SyncBatchNorm.convert_sync_batchnorm(objective)
        # every process has the same statistics: no forward pass needs to send them
        return DistributedDataParallel(objective, forward_sync_buffers=False)

    def mean(self, value: float) -> float:
        """The mean of the values of all processes, the same bits in each."""
        if not distributed.is_initialized():
            return value
        held = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(held)
        return held.item() / self.size

    def from_first(self, compute: Callable[[], float]) -> float:
        """What the first process computes; the others wait for it."""
        if not distributed.is_initialized():
            return compute()
        held = torch.tensor(compute() if self.is_first else 0.0, dtype=torch.float64)
        distributed.broadcast(held, 0)
        return held.item()


ALONE = Group()


def current() -> Group:
    """The group that this process was started in; ALONE if in none."""
    return Group(distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else ALONE
