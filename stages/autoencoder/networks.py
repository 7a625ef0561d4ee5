"""Encoders and decoders that mirror each other, for images of any size and any number of channels.

An encoder maps pixels in [0, 1], float (B, C, H, W), to `outputs` numbers an image, (B, outputs).
A decoder maps codes (B, latent_dim) to logits (B, C, H, W): their sigmoid is the reconstruction, whose range
is thereby that of the input.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

Shape = tuple[int, int, int]  # channels, height, width of one image


class Dense(nn.Linear):
    """nn.Linear whose float32 products on a CPU are oneDNN's, for MKL, which F.linear calls, is slower.

    With the portable pins MKL has one mode that gives the same bytes on Intel and on AMD, at less than half of
    oneDNN's speed (docs/performance.md, docs/reproducibility.md).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if plain and len(x) and torch.backends.mkldnn.is_available():  # oneDNN has no product of no images
            return _Linear.apply(x, self.weight, self.bias)
        return super().forward(x)


class _Linear(torch.autograd.Function):
    """F.linear by oneDNN, with the gradients that torch does not know for `product`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (B, I), weight (O, I), bias (O,) -> (B, O)."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """grad (B, O): the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        of_x, _, of_bias = ctx.needs_input_grad
        return (
            product(grad, weight.t()) if of_x else None,
            product(grad.t(), x.t()),
            grad.sum(0) if of_bias else None,
        )


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, K), (M, K), (M,) -> (N, M): a b^T + bias by oneDNN's inner product. CPU alone; has no gradient."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def encoder(shape: Shape, channels: Sequence[int], widths: Sequence[int], outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs): a halving convolution for each of `channels`, a dense layer for each of
    `widths`, each with batch normalisation and SiLU, then a linear layer. Without channels it is an MLP.
    """
    convolutions = [_halving(a, b) for a, b in pairwise([shape[0], *channels])]
    sizes = [_flat(shape, channels), *widths]
    dense = [_dense(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(*convolutions, nn.Flatten(), *dense, Dense(sizes[-1], outputs))


def decoder(shape: Shape, channels: Sequence[int], widths: Sequence[int], latent_dim: int) -> nn.Sequential:
    """(B, latent_dim) -> logits (B, C, H, W): the mirror of `encoder`, back through each of its sizes exactly."""
    sizes = [latent_dim, *reversed(widths)]
    dense = [_dense(a, b) for a, b in pairwise(sizes)]
    if not channels:
        return nn.Sequential(*dense, Dense(sizes[-1], _flat(shape, channels)), nn.Unflatten(1, shape))
    grids = halved(shape, len(channels))
    into = (channels[-1], *grids[-1])
    dense += [_dense(sizes[-1], _flat(shape, channels)), nn.Unflatten(1, into)]
    levels = list(zip(pairwise([shape[0], *channels]), grids, strict=False))
    convolutions = [_doubling(b, a, grid) for (a, b), grid in reversed(levels[1:])]
    return nn.Sequential(*dense, *convolutions, _transposed(channels[0], shape[0], grids[0], bias=True))


def halved(shape: Shape, times: int) -> list[tuple[int, int]]:
    """(height, width) before and after each of `times` convolutions of stride 2: 28, 14, 7, 4."""
    sizes = [shape[1:]]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _flat(shape: Shape, channels: Sequence[int]) -> int:
    """Numbers in an image after its convolutions."""
    height, width = halved(shape, len(channels))[-1]
    return [shape[0], *channels][-1] * height * width


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Dense(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.SiLU())


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


def _doubling(inputs: int, outputs: int, grid: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(_transposed(inputs, outputs, grid, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


def _transposed(inputs: int, outputs: int, grid: tuple[int, int], bias: bool) -> nn.ConvTranspose2d:
    """The convolution that undoes a halving of (height, width) `grid`."""
    # a transposed convolution of stride 2 makes 2n - 1 pixels out of n: an even size needs one more
    missing = (1 - grid[0] % 2, 1 - grid[1] % 2)
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=missing, bias=bias)
