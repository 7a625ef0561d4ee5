"""Muon (Jordan et al. 2024): each weight matrix moves along its momentum, orthogonalised; the other weights by AdamW.

The momentum of a matrix is dominated by few directions. Orthogonalised, that is with its singular values brought to
about 1, it moves the matrix as far along the others, and half as many steps lead to the same error. A convolution
counts as the matrix of its first dimension by all others. At most 64 rows are orthogonalised together: for a whole
matrix it would take longer, and the error is no lower (docs/dev/log.md).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.autoencoder.model.dense import product

MOMENTUM = 0.9  # Nesterov's
TINY = 1e-30  # in place of the squared norm of a matrix of zeros
MAX_ROWS = 64  # orthogonalised together
# a, b, c of x -> a x + b x^3 + c x^5 on the singular values: the first three steps of Polar Express (Amsel et al. 2025)
STEPS = ((8.2052, -22.9019, 16.4607), (4.0664, -2.8612, 0.5184), (3.9487, -2.9089, 0.5518))


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
    blocks: list[Tensor] = []
    for matrix in matrices:
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t().contiguous()
        blocks += wide.to(dtype).split(MAX_ROWS)
    polynomials = _polynomials([_multiply(block, block) for block in blocks])
    done = iter([_multiply(polynomial, block.t()) for polynomial, block in zip(polynomials, blocks, strict=True)])
    results = []
    for matrix in matrices:
        rows = min(matrix.shape)
        whole = torch.cat([next(done) for _ in range(0, rows, MAX_ROWS)]).to(matrix.dtype)
        results.append(whole if matrix.shape[0] <= matrix.shape[1] else whole.t())
    return results


def _polynomials(grams: Sequence[Tensor]) -> list[Tensor]:
    """For each Gram matrix X X^T the matrix Q, a polynomial in it, of which Q X has singular values near 1.

    All steps commute and are symmetric, so they are taken on Q and on the Gram matrix, which are small, never on X.
    """
    found: dict[int, Tensor] = {}
    for size in {len(gram) for gram in grams}:
        gram = torch.stack([each for each in grams if len(each) == size])
        # 1 over the norm of X, which is not below its largest singular value; torch's sqrt rounds by the CPU
        total = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=TINY).rsqrt().view(-1, 1, 1) / 1.01
        gram = gram * total * total
        for a, b, c in STEPS:
            step = b * gram + c * (gram @ gram)
            step.diagonal(dim1=1, dim2=2).add_(a)
            total = step * total if total.shape[1] == 1 else step @ total
            gram = step @ gram @ step
        found[size] = total
    parts = {size: iter(total) for size, total in found.items()}
    return [next(parts[len(gram)]) for gram in grams]


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """(N, K), (M, K) -> a b^T; in float32 on a CPU by oneDNN, as model/dense.py explains."""
    if a.device.type == "cpu" and a.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return product(a, b)
    return a @ b.t()


def _to_matrix(weight: Tensor) -> Tensor:
    """(O, ...) -> (O, product of the others), the channels last, as convolutions have them in memory."""
    return weight.movedim(1, -1).reshape(len(weight), -1)


def _from_matrix(matrix: Tensor, weight: Tensor) -> Tensor:
    """A matrix of _to_matrix in the shape of the weight."""
    outputs, inputs, *kernel = weight.shape
    return matrix.reshape(outputs, *kernel, inputs).movedim(-1, 1)
