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


class Dense(nn.Linear):
    """nn.Linear, whose product is a convolution over a view of the batch where bytes must be portable.

    The numbers are the same, the library is another: with the portable pins oneDNN's AVX2 gives the same
    bytes on Intel and on AMD at about twice the speed of MKL's only mode that does (docs/reproducibility.md).
    Without them MKL is the faster one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        if x.device.type != "cpu" or not torch.are_deterministic_algorithms_enabled():
            return super().forward(x)
        # the images of the batch as the places of one picture, their numbers as its channels: nothing is copied
        return F.conv1d(x.t()[None], self.weight[:, :, None], self.bias)[0].t()


def mlp_encoder(shape: Shape, widths: Sequence[int], outputs: int) -> nn.Sequential:
    """Flatten, then a hidden layer for each width (batch normalisation, SiLU), then a linear layer."""
    sizes = [shape[0] * shape[1] * shape[2], *widths]
    hidden = [_dense_block(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *hidden, Dense(sizes[-1], outputs))


def mlp_decoder(shape: Shape, widths: Sequence[int], latent_dim: int) -> nn.Sequential:
    """The mirror of mlp_encoder: its widths in reverse order."""
    sizes = [latent_dim, *reversed(widths)]
    hidden = [_dense_block(a, b) for a, b in pairwise(sizes)]
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(*hidden, Dense(sizes[-1], pixels), nn.Unflatten(1, shape))


def conv_encoder(shape: Shape, channels: Sequence[int], outputs: int) -> nn.Sequential:
    """A 3 x 3 convolution of stride 2 for each entry of `channels`, then a linear layer over what remains."""
    sizes = [shape[0], *channels]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, 2, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU())
        for a, b in pairwise(sizes)
    ]
    height, width = halved(shape, len(channels))[-1]
    return nn.Sequential(*blocks, nn.Flatten(), Dense(channels[-1] * height * width, outputs))


def conv_decoder(shape: Shape, channels: Sequence[int], latent_dim: int) -> nn.Sequential:
    """The mirror of conv_encoder: transposed convolutions that return to each of its sizes exactly."""
    sizes = halved(shape, len(channels))
    start = (channels[-1], *sizes[-1])
    into = start[0] * start[1] * start[2]
    layers: list[nn.Module] = [_dense_block(latent_dim, into), nn.Unflatten(1, start)]
    for level in range(len(channels) - 1, -1, -1):
        # a transposed convolution of stride 2 gives 2n - 1 pixels; an even size needs one more
        missing = tuple((target + 1) % 2 for target in sizes[level])
        last = level == 0
        out = shape[0] if last else channels[level - 1]
        layers.append(nn.ConvTranspose2d(channels[level], out, 3, 2, 1, missing, bias=last))
        if not last:
            layers += [nn.BatchNorm2d(out), nn.SiLU()]
    return nn.Sequential(*layers)


def halved(shape: Shape, times: int) -> list[tuple[int, int]]:
    """(height, width) before and after each of `times` convolutions of stride 2: 28, 14, 7, 4."""
    sizes = [shape[1:]]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _dense_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Dense(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.SiLU())
