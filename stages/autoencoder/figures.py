"""The one style of all charts by matplotlib, and how they become files. Pictures made of images: pictures.py."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from stages.autoencoder import arrays

# petroff10, which Petroff (2021) chose for colour-blind readers; .dvc/plots/latent_map.json has the same
COLOURS = tuple(mpl.color_sequences["petroff10"])
INK, FAINT = "#222222", "#d9d9d9"
STYLE = {
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
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
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}
DPI = 100  # a picture of 7 x 5 inches has 700 x 500 pixels
PALETTE = 256  # colours in a file: a third of the bytes, for a change that no eye sees


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches, in the common style, written to `path` as PNG when the block ends.

    Without date and software version: the same figure gives the same bytes.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # what a matplotlibrc among the user's files says is no input
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield figure
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
    packed = io.BytesIO()
    picture = Image.open(drawn).convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
    picture.save(packed, "png", optimize=True)
    arrays.write(path, packed.getvalue())


def plain_log_ticks(axis: Axis, every: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a log axis at 1, 2, 5 in each power of ten, as numbers and not as powers."""
    axis.set_major_locator(LogLocator(subs=every))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
