"""One image file -> uint8 (C, H, W) of the model's shape, or the reason why not.

Several processes import this module to decode: it imports NumPy and Pillow alone. What a file holds is decided by its
content, never by its name. `decode` serves any caller who has a fitting, such as the one in a model file.
"""

import io
import logging
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Each plugin by name: else Pillow imports all its plugins, for formats that nobody asked for.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from stages.autoencoder.params.fitting import CHANNELS, Fitting
from stages.autoencoder.sources.folder.geometry import draft_size, fit_image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
MAX_PIXELS = 100_000_000  # of one image; the largest cameras have about as many
MAX_BYTES = 2**29  # of one file: some formats are read whole
SHADES = {"white": 255, "black": 0}
TURNS = {  # EXIF orientation: what brings the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TO_8_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # v / 257, rounded: 65535 -> 255
Source = Path | bytes


class RefusedImageError(Exception):
    """An image that is not read; the message is the reason, one line of any characters."""


def decode(source: Source, fitting: Fitting) -> np.ndarray:
    """The image in a file, or in a file's content: uint8 (C, H, W).

    EXIF orientation is applied, transparency laid over the background, then the size changed. Grey is ITU-R 601 luma.
    Of animations and documents, the first image. Raises RefusedImageError with the reason.
    """
    height, width = fitting.size
    with _opened(source) as image:
        if not fitting.exact and isinstance(image, JpegImagePlugin.JpegImageFile):
            turned = _orientation(image) >= 5
            # a photograph is decoded at an eighth, a quarter or half of its size if that is twice what is needed
            image.draft(None, draft_size(image.size, (height, width) if turned else (width, height), fitting.fit))
        upright = _load_upright(image)
        if fitting.exact and upright.size != (width, height):
            raise RefusedImageError(f"has {_pixels(upright.size)} (width x height); it must have {width} x {height}")
        flat = _to_opaque(upright, fitting.colour, SHADES[fitting.background])
        fitted = fit_image(flat, (width, height), fitting.fit, SHADES[fitting.background])
    array = np.asarray(fitted)
    if array.ndim == 2:
        return np.repeat(array[np.newaxis], CHANNELS[fitting.colour], axis=0)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def decode_mask(source: Source, image_source: Source, fitting: Fitting) -> np.ndarray:
    """Ground truth of anomalous pixels, brought to size as its image is: uint8 (H, W), 1 where any channel is above 0.

    Raises RefusedImageError with the reason, one of which is that mask and image differ in size.
    """
    height, width = fitting.size
    with _opened(source) as mask:
        upright = _load_upright(mask)
        if upright.size != (wanted := read_size(image_source)):
            raise RefusedImageError(f"has {_pixels(upright.size)} (width x height); its image has {_pixels(wanted)}")
        if upright.mode in ("I", "F") or upright.mode.startswith("I;"):
            anomalous = np.asarray(upright) > 0
        else:
            anomalous = np.atleast_3d(np.asarray(_to_opaque(upright, "rgb", 0))).max(axis=2) > 0
    fitted = fit_image(Image.fromarray(anomalous.astype(np.uint8)), (width, height), fitting.fit, 0, smooth=False)
    return np.asarray(fitted)


def read_size(source: Source) -> tuple[int, int]:
    """Width and height of the upright image, mostly from its header. Raises RefusedImageError with the reason."""
    with _opened(source) as image:
        if image.format == "PNG":  # EXIF may stand at its end
            image.load()
        # a TIFF has its upright size already
        turned = image.format != "TIFF" and _orientation(image) >= 5
        return image.size[::-1] if turned else image.size


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """The image, its pixels not decoded yet. Whatever goes wrong until the end becomes a RefusedImageError."""
    try:
        with _pillow_limits(), _open_file(source) as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except RefusedImageError:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        pixels = f"{int(count[0]):,}" if count else "too many"
        raise RefusedImageError(f"has {pixels} pixels; at most {MAX_PIXELS:,} are read") from None
    except UnidentifiedImageError:
        raise RefusedImageError(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} that Pillow can read") from None
    except MemoryError:
        raise RefusedImageError("needs more memory than there is") from None
    except Exception as error:  # broken files make Pillow raise nearly every kind of exception
        if isinstance(error, OSError) and error.errno:
            raise RefusedImageError(f"cannot be read: {error.strerror}") from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RefusedImageError(f"is broken or truncated: {reason}") from None


@contextmanager
def _pillow_limits() -> Iterator[None]:
    """Pillow refuses more than MAX_PIXELS before it makes room for them, and says nothing of what it meets."""
    log, kept = logging.getLogger("PIL"), Image.MAX_IMAGE_PIXELS
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL + 1)
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # it warns from there on and refuses from twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = kept
            log.setLevel(level)


def _open_file(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        if not source:
            raise RefusedImageError("is empty")
        return io.BytesIO(source)
    about = source.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe would wait for ever
        raise RefusedImageError("is not a file")
    if about.st_size == 0:
        raise RefusedImageError("is empty")
    if about.st_size > MAX_BYTES:
        raise RefusedImageError(f"has {about.st_size:,} bytes; at most {MAX_BYTES:,} are read")
    return source.open("rb")


def _load_upright(image: Image.Image) -> Image.Image:
    """The decoded image, as its EXIF orientation says. Pillow itself turns a TIFF, and then forgets its orientation."""
    image.load()
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1, upright, if EXIF and XMP say nothing or are broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as with pixels: anything
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _to_opaque(image: Image.Image, colour: str, background: int) -> Image.Image:
    """The image in 8 bit without transparency: mode L if it is grey or shall be, else RGB."""
    if image.mode == "F":
        raise RefusedImageError("has float pixels, whose range is unknown; save it with 8 or 16 bit")
    if image.mode == "I" or image.mode.startswith("I;"):
        image = _from_16_bit(image, background)
    elif image.has_transparency_data:
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        for mode in (straight, "RGBA"):  # no copy where nothing changes: an image may take half a gigabyte
            image = image if image.mode == mode else image.convert(mode)
        opaque = Image.new("RGB", image.size, (background,) * 3)
        opaque.paste(image, mask=image)
        image = opaque
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):  # palettes, CMYK, YCbCr, LAB
        image = image.convert("RGB")
    return image.convert("L") if colour == "grey" and image.mode != "L" else image


def _from_16_bit(image: Image.Image, background: int) -> Image.Image:
    """Grey of 16 bit, or of 32 bit with values of 16 bit, as mode L."""
    values: np.ndarray[Any, Any] = np.asarray(image)
    low, high = values.min(), values.max()
    if low < 0 or high > 65535:
        raise RefusedImageError(f"has pixels from {low} to {high}; 0 to 65535 are read")
    grey = TO_8_BIT[values]
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = background
    return Image.fromarray(grey)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
