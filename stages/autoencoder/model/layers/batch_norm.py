"""Batch norm over the whole batch, also where several processes hold a slice of it each.

torch has SyncBatchNorm for that, which refuses CPUs. This one takes its place there, and is torch's own batch norm
where one process trains alone.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """nn.BatchNorm1d and nn.BatchNorm2d; in training on CPUs the statistics are those of all processes' images."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, H, W) -> the same shape, each channel normalised."""
        if not self.training or x.device.type != "cpu" or not distributed.is_initialized():
            return super().forward(x)
        with torch.no_grad():
            mean, variance, count = _compute_moments(x)
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        weight, bias = (self.weight, self.bias) if self.affine else (torch.ones_like(mean), torch.zeros_like(mean))
        return _Normalise.apply(x, weight, bias, mean, variance, count, self.eps)

    def _check_input_dim(self, x: Tensor) -> None:
        """torch's check of the number of dimensions: any will do."""


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance depend on the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: float, eps: float
    ) -> Tensor:
        """x (B, C, ...), count: numbers of a channel in all processes, the others (C,) -> (B, C, ...)."""
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """grad (B, C, ...) -> the gradients of x, and this process's part of those of weight and bias."""
        x, weight, mean, variance = ctx.saved_tensors
        direct, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # by way of mean and variance, each x moves the outputs of all processes
        sums = torch.stack([to_weight, to_bias])
        distributed.all_reduce(sums)
        slope, offset = sums * (weight * (variance + ctx.eps).rsqrt() / ctx.count)
        indirect = F.batch_norm(x, mean, variance, slope, offset, eps=ctx.eps)
        return direct - indirect, to_weight, to_bias, None, None, None, None


def _compute_moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance (C,), with divisor N, of each channel of the x (B, C, ...) of all processes, and N.

    The squares are summed around each process's own mean: around 0 the digits of small variances would be lost.
    """
    # as torch's own batch norm computes them; var_mean takes ten times as long where channels come last
    mean, variance = torch.batch_norm_update_stats(x.float() if x.dtype == torch.bfloat16 else x, None, None, 0.0)
    mine = torch.stack([torch.full_like(mean, x.numel() / x.shape[1]), mean, variance])
    gathered = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, mine)
    counts, means, variances = torch.stack(gathered, 1)  # each (processes, C)
    shares = counts / counts.sum(0)
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0), counts[:, 0].sum().item()
