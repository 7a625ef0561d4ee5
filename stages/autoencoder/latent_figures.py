"""Charts of codes: a 2-D map by class, and what each dimension carries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from stages.autoencoder.figures import COLOURS, drawing

MARKERS = "os^DvPX*<>"  # one for each ten classes, since the colours are ten
NAMED = 32  # bars that have their dimension's number below them


def save_map(
    path: Path, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, unit: str
) -> None:
    """A 2-D map of codes, points (M, 2), coloured by class, each class named in its middle.

    Where all second coordinates are 0, the classes stand one above the other instead.
    """
    line = not points[:, 1].any()
    size = float(np.clip(20_000 / len(points), 4, 30))  # the fewer the points, the larger
    outline = [withStroke(linewidth=3, foreground="white")]
    with drawing(path, 8, 6.5) as figure:
        axes = figure.subplots()
        for number, name in enumerate(class_names):
            x, y = points[labels == number].T
            axes.scatter(
                x,
                np.full(len(x), number) if line else y,
                s=size,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
                alpha=0.3 if line else 0.85,
                linewidths=0,
                label=name,
            )
            if len(x) and not line:
                axes.text(np.median(x), np.median(y), name, weight="bold", ha="center", path_effects=outline)
        axes.set_title(title)
        axes.set_xlabel(f"first axis ({unit})")
        if line:
            axes.set(yticks=range(len(class_names)), yticklabels=class_names, ylabel="class")
            return
        legend = axes.legend(title="class", loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
        for handle in legend.legend_handles:
            handle.set(sizes=[40], alpha=1)
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
