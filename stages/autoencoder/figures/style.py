"""The style of all matplotlib charts, and how they become files. Grids of images: image_grids.py."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from stages.autoencoder.core import files

# petroff10, chosen for colour-blind readers (Petroff 2021); .dvc/plots/latent_map.json has the same
COLOURS = tuple(mpl.color_sequences["petroff10"])
INK, GRID = "#222222", "#d9d9d9"
STYLE: dict[str, Any] = {
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a class name may contain $
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}
DPI = 100  # a picture of 7 x 5 inches has 700 x 500 pixels
PALETTE = 256  # colours in a file: a third of the bytes, with no visible change


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of width x height inches in the common style, written to `path` as PNG when the block ends.

    The file holds no date and no software version, so the same figure gives the same bytes.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # ignores the user's matplotlibrc
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield figure
        raw = io.BytesIO()
        figure.savefig(raw, format="rgba")
    size = figure.canvas.get_width_height()
    picture = Image.frombytes("RGBA", size, raw.getvalue()).convert("RGB")
    packed = io.BytesIO()
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(packed, "png")
    files.write(path, packed.getvalue())


def plain_log_ticks(axis: Axis, every: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a log axis at 1, 2, 5 in each power of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=every))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
