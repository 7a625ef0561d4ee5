"""The section `split`: which images train, validate and test."""

from typing import Annotated

from pydantic import Field

from stages.autoencoder.params.base.section import Section

# Python writes no integer of thousands of digits
ShortInteger = Annotated[int, Field(gt=-(10**18), lt=10**18)]
ClassName = Annotated[
    str | ShortInteger | float | bool | None,
    Field(json_schema_extra={"rule": "the name of a class, in quotes if it is a long number"}),
]


class Split(Section):
    """Section `split`."""

    seed: int = Field(
        ge=0, lt=2**32, description="separate from `seed`, so that a sweep over seeds keeps its test images"
    )
    valid: float = Field(gt=0, lt=1, description="share of the images that are not test")
    test: float = Field(gt=0, lt=1, description="share of all images, if the dataset has no published test part")
    normal_classes: list[ClassName] = Field(
        json_schema_extra={"rule": "a list of class names"},
        description="train and validate on the classes of these names only, test on all; []: train on all",
    )

    @property
    def normal_names(self) -> list[str]:
        """The normal classes as text: a class may be called 1, no or null, and YAML reads numbers and null."""
        return [_as_yaml(value) for value in self.normal_classes]


def _as_yaml(value: str | float | bool | None) -> str:
    """The value as it is written in a YAML file."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


class SplitParams(Section):
    """What the stage split reads."""

    split: Split
