"""Transposed convolutions, of which the last one of a network, to an image, is computed by a product on a CPU.

oneDNN computes convolutions of many channels near the limit of the machine. For a transposed convolution to one channel
it takes three times as long as a product that does the same (docs/dev/log.md).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stages.autoencoder.model.layers.dense import is_plain, product

KERNEL, STRIDE, PADDING = 3, 2, 1
MAX_CHANNELS = 3  # that are computed by a product


class DoublingConvolution(nn.ConvTranspose2d):
    """nn.ConvTranspose2d that restores the size `grid` from its half; by a product if images have few channels."""

    def __init__(self, inputs: int, outputs: int, grid: tuple[int, int], bias: bool) -> None:
        # a transposed convolution of stride 2 makes 2n - 1 pixels of n: an even size needs one more
        missing = (1 - grid[0] % 2, 1 - grid[1] % 2)
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, output_padding=missing, bias=bias)
        self.grid = grid

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, H, W), where h is (H + 1) // 2."""
        if self.out_channels > MAX_CHANNELS or self.bias is None or not is_plain(x):
            return super().forward(x, output_size)
        return _FewChannels.apply(x, self.weight, self.bias, self.grid)


class _FewChannels(torch.autograd.Function):
    """A transposed convolution to few channels: a product for each tap of the kernel, then a sum over taps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, grid: tuple[int, int]) -> Tensor:
        """x (B, I, h, w), weight (I, O, 3, 3), bias (O,), grid (H, W) -> (B, O, H, W)."""
        ctx.save_for_backward(x, weight)
        ctx.grid = grid
        batch, inputs, height, width = x.shape
        taps = product(weight.reshape(inputs, -1).t(), x.movedim(1, -1).reshape(-1, inputs)).view(
            -1, KERNEL, KERNEL, batch, height, width
        )
        # pixel 2 i + row of the padded image stands at [i + row // 2, row % 2] here
        padded = x.new_zeros(len(taps), batch, height + 1, STRIDE, width + 1, STRIDE)
        for row in range(KERNEL):
            for column in range(KERNEL):
                (down, odd_row), (right, odd_column) = divmod(row, STRIDE), divmod(column, STRIDE)
                target = padded[:, :, down : down + height, odd_row, right : right + width, odd_column]
                target += taps[:, row, column]
        whole = padded.view(len(taps), batch, STRIDE * (height + 1), STRIDE * (width + 1)).transpose(0, 1)
        inside = whole[:, :, PADDING : PADDING + grid[0], PADDING : PADDING + grid[1]]
        return (inside + bias.view(-1, 1, 1)).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """grad (B, O, H, W) -> the gradients of x, weight and bias: as torch computes them."""
        x, weight = ctx.saved_tensors
        missing, needed = [1 - size % 2 for size in ctx.grid], list(ctx.needs_input_grad[:3])
        grads = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(grad[0])], [STRIDE] * 2, [PADDING] * 2, [1, 1], True, missing, 1, needed
        )
        return *grads, None
