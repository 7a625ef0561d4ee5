"""Grids of images: labelled rows, enlarged by whole factors, so that each pixel stays a square."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.autoencoder.core import files

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SIDE = 56  # pixels: images are enlarged or reduced to about this
GAP, MARGIN, TEXT, SMALL_TEXT = 4, 8, 14, 12  # pixels
MIN_WIDTH = 560  # pixels of a picture with a title, so that the title takes few lines
INK, PAPER = "#222222", "#ffffff"
PALETTE = 256  # colours in a file: without a palette it would have several times the bytes


def save_rows(
    path: Path,
    rows: Iterable[tuple[str, np.ndarray]],
    side: int = SIDE,
    *,
    title: str = "",
    captions: Sequence[str] = (),
) -> None:
    """Write a PNG with a row for each (label, images): uint8 or float in [0, 1], (n, C, H, W).

    title: one or more lines at the top. captions: text below each column, one or more lines.
    One channel is drawn in grey, three in colour, others as the grey mean of the channels. The file has no
    date and no software name, so the same images give the same bytes.
    """
    drawn = [(label, [_enlarge(image, side) for image in images]) for label, images in rows]
    font, small = ImageFont.load_default(TEXT), ImageFont.load_default(SMALL_TEXT)
    indent = max((font.getlength(label) for label, _ in drawn), default=0)
    left = MARGIN + (round(indent) + 2 * GAP if indent else 0)
    width, height = drawn[0][1][0].size
    columns = max(len(images) for _, images in drawn)
    right = left + columns * (width + GAP) - GAP + MARGIN
    right = max(right, MIN_WIDTH) if title else right
    lines = _wrap(title, font, right - 2 * MARGIN)
    first = MARGIN + len(lines) * (TEXT + GAP) + (GAP if lines else 0)
    below = first + len(drawn) * (height + GAP)
    depth = max((caption.count("\n") + 1 for caption in captions), default=0) * (SMALL_TEXT + 2)
    canvas = Image.new("RGB", (right, below - GAP + MARGIN + depth), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + number * (TEXT + GAP)), line, INK, font, anchor="lt")
    for row, (label, images) in enumerate(drawn):
        top = first + row * (height + GAP)
        draw.text((MARGIN, top + height // 2), label, INK, font, anchor="lm")
        for column, image in enumerate(images):
            canvas.paste(image, (left + column * (width + GAP), top))
    for column, caption in enumerate(captions):
        centre = left + column * (width + GAP) + width // 2
        for number, line in enumerate(caption.split("\n")):
            line = _cut(line, small, width + GAP - 2)
            draw.text((centre, below + number * (SMALL_TEXT + 2)), line, INK, small, anchor="mt")
    if any(len(images) and images[0].mode == "RGB" for _, images in drawn):
        canvas = canvas.quantize(PALETTE, dither=Image.Dither.NONE)
    else:
        canvas = canvas.convert("L")
    buffer = io.BytesIO()
    canvas.save(buffer, "png", optimize=False, compress_level=9)
    files.write(path, buffer.getvalue())


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Float pixels in [0, 1] -> uint8, rounded; uint8 is returned unchanged."""
    return images if images.dtype == np.uint8 else np.rint(images * 255).astype(np.uint8)


def _enlarge(image: np.ndarray, side: int) -> Image.Image:
    """(C, H, W) -> a picture whose longer side is about `side`, enlarged or reduced by a whole factor."""
    image = to_bytes(image)
    if len(image) == 3:
        drawn = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    else:
        drawn = Image.fromarray(image.mean(0).astype(np.uint8))
    largest = max(drawn.size)
    if largest > side:
        return drawn.reduce(max(1, round(largest / side)))
    factor = max(1, round(side / largest))
    return drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _cut(text: str, font: Font, width: int) -> str:
    """The text, cut to at most `width` pixels."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
