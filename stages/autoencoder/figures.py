"""Charts by matplotlib, in one restrained style; pictures made of images are in pictures.py."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from stages.autoencoder import arrays

# petroff10, which Petroff (2021) chose for colour-blind readers; .dvc/plots/latent_map.json has the same
COLOURS = tuple(mpl.color_sequences["petroff10"])
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 100}


def save(path: Path, figure: Figure) -> None:
    """Write a PNG without date and software version: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    arrays.write(path, buffer.getvalue())


def save_map(path: Path, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """A 2-D map of codes, points (N, 2), coloured by class."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 6), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(class_names):
            chosen = points[labels == number]
            axes.scatter(
                chosen[:, 0], chosen[:, -1], s=8, color=COLOURS[number % len(COLOURS)], label=name, linewidths=0
            )
        axes.legend(markerscale=2, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set(xticks=[], yticks=[])
        save(path, figure)
