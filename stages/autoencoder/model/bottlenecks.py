"""What happens between encoder and decoder. The one list of bottlenecks; imports no torch."""

from enum import StrEnum


class Bottleneck(StrEnum):
    """How the encoder's output becomes a code (see Autoencoder.code)."""

    LINEAR = "linear"
    RELU = "relu"
    TOP_K = "top_k"
    GAUSSIAN = "gaussian"

    @property
    def is_variational(self) -> bool:
        """Whether the encoder gives a distribution, of which a code is a sample or the mean."""
        return self is Bottleneck.GAUSSIAN

    @property
    def is_sparse(self) -> bool:
        """Whether entries of a code are exactly zero."""
        return self in (Bottleneck.RELU, Bottleneck.TOP_K)
