"""How an image of any size and colours becomes the model's input.

The stage download decides it, and it stands in the description of data/raw, of the split's files and of the model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.autoencoder.core.errors import describe_fault

CHANNELS = {"rgb": 3, "grey": 1}


@dataclass(frozen=True)
class Fitting:
    """The settings of sources/folder/decoding.decode; JSON-able by dataclasses.asdict."""

    size: tuple[int, int]  # height, width
    fit: Literal["crop", "pad", "stretch"]  # as in params/download.py
    colour: Literal["rgb", "grey"]
    background: Literal["white", "black"]
    exact: bool  # an image of another size is refused

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the result."""
        return (CHANNELS[self.colour], *self.size)


def keep_size(shape: Sequence[int]) -> Fitting:
    """The fitting of images that all have this shape, (C, H, W), as those of the built-in datasets.

    Images of another size are refused; where they are resized all the same, their middle is seen. Transparent pixels
    become black, as the background of digits and letters is.
    """
    channels, height, width = shape
    return Fitting((height, width), "crop", "rgb" if channels == CHANNELS["rgb"] else "grey", "black", exact=True)


def parse(value: Any, shape: Sequence[int]) -> Fitting:
    """The fitting in a file's description, whose images have this shape, (C, H, W).

    Raises ValueError if it is none, or of images of another shape.
    """
    from pydantic import TypeAdapter, ValidationError  # the processes that decode need only the class

    try:
        fitting = TypeAdapter(Fitting).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ValueError(f"fitting: {describe_fault(error)}") from None
    if fitting.shape != tuple(shape):
        raise ValueError(f"fitting must be that of images {tuple(shape)}; got {fitting.shape}")
    return fitting
