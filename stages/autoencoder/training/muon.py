"""Muon (Jordan et al. 2024): each weight matrix moves along its momentum, orthogonalised; the other weights by AdamW.

The momentum of a matrix is dominated by few directions. Orthogonalised, that is with its singular values brought to
about 1, it moves the matrix as far along the others, and half as many steps lead to the same error. A convolution
counts as the matrix of its first dimension by all others. At most 64 rows are orthogonalised together: for a whole
matrix it would take longer, and the error is no lower (docs/dev/log.md).
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.autoencoder.model.layers.dense import has_product, product

MOMENTUM = 0.9  # Nesterov's
TINY = 1e-30  # in place of the squared norm of a matrix of zeros
MAX_ROWS = 64  # orthogonalised together
# a, b, c of x -> a x + b x^3 + c x^5 on the singular values: the first three steps of Polar Express (Amsel et al. 2025)
STEPS = ((8.2052, -22.9019, 16.4607), (4.0664, -2.8612, 0.5184), (3.9487, -2.9089, 0.5518))
Position = tuple[int, int]  # of a block: the number of its matrix, and its first row or column there


class Muon(torch.optim.AdamW):
    """AdamW for vectors, Muon for all weights of two dimensions or more.

    Both have the same learning rate and decoupled weight decay. dtype: of the products that orthogonalise.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(weights, lr=lr, weight_decay=weight_decay, fused=True)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; a closure is evaluated first, with gradients."""
        loss, moved = None, list[nn.Parameter]()
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.ndim >= 2 and weight.grad is not None]
            matrices = [_to_matrix(self._move_momentum(weight, weight.grad)) for weight in weights]
            for weight, matrix in zip(weights, orthogonalise(matrices, self._dtype), strict=True):
                rows, columns = matrix.shape
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(_from_matrix(matrix, weight), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
            moved += weights
        gradients = [weight.grad for weight in moved]
        for weight in moved:
            weight.grad = None  # AdamW leaves alone what has no gradient
        super().step()
        for weight, gradient in zip(moved, gradients, strict=True):
            weight.grad = gradient
        return loss

    def _move_momentum(self, weight: nn.Parameter, gradient: Tensor) -> Tensor:
        """Nesterov's momentum of a weight, with its gradient added."""
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # unused, but AdamW reads no state without it
        momentum: Tensor = state["momentum"].mul_(MOMENTUM).add_(gradient)
        return torch.add(gradient, momentum, alpha=MOMENTUM)


def orthogonalise(matrices: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Matrices with the same singular vectors, block by block, and singular values of about 1.

    A block has at most MAX_ROWS rows; in a matrix with more rows than columns, so many columns. Singular values of
    0.002 of the block's norm or more come to lie between 0.18 and 1.9; smaller ones grow about 130-fold. dtype: of the
    products.
    """
    blocks: dict[Position, Tensor] = {
        (number, first): block
        for number, matrix in enumerate(matrices)
        for first, block in enumerate(matrix.to(dtype).split(MAX_ROWS, dim=_shorter(matrix)))
    }
    rows = {key: (block.t() if _shorter(matrices[key[0]]) else block).contiguous() for key, block in blocks.items()}
    polynomials = _polynomials({key: _multiply(row, row) for key, row in rows.items()})
    results = []
    for number, matrix in enumerate(matrices):
        is_tall = _shorter(matrix) == 1
        mine = [key for key in blocks if key[0] == number]
        # both products give the matrix in the order in which its weight lies in memory
        found = [
            _multiply(blocks[key], polynomials[key]) if is_tall else _multiply(polynomials[key], blocks[key].t())
            for key in mine
        ]
        results.append(torch.cat(found, dim=_shorter(matrix)).to(matrix.dtype))
    return results


def _shorter(matrix: Tensor) -> int:
    """The dimension along which a matrix is cut: 1 if it has more rows than columns, else 0."""
    return int(matrix.shape[0] > matrix.shape[1])


def _polynomials(grams: dict[Position, Tensor]) -> dict[Position, Tensor]:
    """For each Gram matrix X X^T the matrix Q, a polynomial in it, of which Q X has singular values near 1.

    All steps commute and are symmetric, so they are taken on Q and on the Gram matrix, which are small, never on X.
    """
    found: dict[Position, Tensor] = {}
    for size in {len(gram) for gram in grams.values()}:
        keys = [key for key, gram in grams.items() if len(gram) == size]
        gram = torch.stack([grams[key] for key in keys])
        # 1 over the norm of X, which is not below its largest singular value; torch's sqrt rounds by the CPU
        scale = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=TINY).rsqrt().view(-1, 1, 1) / 1.01
        gram = gram * scale * scale
        steps = []
        for number, (a, b, c) in enumerate(STEPS, 1):
            step = b * gram + c * (gram @ gram)
            step.diagonal(dim1=1, dim2=2).add_(a)
            steps.append(step)
            if number < len(STEPS):
                gram = step @ gram @ step
        found |= zip(keys, functools.reduce(torch.matmul, steps) * scale, strict=True)
    return found


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """(N, K), (M, K) -> a b^T; in float32 on a CPU by oneDNN, as model/layers/dense.py explains."""
    return product(a, b) if has_product(a) else a @ b.t()


def _to_matrix(weight: Tensor) -> Tensor:
    """(O, ...) -> (O, product of the others), the channels last, as convolutions have them in memory."""
    return weight.movedim(1, -1).reshape(len(weight), -1)


def _from_matrix(matrix: Tensor, weight: Tensor) -> Tensor:
    """A matrix of _to_matrix in the shape of the weight."""
    outputs, inputs, *kernel = weight.shape
    return matrix.reshape(outputs, *kernel, inputs).movedim(-1, 1)
