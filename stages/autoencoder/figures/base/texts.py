"""Texts in pictures: names of classes and files hold any character, and a font holds few."""

import unicodedata
from functools import cache
from pathlib import Path

ELLIPSIS = "…"


def drawable(text: str) -> str:
    """The text in one line, with escapes such as \\u732b for characters that the font of the figures lacks."""
    text = unicodedata.normalize("NFC", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() and ord(char) in _characters() else _escape(char) for char in text)


def shorten(text: str, length: int) -> str:
    """The drawable text cut to `length` characters, with an ellipsis as the last one."""
    text = drawable(text)
    return text if len(text) <= length else text[: length - 1].rstrip() + ELLIPSIS


def font_file() -> Path:
    """DejaVu Sans, the font of all charts: matplotlib brings it along."""
    import matplotlib as mpl  # takes time, and few texts of a grid of images need it

    return Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")


@cache
def _characters() -> frozenset[int]:
    """The characters that the font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_file())).get_charmap())


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
