"""The machine's limit of training speed: floating-point operations over the best rate of any matrix product.

The operations are those of products and convolutions, forward and backward. Everything else counts as free, so no
program reaches this limit. The best rate is the highest that this process measures with either library: MKL, which
torch's `F.linear` calls in float32, or oneDNN, whose inner product `model/layers/dense.py` calls.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.layers.dense import product

SECONDS_PER_TRY = 0.15
TRIES = 3  # the fastest one counts
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Product = Callable[[], Tensor]


class ProductRates(NamedTuple):
    """GFLOP/s of one layer's three products by one library; the layer maps `inputs` numbers to `outputs`."""

    inputs: int
    outputs: int
    library: str
    forward: float
    input_gradient: float
    weight_gradient: float


def count_operations(model: Autoencoder, batch_size: int) -> float:
    """Floating-point operations per image of a training step; a multiplication and an addition are two."""
    images = torch.rand(batch_size, *model.spec.shape)
    inner_product = {torch.ops.mkldnn._linear_pointwise: lambda a, b, *_, **__: 2 * a[0] * a[1] * b[0]}
    with FlopCounterMode(display=False, custom_mapping=inner_product) as counter:
        model.train()(images).sum().backward()
    model.zero_grad()
    return counter.get_total_flops() / batch_size


def measure_rates(model: Autoencoder, batch_size: int, precision: str) -> Iterator[ProductRates]:
    """The rates of each shape of dense layer in the model, with each library. precision: fp32 or bf16."""
    shapes = {(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)}
    for inputs, outputs in sorted(shapes):
        x = torch.rand(batch_size, inputs).to(DTYPES[precision])
        weight = torch.rand(outputs, inputs).to(DTYPES[precision])
        gradient = torch.rand(batch_size, outputs).to(DTYPES[precision])
        for library, products in layer_products(x, weight, gradient).items():
            rates = [2e-9 * batch_size * inputs * outputs / measure_seconds(multiply) for multiply in products]
            yield ProductRates(inputs, outputs, library, *rates)


def layer_products(x: Tensor, weight: Tensor, gradient: Tensor) -> dict[str, tuple[Product, Product, Product]]:
    """{library: the products of a dense layer}: forward, gradient of the input, gradient of the weights.

    x: (B, I). weight: (O, I). gradient: of the output, (B, O). The products: (B, O), (B, I), (O, I).
    """
    linear = (lambda: F.linear(x, weight), lambda: gradient @ weight, lambda: gradient.t() @ x)
    inner = (
        lambda: product(x, weight),
        lambda: product(gradient, weight.t()),
        lambda: product(gradient.t(), x.t()),
    )
    return {"linear": linear, "inner": inner}


def measure_seconds(function: Callable[[], object]) -> float:
    """The mean seconds of a call in the fastest of TRIES tries."""
    function()
    best = float("inf")
    for _ in range(TRIES):
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SECONDS_PER_TRY:
            function()
            calls += 1
        best = min(best, elapsed / calls)
    return best
