"""Encoders and decoders that mirror each other, for images of any size and any number of channels.

An encoder maps pixels in [0, 1], float (B, C, H, W), to `outputs` numbers an image, (B, outputs).
A decoder maps codes (B, latent_dim) to logits (B, C, H, W): their sigmoid is the reconstruction, whose range
is thereby that of the input.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, int, int]  # channels, height, width of one image


SMALL = 20480  # numbers in a batch up to which torch keeps a convolution from oneDNN, in a slow path of its own


class Dense(nn.Linear):
    """nn.Linear, whose product is a convolution over a view of the batch where bytes must be portable.

    The numbers are the same, the library is another: with the portable pins oneDNN's AVX2 gives the same
    bytes on Intel and on AMD at about twice the speed of MKL's only mode that does (docs/reproducibility.md).
    Without them MKL is the faster one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        if x.device.type != "cpu" or not torch.are_deterministic_algorithms_enabled() or x.numel() <= SMALL:
            return super().forward(x)
        # the images of the batch as the places of one picture, their numbers as its channels: nothing is copied
        product = F.conv1d(x.t()[None], self.weight[:, :, None], self.bias)[0].t()
        # a trained batch normalisation takes torch's sqrt on a view, whose last bit is the CPU's own, else an exact one
        return product if self.training else product.contiguous()


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
