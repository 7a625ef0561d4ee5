"""The section `reconstruct`, and all that the stage reconstruct reads."""

from pydantic import Field

from stages.autoencoder.params.base.section import Section
from stages.autoencoder.params.model_use import ModelUseParams


class Reconstruct(Section):
    """Section `reconstruct`."""

    importance_samples: int = Field(
        ge=0, le=1_000_000, description="of the code of each test image, for nll of variational models; 0: no nll"
    )


class ReconstructParams(ModelUseParams):
    """What the stage reconstruct reads."""

    reconstruct: Reconstruct
