"""Grids of images: labelled rows, small images enlarged by whole factors, so that each pixel stays a square."""

import io
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.autoencoder.core import files
from stages.autoencoder.data.pixels import to_bytes
from stages.autoencoder.figures.base import palettes
from stages.autoencoder.figures.base.texts import ELLIPSIS, drawable, font_file

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SIDE = 56  # pixels: smaller images are enlarged to about this
MAX_SIDE = 96  # pixels: larger images are reduced to this, and to less where MAX_PIXELS would be exceeded
MAX_PIXELS = 600_000  # of all images of a picture: some 500 kB
GAP, MARGIN, TEXT, SMALL_TEXT = 4, 8, 14, 12  # pixels
MIN_WIDTH = 560  # pixels of a picture with a title, so that the title takes few lines
MAX_LABEL = 170  # pixels of the label of a row, which then takes several lines
INK, PAPER = "#222222", "#ffffff"


def save_rows(
    path: Path,
    rows: Iterable[tuple[str, np.ndarray]],
    *,
    title: str = "",
    captions: Sequence[str] = (),
    names: Sequence[str] = (),
) -> None:
    """Write a PNG with a row for each (label, images): uint8 or float in [0, 1], (n, C, H, W), of one height and width.

    title: one or more lines at the top. captions: text below each column, one or more lines. names: of the file of
    each column, below the captions; of a long one the end is shown. One channel is drawn in grey, three in colour,
    others as the grey mean of the channels; the rows may differ in this. The file has no date and no software name,
    so the same images give the same bytes.
    """
    rows = list(rows)
    side = _largest_side(sum(len(images) for _, images in rows), rows[0][1].shape[2:])
    drawn = [(label, [_resize(image, side) for image in images]) for label, images in rows]
    width, height = drawn[0][1][0].size
    labels = [_fold(label, max(1, height // (TEXT + 2))) for label, _ in drawn]
    indent = max((_length(line, TEXT) for lines in labels for line in lines), default=0)
    left = MARGIN + (round(indent) + 2 * GAP if indent else 0)
    columns = max(len(images) for _, images in drawn)
    right = left + columns * (width + GAP) - GAP + MARGIN
    right = max(right, MIN_WIDTH) if title else right
    lines = _wrap(title, TEXT, right - 2 * MARGIN)
    first = MARGIN + len(lines) * (TEXT + GAP) + (GAP if lines else 0)
    step = max(height, TEXT) + GAP
    below = first + len(drawn) * step
    under = _below_columns(captions, names, width + GAP - 2)
    depth = max((len(texts) for texts in under), default=0) * (SMALL_TEXT + 2)
    canvas = Image.new("RGB", (right, below - GAP + MARGIN + depth), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + number * (TEXT + GAP)), line, INK, _font(line, TEXT), anchor="lt")
    for row, (texts, (_, images)) in enumerate(zip(labels, drawn, strict=True)):
        top = first + row * step
        for number, line in enumerate(texts):
            middle = top + height // 2 + (2 * number - len(texts) + 1) * (TEXT + 2) // 2
            draw.text((MARGIN, middle), line, INK, _font(line, TEXT), anchor="lm")
        for column, image in enumerate(images):
            canvas.paste(image, (left + column * (width + GAP), top))
    for column, texts in enumerate(under):
        centre = left + column * (width + GAP) + width // 2
        for number, line in enumerate(texts):
            place = (centre, below + number * (SMALL_TEXT + 2))
            draw.text(place, line, INK, _font(line, SMALL_TEXT), anchor="mt")
    coloured = any(len(images) and images[0].mode == "RGB" for _, images in drawn)
    buffer = io.BytesIO()
    packed = palettes.reduce_colours(canvas, (INK, PAPER)) if coloured else canvas.convert("L")
    packed.save(buffer, "png")
    files.write(path, buffer.getvalue())


def to_picture(image: np.ndarray) -> Image.Image:
    """uint8 or float in [0, 1], (C, H, W) -> a picture in grey for one channel, in colour for three.

    Any other number of channels is drawn as their grey mean.
    """
    pixels = to_bytes(image)
    if len(pixels) == 3:
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return Image.fromarray(pixels.mean(0).astype(np.uint8))


def _largest_side(count: int, shape: Sequence[int]) -> int:
    """The side that the longer one of an image of this height and width may have if there are so many images."""
    filling = int(np.sqrt(MAX_PIXELS / count * max(shape) / min(shape)))
    return int(np.clip(filling, SIDE, MAX_SIDE))


def _resize(image: np.ndarray, largest_side: int) -> Image.Image:
    """(C, H, W) -> a picture enlarged by a whole factor to about SIDE, or reduced to this side, or as it is."""
    drawn = to_picture(image)
    largest = max(drawn.size)
    if largest > largest_side:
        width, height = (max(1, round(length * largest_side / largest)) for length in drawn.size)
        return drawn.resize((width, height), Image.Resampling.LANCZOS)
    factor = max(1, round(SIDE / largest))
    return drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)


def _below_columns(captions: Sequence[str], names: Sequence[str], width: int) -> list[list[str]]:
    """The lines below each column, each at most `width` pixels wide."""
    under: list[list[str]] = [[] for _ in range(max(len(captions), len(names)))]
    depth = max((caption.count("\n") + 1 for caption in captions), default=0)
    for texts, caption in zip(under, captions, strict=False):
        texts += [_cut(drawable(line), SMALL_TEXT, width) for line in caption.split("\n")]
    for texts, name in zip(under, names, strict=False):
        texts += [""] * (depth - len(texts)) + _split_name(drawable(name), width - GAP)
    return under


def _split_name(name: str, width: int) -> list[str]:
    """The name of a file in at most two lines; of a longer one the end, after an ellipsis."""
    start = 0
    while _length(name[start:], SMALL_TEXT) > width:
        start += 1
    if not start:
        return [name]
    if "/" in name[start:]:
        start = name.rindex("/") + 1
    return [_cut(name[:start], SMALL_TEXT, width, from_start=True), name[start:]]


def _fold(label: str, max_lines: int) -> list[str]:
    """The label of a row in at most so many lines of at most MAX_LABEL pixels."""
    label = drawable(label)
    lines = [label] if _length(label, TEXT) <= MAX_LABEL else _wrap(label, TEXT, MAX_LABEL)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], " ".join(lines[max_lines - 1 :])]
    return [_cut(line, TEXT, MAX_LABEL) for line in lines]


def _wrap(text: str, size: int, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words; a longer word is cut."""
    lines: list[str] = []
    for word in drawable(" ".join(text.split())).split():
        if lines and _length(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(_cut(word, size, width))
    return lines


def _cut(text: str, size: int, width: int, from_start: bool = False) -> str:
    """The text, cut to at most `width` pixels at its end or from its start, with an ellipsis there."""
    cut = text
    while text and _length(cut, size) > width:
        text = text[1:] if from_start else text[:-1]
        cut = ELLIPSIS + text if from_start else text.rstrip() + ELLIPSIS
    return cut


def _length(text: str, size: int) -> float:
    """The width of a line in pixels."""
    return _font(text, size).getlength(text)


def _font(text: str, size: int) -> Font:
    """Pillow's font of this size in pixels, or that of the charts for letters that Pillow's lacks."""
    return _load_font(text.replace(ELLIPSIS, "").isascii(), size)


@cache
def _load_font(is_ascii: bool, size: int) -> Font:
    if is_ascii:
        return ImageFont.load_default(size)
    # the basic layout engine is the same on every machine; letters of DejaVu are larger than Pillow's
    return ImageFont.truetype(str(font_file()), size - 1, layout_engine=ImageFont.Layout.BASIC)
