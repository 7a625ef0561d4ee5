"""The section `sample`, and all that the stages classify and sample read."""

from pydantic import Field

from stages.autoencoder.params.base.section import Section
from stages.autoencoder.params.model_use import ModelUseParams


class Sample(Section):
    """Section `sample`."""

    count: int = Field(
        ge=0, le=100_000, description="samples that are compared with as many test images; 0: none; papers: 10000"
    )


class SampleParams(ModelUseParams):
    """What the stages classify and sample read."""

    sample: Sample
