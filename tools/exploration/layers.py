"""A network as a list of linear maps for the page: batch norm is folded into the weights that stand before it.

What is left for the page to compute are dense layers, convolutions of stride 2, their mirror images, and SiLU.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.model.layers.convolutions import DoublingConvolution
from stages.autoencoder.model.networks import halved_sizes


@dataclass
class Layer:
    """A linear map, and SiLU after it if `silu`.

    kind: dense, weight (outputs, inputs); halve, a convolution of stride 2, weight (outputs, inputs, 3, 3); double, a
    transposed one, weight (inputs, outputs, 3, 3). inputs, outputs: [numbers] or [channels, height, width].
    weight, bias: float64, so that folding rounds once.
    """

    kind: Literal["dense", "halve", "double"]
    inputs: list[int]
    outputs: list[int]
    weight: np.ndarray
    bias: np.ndarray  # (outputs,)
    silu: bool = False

    def fold(self, norm: BatchNorm) -> None:
        """Make the map what it is with batch norm after it, (x - mean) / sqrt(variance + eps) * weight + bias."""
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018 - it counts both
        scale = 1 / np.sqrt(to_float64(norm.running_var) + norm.eps)
        shift = -to_float64(norm.running_mean) * scale
        if norm.affine:
            scale, shift = scale * to_float64(norm.weight), shift * to_float64(norm.weight) + to_float64(norm.bias)
        axis = 1 if self.kind == "double" else 0  # of the outputs
        self.weight = self.weight * scale.reshape([-1 if n == axis else 1 for n in range(self.weight.ndim)])
        self.bias = self.bias * scale + shift


def list_layers(part: nn.Sequential, shape: tuple[int, ...]) -> list[Layer]:
    """The layers of an encoder or a decoder, in eval mode, that takes inputs of this shape, without the batch.

    Raises TypeError for a module that no network of model/networks.py has.
    """
    layers: list[Layer] = []
    for module in flatten_modules(part):
        match module:
            case nn.Linear():
                layers.append(Layer("dense", [module.in_features], [module.out_features], *read_weights(module)))
                shape = (module.out_features,)
            case DoublingConvolution():
                inputs, shape = shape, (module.out_channels, *module.grid)
                layers.append(Layer("double", list(inputs), list(shape), *read_weights(module)))
            case nn.Conv2d():
                channels, height, width = shape
                inputs, shape = shape, (module.out_channels, *halved_sizes((channels, height, width), 1)[1])
                layers.append(Layer("halve", list(inputs), list(shape), *read_weights(module)))
            case BatchNorm():
                layers[-1].fold(module)
            case nn.SiLU():
                layers[-1].silu = True
            case nn.Flatten():
                shape = (int(np.prod(shape)),)
            case nn.Unflatten():
                shape = tuple(module.unflattened_size)
            case _:
                raise TypeError(f"the page has no layer for {type(module).__name__}")
    return layers


def flatten_modules(part: nn.Sequential) -> list[nn.Module]:
    """The modules in a sequence and in the sequences in it."""
    nested = [flatten_modules(module) if isinstance(module, nn.Sequential) else [module] for module in part]
    return [module for modules in nested for module in modules]


def read_weights(module: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a layer; a bias of zeros where it has none."""
    weight = to_float64(module.weight)
    outputs = weight.shape[1] if isinstance(module, nn.ConvTranspose2d) else len(weight)
    return weight, np.zeros(outputs) if module.bias is None else to_float64(module.bias)


def to_float64(tensor: Tensor) -> np.ndarray:
    """A tensor of any device as an array."""
    array: np.ndarray = tensor.detach().double().cpu().numpy()
    return array
