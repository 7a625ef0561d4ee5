"""Encoders and decoders that mirror each other, for images of any size and any number of channels.

An encoder maps pixels in [0, 1], float (B, C, H, W), to `outputs` numbers for each image, (B, outputs).
A decoder maps codes (B, latent_dim) to logits (B, C, H, W). Their sigmoid is the reconstruction, so its range is
that of the input.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.model.layers.convolutions import DoublingConvolution
from stages.autoencoder.model.layers.dense import Dense

SMALLEST_GRID = 8  # pixels a side: further halvings made the error larger
MAX_WEIGHTS = 2**28  # 1 GiB in the model file, four times that in training
MAX_WIDE_SIDE = 128  # pixels a side, up to which the first convolution has 16 channels
Shape = tuple[int, int, int]  # channels, height, width of one image
Network = TypeVar("Network", bound=nn.Module)


def encoder(shape: Shape, channels: Sequence[int], widths: Sequence[int], outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs): a halving convolution for each of `channels`, a dense layer for each of
    `widths`, all with batch norm and SiLU, then a linear layer. Without channels it is an MLP.
    """
    convolutions = [_halving_block(a, b) for a, b in pairwise([shape[0], *channels])]
    sizes = [_flat_size(shape, channels), *widths]
    dense = [_dense_block(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(*convolutions, nn.Flatten(), *dense, Dense(sizes[-1], outputs))


def decoder(shape: Shape, channels: Sequence[int], widths: Sequence[int], latent_dim: int) -> nn.Sequential:
    """(B, latent_dim) -> logits (B, C, H, W): the mirror of `encoder`, back through each of its sizes."""
    sizes = [latent_dim, *reversed(widths)]
    dense: list[nn.Module] = [_dense_block(a, b) for a, b in pairwise(sizes)]
    if not channels:
        return nn.Sequential(*dense, Dense(sizes[-1], _flat_size(shape, channels)), nn.Unflatten(1, shape))
    grids = halved_sizes(shape, len(channels))
    into = (channels[-1], *grids[-1])
    dense += [_dense_block(sizes[-1], _flat_size(shape, channels)), nn.Unflatten(1, into)]
    levels = list(zip(pairwise([shape[0], *channels]), grids, strict=False))
    convolutions = [_doubling_block(b, a, grid) for (a, b), grid in reversed(levels[1:])]
    return nn.Sequential(*dense, *convolutions, DoublingConvolution(channels[0], shape[0], grids[0], bias=True))


def build_without_weights(make: Callable[[], Network], name: str) -> Network:
    """What `make` builds, on torch's device `meta`: shapes without memory. name: what it is, for the message.

    Raises ValueError above MAX_WEIGHTS.
    """
    with torch.device("meta"):
        network = make()
    count = sum(tensor.numel() for tensor in network.state_dict().values())
    if count > MAX_WEIGHTS:
        raise ValueError(f"a {name} may have {MAX_WEIGHTS:,} weights, this one has {count:,}")
    return network


def input_size(encoder: nn.Sequential) -> int:
    """How many numbers the last layer of an encoder is given."""
    last = encoder[-1]
    assert isinstance(last, Dense)  # noqa: S101 - `encoder` above ends so
    return last.in_features


def suitable_channels(shape: Sequence[int]) -> tuple[int, ...]:
    """Channels of convolutions for images (C, H, W): 16, 32, 64, 64, ..., until at most 8 pixels a side are left.

    Above 128 pixels a side they begin with 8, since the first two convolutions take most of the time and memory. At
    least three, at most eight. Chosen by trials with images of 28, 64, 128 and 256 pixels a side (docs/dev/log.md).
    """
    side, halvings = max(shape[1:]), 0
    first = (8, 16, 32) if side > MAX_WIDE_SIDE else (16, 32)
    while halvings < 8 and (halvings < 3 or side > SMALLEST_GRID):
        side, halvings = (side + 1) // 2, halvings + 1
    return (*first, *[64] * (halvings - len(first)))


def halved_sizes(shape: Shape, times: int) -> list[tuple[int, int]]:
    """(height, width) before and after each of `times` convolutions of stride 2: 28, 14, 7, 4."""
    sizes = [shape[1:]]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _flat_size(shape: Shape, channels: Sequence[int]) -> int:
    """Numbers in an image after its convolutions."""
    height, width = halved_sizes(shape, len(channels))[-1]
    return [shape[0], *channels][-1] * height * width


def _dense_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Dense(inputs, outputs, bias=False), BatchNorm(outputs), nn.SiLU())


def _halving_block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, BatchNorm(outputs), nn.SiLU())


def _doubling_block(inputs: int, outputs: int, grid: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(DoublingConvolution(inputs, outputs, grid, bias=False), BatchNorm(outputs), nn.SiLU())
