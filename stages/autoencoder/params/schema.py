"""The whole of params.yaml: every section put together, and the rules between them."""

import math

from stages.autoencoder import variants
from stages.autoencoder.datasets import SHAPES
from stages.autoencoder.params import embed
from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.params.embed import EmbedParams
from stages.autoencoder.params.split import SplitParams
from stages.autoencoder.params.train import TrainParams


class Params(TrainParams, EmbedParams, SplitParams, DownloadParams):
    """Every parameter of the pipeline."""


def check(params: Params) -> None:
    """The rules beyond single keys, as far as the name of the dataset decides them. Raises UserError."""
    shape = SHAPES.get(params.download.dataset)
    embed.check(params.embed)
    variants.check(params.train, params.latent_dim, params.numerics, math.prod(shape) if shape else None)
