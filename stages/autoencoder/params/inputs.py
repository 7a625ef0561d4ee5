"""What a model is given in place of the images: the section `train.denoising`, and the choices of `train.binarize`.

Both stand in the model file too, so the stages that use a model read them from here.
"""

from typing import Literal

from pydantic import Field

from stages.autoencoder.params.base.section import Section

Binarize = Literal["none", "dynamic", "static"]
Corruption = Literal["gaussian", "salt_and_pepper", "masking"]


class Denoising(Section):
    """The corruption of the input; the target stays clean."""

    corruption: Corruption = Field(description="kind of corruption")
    level: float = Field(ge=0, le=10, description="gaussian: standard deviation; else share of pixels hit")
