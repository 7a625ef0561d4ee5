"""Charts of codes: a 2-D map by class, and what each dimension carries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from stages.autoencoder.figures import COLOURS, drawing

MARKERS = "os^DvPX*<>"  # one for each ten classes, since the colours are ten
TALL = 22  # classes in a column of the legend
NAMED = 32  # bars that have their dimension's number below them


def save_map(
    path: Path, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, unit: str
) -> None:
    """A 2-D map of codes, points (M, 2), coloured by class, each class named in its middle.

    Where all second coordinates are 0, the classes stand one above the other instead.
    """
    line = not points[:, 1].any()
    x, y = points[:, 0], (labels if line else points[:, 1])
    size = float(np.clip(20_000 / len(points), 4, 30))  # the fewer the points, the larger
    mixed = np.random.default_rng(0).permutation(len(points))  # else the last class would hide the others
    with drawing(path, 8, 6.5) as figure:
        axes = figure.subplots()
        for group, marker in enumerate(MARKERS):
            chosen = mixed[labels[mixed] // len(COLOURS) % len(MARKERS) == group]
            colours = np.array(COLOURS)[labels[chosen] % len(COLOURS)]
            axes.scatter(
                x[chosen], y[chosen], s=size, c=colours, marker=marker, alpha=0.3 if line else 0.85, linewidths=0
            )
        axes.set_title(title)
        axes.set_xlabel(f"first axis ({unit})")
        if line:
            axes.set(yticks=range(len(class_names)), yticklabels=class_names, ylabel="class")
            return
        for number in np.unique(labels):
            place = np.median(points[labels == number], 0)
            outline = [withStroke(linewidth=3, foreground="white")]
            axes.text(*place, class_names[number], weight="bold", ha="center", path_effects=outline)
        signs = [
            Line2D(
                [], [], linestyle="", color=COLOURS[i % len(COLOURS)], marker=MARKERS[i // len(COLOURS) % len(MARKERS)]
            )
            for i in range(len(class_names))
        ]
        columns = -(-len(class_names) // TALL)
        legend = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "handletextpad": 0.1, "ncols": columns}
        axes.legend(signs, class_names, title="class", **legend)
        axes.set_ylabel(f"second axis ({unit})")
        axes.set_aspect("equal", "datalim")


def save_dimensions(path: Path, table: pd.DataFrame, active: int, of: int) -> None:
    """Bars for each dimension of dimensions.table: the error that silencing it adds, and how far it varies."""
    quantity = "kl" if "kl" in table else "std"
    with drawing(path, 8, 5.5) as figure:
        upper, lower = figure.subplots(2, sharex=True)
        upper.bar(table["rank"], table["mse_added"], color=COLOURS[0])
        upper.set_ylabel("MSE added\nwhen silenced")
        lower.bar(table["rank"], table[quantity], color=COLOURS[1])
        lower.set_ylabel({"kl": "KL to the prior\n(nats)", "std": "standard deviation\n(unit of the code)"}[quantity])
        lower.set_xlim(0.3, max(len(table), 8) + 0.7)
        if len(table) <= NAMED:
            letter = "z" if len(table) <= NAMED // 2 else ""
            lower.set_xticks(table["rank"], [f"{letter}{number}" for number in table["dimension"]])
            lower.tick_params("x", labelsize=11 if letter else 9)
            lower.set_xlabel("dimension of the code, the one that carries most first")
        else:
            lower.set_xlabel("rank of the dimension")
        for axes in (upper, lower):
            axes.tick_params("x", length=0)
            axes.grid(axis="y")
        shown = "" if len(table) == of else f"\n(the {len(table)} that vary most are shown)"
        upper.set_title(f"What each dimension of the code carries: {active} of {of} active{shown}")
