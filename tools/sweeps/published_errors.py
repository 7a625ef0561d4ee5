"""Reconstruction errors published for MNIST, to be marked in a figure: pixels in [0, 1], 10,000 test images.

They hold for the whole of MNIST with the publisher's split and for nothing else.
"""

from typing import NamedTuple


class PublishedErrors(NamedTuple):
    """One system's errors: {latent_dim: MSE per pixel}."""

    label: str
    source: str
    errors: dict[int, float]


MNIST = (
    PublishedErrors(
        "Hinton & Salakhutdinov 2006",
        "deep autoencoder 784-1000-500-250-30, RBM pre-training; their fig. 2B, as quoted in a secondary text",
        {30: 0.00383},
    ),
    PublishedErrors(
        "MLP of ae-vs-pca-replication",
        "784-512-256-d, Adam, 20 epochs; read off its plot",
        {2: 0.0365, 16: 0.0090, 32: 0.0059, 64: 0.0054},
    ),
    PublishedErrors(
        "conv of conv-stacked-autoencoder-comparison",
        "32-64-128, batch norm, 5 epochs",
        {64: 0.0021},
    ),
)
