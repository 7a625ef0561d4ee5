"""How an image of any shape gets the model's height and width: crop, pad or stretch. Sizes are width, height."""

import math

from PIL import Image

Size = tuple[int, int]


def fit_image(image: Image.Image, size: Size, fit: str, background: int, *, smooth: bool = True) -> Image.Image:
    """The image with that size; unchanged if it has it.

    crop: scaled until both sides are covered, then its middle; pad: scaled until it is inside, on the background;
    stretch: each side scaled by itself. smooth: bicubic with antialiasing, else each pixel is one of the image's own.
    image: mode L or RGB; background: 0 to 255, of every channel.
    """
    resample = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    if image.size == size:
        return image
    if fit == "stretch":
        return image.resize(size, resample)
    scale = _scale(image.size, size, fit)
    if fit == "crop":
        # the part of the image that is seen, in the image's own pixels, in floats
        width, height = (min(new / scale, old) for new, old in zip(size, image.size, strict=True))
        left, top = (image.width - width) / 2, (image.height - height) / 2
        return image.resize(size, resample, box=(left, top, left + width, top + height))
    inner = [max(1, min(new, round(old * scale))) for new, old in zip(size, image.size, strict=True)]
    canvas = Image.new(image.mode, size, (background,) * len(image.getbands()))
    left, top = ((new - part) // 2 for new, part in zip(size, inner, strict=True))
    canvas.paste(image.resize((inner[0], inner[1]), resample), (left, top))
    return canvas


def draft_size(old: Size, new: Size, fit: str) -> Size:
    """Twice the size at which the whole of an image of size `old` is needed; a decoder may stop there."""
    if fit == "stretch":
        return 2 * new[0], 2 * new[1]
    scale = 2 * _scale(old, new, fit)
    return max(1, math.ceil(old[0] * scale)), max(1, math.ceil(old[1] * scale))


def _scale(old: Size, new: Size, fit: str) -> float:
    ratios = (new[0] / old[0], new[1] / old[1])
    return max(ratios) if fit == "crop" else min(ratios)
