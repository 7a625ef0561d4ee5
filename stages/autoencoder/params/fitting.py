"""How an image of any size and colours becomes the model's input. The one list of the ways.

The section `download` decides it, and it stands in the description of data/raw, of the split's files and of the model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.autoencoder.core.errors import describe_fault

Fit = Literal["crop", "pad", "stretch"]  # how an image of another shape gets the size
Colour = Literal["rgb", "grey"]
Background = Literal["white", "black"]  # behind transparent pixels, and the border
CHANNELS: dict[Colour, int] = {"rgb": 3, "grey": 1}


@dataclass(frozen=True)
class Fitting:
    """The settings of sources/folder/decoding.decode; JSON-able by dataclasses.asdict."""

    size: tuple[int, int]  # height, width
    fit: Fit
    colour: Colour
    background: Background
    exact: bool  # an image of another size is refused

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the result."""
        return (CHANNELS[self.colour], *self.size)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises ValueError if this is the fitting of images of another shape than this, (C, H, W)."""
        if self.shape != tuple(shape):
            raise ValueError(f"fitting must be that of images {tuple(shape)}; got {self.shape}")


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
    fitting.check_shape(shape)
    return fitting
