"""The section `split`: which images train, choose and test."""

from typing import Annotated

from pydantic import Field

from stages.autoencoder.params.section import Section


class Split(Section):
    """Section `split`."""

    seed: int = Field(ge=0, lt=2**32, description="its own seed: a sweep over `seed` keeps the test images")
    valid: float = Field(gt=0, lt=1, description="share of the images that are not test")
    test: float = Field(gt=0, lt=1, description="share of all images, where the dataset has no test part")
    normal_classes: list[Annotated[int, Field(ge=0)]] = Field(
        description="train and validate on these class numbers alone, test on all; []: on all"
    )


class SplitParams(Section):
    """What the stage split reads."""

    split: Split
