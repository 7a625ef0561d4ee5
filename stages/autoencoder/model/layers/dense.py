"""Dense layers whose float32 products on a CPU are computed by oneDNN, which is faster than torch's MKL.

With the portable pins MKL has only one mode that gives the same bytes on Intel and on AMD, at less than half of
oneDNN's speed (docs/performance.md, docs/reproducibility.md).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Dense(nn.Linear):
    """nn.Linear whose float32 products on a CPU are oneDNN's; the same layer as nn.Linear elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return _Linear.apply(x, self.weight, self.bias) if is_plain(x) else super().forward(x)


class _Linear(torch.autograd.Function):
    """F.linear by oneDNN, with its gradients: torch knows none for `product`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (B, I), weight (O, I), bias (O,) -> (B, O)."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """grad (B, O) -> the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        need_x, _, need_bias = ctx.needs_input_grad
        return (
            product(grad, weight.t()) if need_x else None,
            product(grad.t(), x.t()),
            grad.sum(0) if need_bias else None,
        )


def is_plain(x: Tensor) -> bool:
    """Whether a layer may compute its output for x, (B, ...), by `product`, with gradients of its own.

    Other programs, which get a model by export, know neither. oneDNN has no product of no images.
    """
    if torch.compiler.is_exporting() or torch.is_autocast_enabled("cpu"):
        return False
    return has_product(x) and len(x) > 0


def has_product(x: Tensor) -> bool:
    """Whether oneDNN computes products of tensors like this one."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, K), (M, K), (M,) -> (N, M): a b^T + bias by oneDNN's inner product, which has no gradient."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
