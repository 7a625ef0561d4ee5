"""The section `train.denoising`: what corrupts the input. The one list of the kinds of corruption.

It stands in the model file too, so the stages that use a model read it from here.
"""

from typing import Literal

from pydantic import Field

from stages.autoencoder.params.base.section import Section

Corruption = Literal["gaussian", "salt_and_pepper", "masking"]


class Denoising(Section):
    """The corruption of the input; the target stays clean."""

    corruption: Corruption = Field(description="kind of corruption")
    level: float = Field(ge=0, le=10, description="gaussian: standard deviation; else share of pixels hit")
