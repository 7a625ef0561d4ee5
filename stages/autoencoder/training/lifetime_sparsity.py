"""Lifetime sparsity: the objective keeps each unit only in the images of a batch where it is largest.

Makhzani & Frey 2015, section 2. So every unit learns from as many images as any other.
"""

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def keep_winners(activations: Tensor, share: float, in_slices: bool) -> Tensor:
    """Activations (B, D), each >= 0 -> the same, with 0 in place of those that are not among the largest of their unit.

    Each unit keeps `share` of the images of the batch, rounded, at least one; of equal activations at this limit all
    are kept. in_slices: the batch is that of all processes of a group, each of which holds a slice of it.
    """
    return activations * (activations >= _find_limits(activations.detach(), share, in_slices))


def _find_limits(activations: Tensor, share: float, in_slices: bool) -> Tensor:
    """The smallest activation of each unit, (D,), that is kept, given this process's activations (B, D)."""
    if not in_slices or not distributed.is_initialized():
        return activations.topk(_count_winners(len(activations), share), dim=0).values[-1]
    images = torch.tensor(len(activations), device=activations.device)
    distributed.all_reduce(images)
    count = _count_winners(int(images), share)
    mine = activations.topk(min(count, len(activations)), dim=0).values
    mine = F.pad(mine, (0, 0, 0, count - len(mine)))  # with 0, which is above no activation
    gathered = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, mine)
    return torch.cat(gathered).topk(count, dim=0).values[-1]


def _count_winners(images: int, share: float) -> int:
    return max(1, round(share * images))
