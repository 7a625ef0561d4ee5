"""How fast training could be at best: its floating-point operations over the best rate of any matrix product.

The operations are those of the products and convolutions, forward and backward; all else counts as free, so
that no program reaches the limit. The rate is the best that this process measures with either library: MKL,
which torch's `F.linear` calls in float32, or oneDNN, whose inner product networks.Dense calls.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stages.autoencoder.model import Autoencoder
from stages.autoencoder.networks import product

SECONDS = 0.15  # that one product is repeated for
TRIES = 3  # of which the best counts
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Rate(NamedTuple):
    """GFLOP/s of one product by one library: forward, the gradient of the input, that of the weights."""

    inputs: int
    outputs: int
    library: str
    forward: float
    data: float
    weights: float


def operations(model: Autoencoder, batch: int) -> float:
    """Floating-point operations of a training step over its images: a multiplication and an addition are two."""
    images = torch.rand(batch, *model.spec.shape)
    inner = {torch.ops.mkldnn._linear_pointwise: lambda a, b, *_, **__: 2 * a[0] * a[1] * b[0]}
    with FlopCounterMode(display=False, custom_mapping=inner) as counter:
        model.train()(images).sum().backward()
    model.zero_grad()
    return counter.get_total_flops() / batch


def rates(model: Autoencoder, batch: int, precision: str) -> Iterator[Rate]:
    """The rate of every dense layer's shape by each library."""
    shapes = {(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)}
    for inputs, outputs in sorted(shapes):
        x = torch.rand(batch, inputs).to(DTYPES[precision])
        w = torch.rand(outputs, inputs).to(DTYPES[precision])
        g = torch.rand(batch, outputs).to(DTYPES[precision])
        for library, (forward, data, weights) in products(x, w, g).items():
            found = (2e-9 * batch * inputs * outputs / seconds(call) for call in (forward, data, weights))
            yield Rate(inputs, outputs, library, *found)


def products(x: Tensor, w: Tensor, g: Tensor) -> dict[str, tuple[Callable[[], Tensor], ...]]:
    """x (B, I), w (O, I), g (B, O): g's shape from x and w, the gradient of x, that of w, by each library."""

    linear = (lambda: F.linear(x, w), lambda: g @ w, lambda: g.t() @ x)
    inner = (lambda: product(x, w), lambda: product(g, w.t()), lambda: product(g.t(), x.t()))
    return {"linear": linear, "inner": inner}


def seconds(call: Callable[[], Tensor]) -> float:
    """The time of one call, the best of some tries."""
    call()
    best = float("inf")
    for _ in range(TRIES):
        calls, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < SECONDS:
            call()
            calls += 1
        best = min(best, passed / calls)
    return best
