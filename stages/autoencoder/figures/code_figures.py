"""Charts of codes: a 2-D map coloured by class, and how much each dimension matters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from stages.autoencoder.figures.style import COLOURS, INK, drawing

MARKERS = "os^DvPX*<>"  # one for every ten classes, because there are ten colours
LEGEND_ROWS = 22  # classes in a column of the legend
MAX_BARS = 32  # more would leave no room for the number of each dimension


def save_map(
    path: Path, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, unit: str
) -> None:
    """A 2-D map of codes, points (M, 2), coloured by class, with the name of each class at its median.

    If all second coordinates are 0, the classes are drawn one above the other instead.
    """
    line = not points[:, 1].any()
    x, y = points[:, 0], (labels if line else points[:, 1])
    size = float(np.clip(20_000 / len(points), 4, 30))  # fewer points are drawn larger
    order = np.random.default_rng(0).permutation(len(points))  # otherwise the last class would hide the others
    with drawing(path, 8, 6.5) as figure:
        axes = figure.subplots()
        for group, marker in enumerate(MARKERS):
            chosen = order[labels[order] // len(COLOURS) % len(MARKERS) == group]
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
            halo = [withStroke(linewidth=3, foreground="white")]
            axes.text(place[0], place[1], class_names[number], weight="bold", ha="center", path_effects=halo)
        handles = [
            Line2D(
                [], [], linestyle="", color=COLOURS[i % len(COLOURS)], marker=MARKERS[i // len(COLOURS) % len(MARKERS)]
            )
            for i in range(len(class_names))
        ]
        columns = -(-len(class_names) // LEGEND_ROWS)
        axes.legend(
            handles,
            class_names,
            title="class",
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            handletextpad=0.1,
            ncols=columns,
        )
        axes.set_ylabel(f"second axis ({unit})")
        axes.set_aspect("equal", "datalim")


def save_dimensions(path: Path, table: pd.DataFrame, active: int, latent_dim: int) -> None:
    """Bars for the dimensions of ablation.ablation_table: the error that ablating each one adds, and its variation.

    active: how many of the latent_dim dimensions are active.
    """
    bars = table.head(MAX_BARS)
    quantity = "kl" if "kl" in bars else "std"
    labels = {"kl": "KL to the prior\n(nats)", "std": "standard deviation\n(unit of the code)"}
    with drawing(path, 8, 5.5) as figure:
        upper, lower = figure.subplots(2, sharex=True)
        upper.bar(bars["rank"], bars["mse_added"], color=COLOURS[0])
        upper.set_ylabel("MSE added\nby ablation")
        if (bars["mse_added"] < 0).any():
            upper.axhline(0, color=INK, linewidth=0.8)
            note = "below 0: the error is smaller without this dimension"
            upper.text(0.99, 0.95, note, transform=upper.transAxes, ha="right", va="top", fontsize="small")
        lower.bar(bars["rank"], bars[quantity], color=COLOURS[1])
        lower.set_ylabel(labels[quantity])
        lower.set_xlim(0.3, max(len(bars), 8) + 0.7)
        letter = "z" if len(bars) <= MAX_BARS // 2 else ""
        width = max(len(str(number)) for number in bars["dimension"]) + len(letter)
        lower.set_xticks(bars["rank"], [f"{letter}{number}" for number in bars["dimension"]])
        lower.tick_params("x", labelsize=11 if letter else 9, rotation=90 if width > 2 and len(bars) > 16 else 0)
        lower.set_xlabel("dimension of the code, in the order of the error that its ablation adds")
        for axes in (upper, lower):
            axes.tick_params("x", length=0)
            axes.grid(axis="y")
        title = f"How much each dimension of the code matters: {active} of {latent_dim} are active"
        if len(bars) < latent_dim:
            title += f"\nShown: the {len(bars)} whose ablation adds most error"
        if len(table) < latent_dim:
            title += f", of the {len(table)} that vary most"
        upper.set_title(title)
