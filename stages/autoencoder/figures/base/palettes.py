"""Colours of a PNG file: at most 256, which takes a third of the bytes of all colours."""

import numpy as np
from PIL import Image, ImageColor

COLOURS = 256
GREYS = 8  # from ink to paper, for the smooth edges of letters
SAMPLE = 2**16  # pixels that decide about the colours


def reduce_colours(picture: Image.Image, texts: tuple[str, str]) -> Image.Image:
    """A picture in colour with at most 256 colours: unchanged if it has no more, else those nearest to its own.

    texts: the colours of ink and paper, which stay exact.
    """
    from scipy.spatial import KDTree  # takes time, and pictures in grey do not need it

    if picture.getcolors(COLOURS):
        return picture.quantize(COLOURS, dither=Image.Dither.NONE)
    ink, paper = (ImageColor.getrgb(colour) for colour in texts)
    greys = np.linspace(ink, paper, GREYS).round().astype(np.uint8)
    pixels = np.asarray(picture)
    step = int(np.ceil(np.sqrt(picture.width * picture.height / SAMPLE)))
    sample = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    # medians of boxes of the colours, then k-means: without it smooth surfaces show bands of a wrong hue
    found = sample.quantize(COLOURS - GREYS, kmeans=1, dither=Image.Dither.NONE).getpalette() or []
    palette = np.concatenate([greys, np.array(found, np.uint8).reshape(-1, 3)])
    packed, numbers = np.unique(pixels @ np.array([2**16, 2**8, 1]), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1)
    nearest = KDTree(palette).query(colours)[1].astype(np.uint8)  # Pillow's own search is not exact
    reduced = Image.fromarray(nearest[numbers].reshape(pixels.shape[:2]))
    reduced.putpalette(palette.ravel().tolist())
    return reduced
