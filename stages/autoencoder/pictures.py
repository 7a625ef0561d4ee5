"""Pictures made of images: labelled rows of them, enlarged by whole factors, so that a pixel stays a square."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.autoencoder import arrays

SIDE = 56  # pixels an image is enlarged to, about
GAP, MARGIN, TEXT = 4, 8, 14
INK, PAPER = "#222222", "#ffffff"


def save_rows(path: Path, rows: Iterable[tuple[str, np.ndarray]], side: int = SIDE) -> None:
    """Write a PNG with a row for each (label, images): uint8 or float in [0, 1], (n, C, H, W).

    One channel is drawn in grey, three in colour, others as the grey mean of the channels. The file has no
    date and no software name: the same images give the same bytes.
    """
    drawn = [(label, [_enlarged(image, side) for image in images]) for label, images in rows]
    font = ImageFont.load_default(TEXT)
    indent = max((font.getlength(label) for label, _ in drawn), default=0)
    left = MARGIN + (round(indent) + 2 * GAP if indent else 0)
    width, height = drawn[0][1][0].size
    columns = max(len(images) for _, images in drawn)
    size = (left + columns * (width + GAP) - GAP + MARGIN, len(drawn) * (height + GAP) - GAP + 2 * MARGIN)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, (label, images) in enumerate(drawn):
        top = MARGIN + row * (height + GAP)
        draw.text((MARGIN, top + height // 2), label, INK, font, anchor="lm")
        for column, image in enumerate(images):
            canvas.paste(image, (left + column * (width + GAP), top))
    buffer = io.BytesIO()
    canvas.save(buffer, "png", optimize=False, compress_level=9)
    arrays.write(path, buffer.getvalue())


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Float pixels in [0, 1] -> uint8, rounded; uint8 stays as it is."""
    return images if images.dtype == np.uint8 else np.rint(images * 255).astype(np.uint8)


def _enlarged(image: np.ndarray, side: int) -> Image.Image:
    """(C, H, W) -> an RGB picture, enlarged by a whole factor to a height of about `side`."""
    image = to_bytes(image)
    channels, height, width = image.shape
    if channels not in (1, 3):
        image = image.mean(0, keepdims=True).astype(np.uint8)
    colours = np.broadcast_to(image, (3, height, width)).transpose(1, 2, 0)
    factor = max(1, round(side / height))
    return Image.fromarray(np.ascontiguousarray(colours.repeat(factor, 0).repeat(factor, 1)))
