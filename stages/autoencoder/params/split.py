"""The section `split`: which images train, validate and test."""

from typing import Annotated

from pydantic import Field

from stages.autoencoder.params.base.section import Section


class Split(Section):
    """Section `split`."""

    seed: int = Field(
        ge=0, lt=2**32, description="separate from `seed`, so that a sweep over seeds keeps its test images"
    )
    valid: float = Field(gt=0, lt=1, description="share of the images that are not test")
    test: float = Field(gt=0, lt=1, description="share of all images, if the dataset has no published test part")
    normal_classes: list[Annotated[int, Field(ge=0)]] = Field(
        description="train and validate on these class numbers only, test on all; []: train on all"
    )


class SplitParams(Section):
    """What the stage split reads."""

    split: Split
