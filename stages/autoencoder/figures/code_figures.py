"""Charts of codes: a 2-D map coloured by class, and how much each dimension matters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from stages.autoencoder.figures.base.texts import shorten
from stages.autoencoder.figures.style import COLOURS, INK, drawing

MARKERS = "os^DvPX*<>"  # one for every ten classes, because there are ten colours
BINS = 60  # of the histogram of a code of one dimension
LEGEND_ROWS = 22  # classes in a column of the legend
MAX_LEGEND = 44  # classes: a legend of more would fill the picture
MAX_LABELS = 20  # classes named on the map: names of more would hide each other
MIN_SPREAD = 0.2  # of the medians of the classes, as a share of the map: below it their names would hide each other
NAME_LENGTH, SHORT_NAME = 24, 12  # characters of a class name in a legend of one column; of two, and on the map
MAX_BARS = 32  # more would leave no room for the number of each dimension


def save_map(
    path: Path, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, unit: str
) -> None:
    """A 2-D map of codes, points (M, 2), coloured by class, with the name of each class at its median.

    If all second coordinates are 0, the classes are drawn one above the other instead. Without classes, [], all
    points have one colour. The legend has at most 44 classes, the map the names of at most 20.
    """
    line = not points[:, 1].any()
    long_names = len(class_names) > LEGEND_ROWS or any(len(name) > SHORT_NAME for name in class_names)
    with drawing(path, 9.5 if long_names and len(class_names) <= MAX_LEGEND else 8, 6.5) as figure:
        axes = figure.subplots()
        axes.set_xlabel(f"first axis ({unit})")
        if len(class_names) > MAX_LEGEND:
            title += f"\n{len(class_names)} classes: colours repeat; the table beside this picture has their names"
        axes.set_title(title)
        if line and not class_names:
            axes.hist(points[:, 0], BINS, color=COLOURS[0])
            axes.set_ylabel("images")
            return
        _draw_points(axes, points[:, 0], labels if line else points[:, 1], labels, 0.3 if line else 0.85)
        if line:
            _name_lines(axes, class_names)
            return
        axes.set_ylabel(f"second axis ({unit})")
        axes.set_aspect("equal", "datalim")
        if 0 < len(class_names) <= MAX_LABELS:
            _name_medians(axes, points, labels, class_names)
        if 0 < len(class_names) <= MAX_LEGEND:
            _add_legend(axes, class_names)


def _draw_points(axes: Axes, x: np.ndarray, y: np.ndarray, labels: np.ndarray, alpha: float) -> None:
    """Points with a colour and a marker for each class, in random order: else the last class would hide the others."""
    size = float(np.clip(20_000 / len(x), 4, 30))  # fewer points are drawn larger
    order = np.random.default_rng(0).permutation(len(x))
    for group, marker in enumerate(MARKERS):
        chosen = order[labels[order] // len(COLOURS) % len(MARKERS) == group]
        colours = np.array(COLOURS)[labels[chosen] % len(COLOURS)]
        axes.scatter(x[chosen], y[chosen], s=size, c=colours, marker=marker, alpha=alpha, linewidths=0)


def _name_lines(axes: Axes, class_names: Sequence[str]) -> None:
    """The name of each class at its line; of many classes, only their order."""
    count = len(class_names)
    axes.set_ylabel("class")
    if count > MAX_LEGEND:
        axes.set(yticks=[], ylabel="class, in the order of the names")
        return
    names = [shorten(name, NAME_LENGTH) for name in class_names]
    axes.set(yticks=range(count), yticklabels=names)
    if count > LEGEND_ROWS:
        axes.tick_params("y", labelsize="small")


def _name_medians(axes: Axes, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """The name of each class at the median of its points; none if the classes lie on top of each other."""
    present = np.unique(labels)
    places = np.array([np.median(points[labels == number], 0) for number in present])
    if len(present) > 1 and (np.ptp(places, 0) < MIN_SPREAD * np.ptp(points, 0)).all():
        return
    for number, place in zip(present, places, strict=True):
        halo = [withStroke(linewidth=3, foreground="white")]
        name = shorten(class_names[number], SHORT_NAME)
        axes.text(place[0], place[1], name, weight="bold", ha="center", path_effects=halo)


def _add_legend(axes: Axes, class_names: Sequence[str]) -> None:
    """All classes beside the map, in one or two columns."""
    handles = [
        Line2D([], [], linestyle="", color=COLOURS[i % len(COLOURS)], marker=MARKERS[i // len(COLOURS) % len(MARKERS)])
        for i in range(len(class_names))
    ]
    columns = -(-len(class_names) // LEGEND_ROWS)
    names = [shorten(name, NAME_LENGTH if columns == 1 else SHORT_NAME) for name in class_names]
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "handletextpad": 0.1, "ncols": columns}
    legend = axes.legend(handles, [str(i) for i in range(len(names))], title="class", **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # given to legend(), a name that starts with _ would be left out


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
