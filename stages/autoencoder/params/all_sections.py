"""The whole of params.yaml: every section, and the rule that needs more than one stage's keys."""

import math

from pydantic import model_validator

from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.params.embed import EmbedParams
from stages.autoencoder.params.reconstruct import ReconstructParams
from stages.autoencoder.params.sample import SampleParams
from stages.autoencoder.params.split import SplitParams
from stages.autoencoder.params.train import TrainParams, check_latent_dim


class Params(TrainParams, SampleParams, ReconstructParams, EmbedParams, SplitParams, DownloadParams):
    """Every parameter of the pipeline."""

    @model_validator(mode="after")
    def _code_fits_the_images(self) -> "Params":
        if self.download.shape:
            check_latent_dim(self.train, self.latent_dim, math.prod(self.download.shape))
        return self
