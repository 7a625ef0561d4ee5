"""Figures of a sweep: error against a parameter, and the loss of every run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from stages.autoencoder.figures import COLOURS, INK, drawing, plain_log_ticks
from tools.anchors import Anchor
from tools.runs import CODE, ERROR, Runs, is_number, means

SIZE = (8.5, 5)  # inches
GREY = "#666666"
MARKS = "Ds^v"  # of the published errors
TICKS = 12  # at most so many swept values are marked on the axis


def save_error(path: Path, runs: Runs, pca: pd.DataFrame | None = None, anchors: Iterable[Anchor] = ()) -> None:
    """Test error against the axis of the sweep, a line or a row of dots for each combination of the others.

    pca: columns dimension, mse; it and the anchors are drawn where the axis is latent_dim.
    """
    table = means(runs)
    others = runs.groups[1:]
    series = list(table.groupby(others, dropna=False)) if others else [((), table)]
    numeric, code = is_number(table[runs.axis]), runs.axis == CODE
    with drawing(path, *SIZE) as figure:
        axes = figure.subplots()
        for number, (values, rows) in enumerate(series):
            colour = COLOURS[number % len(COLOURS)]
            label = label_of(others, values) or ("autoencoder" if code else "")
            if numeric:
                _line(axes, runs, rows, colour, label)
            else:
                _dots(axes, runs, rows, colour, label, (number - (len(series) - 1) / 2) * 0.6 / len(series))
        if code:
            _references(axes, table[CODE], pca, anchors)
        if numeric:
            _scale_x(axes, table[runs.axis], code)
        _scale_y(axes, least=1 if code else 3)
        axes.set(
            xlabel=f"{CODE}: numbers in the code of one image" if code else runs.axis,
            ylabel="test error: MSE per pixel",
        )
        axes.set_title(_about(table["n"], "band" if numeric else "bar"), fontsize="small", color=GREY)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")


def save_losses(path: Path, runs: Runs, curves: Mapping[str, pd.DataFrame]) -> None:
    """A line for each run, {experiment: rows with epoch and valid}, and one colour for each combination."""
    groups = list(runs.table.groupby(runs.groups, dropna=False))
    with drawing(path, *SIZE) as figure:
        axes = figure.subplots()
        for colour, (values, rows) in zip(_colours(len(groups)), groups, strict=True):
            drawn = [curves[experiment] for experiment in rows["experiment"] if experiment in curves]
            for curve in drawn:
                axes.plot(curve["epoch"], curve["valid"], color=colour, linewidth=1)
            if drawn:
                axes.plot([], [], color=colour, label=label_of(runs.groups, values))
        _scale_y(axes, least=3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel="validation loss per image")
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def label_of(keys: Sequence[str], values: Iterable[object]) -> str:
    """`latent_dim 4, architecture conv`."""
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in zip(keys, values, strict=True))


def _line(axes: Axes, runs: Runs, rows: pd.DataFrame, colour: str, label: str) -> None:
    """Means joined by a line, a band of one standard deviation, each run as a small dot."""
    x, mean, sd = rows[runs.axis], rows[ERROR], rows[f"{ERROR} sd"].fillna(0)
    axes.plot(x, mean, color=colour, marker="o", markersize=5, label=label)
    if rows["n"].max() > 1:
        axes.fill_between(x, (mean - sd).clip(lower=mean / 10), mean + sd, color=colour, alpha=0.2, linewidth=0)
        each = _each(runs, rows)
        axes.scatter(each[runs.axis], each[ERROR], s=7, color=colour, alpha=0.6, linewidths=0, zorder=3)


def _dots(axes: Axes, runs: Runs, rows: pd.DataFrame, colour: str, label: str, shift: float) -> None:
    """For values without an order: the mean as a dot with one standard deviation, each run beside it as a small dot."""
    names = list(dict.fromkeys(runs.table[runs.axis].astype(str)))
    place = rows[runs.axis].astype(str).map(names.index) + shift
    sd = rows[f"{ERROR} sd"].fillna(0)
    axes.errorbar(place, rows[ERROR], sd, fmt="o", markersize=7, capsize=4, color=colour, label=label)
    if rows["n"].max() > 1:
        each = _each(runs, rows)
        beside = each[runs.axis].astype(str).map(names.index) + shift + 0.05
        axes.scatter(beside, each[ERROR], s=9, color=colour, alpha=0.6, linewidths=0)
    axes.set_xticks(range(len(names)), names)
    axes.margins(x=0.15)


def _each(runs: Runs, rows: pd.DataFrame) -> pd.DataFrame:
    """The single runs behind some rows of the means."""
    return runs.table.merge(rows[runs.groups], on=runs.groups)


def _references(axes: Axes, dims: pd.Series, pca: pd.DataFrame | None, anchors: Iterable[Anchor]) -> None:
    """PCA's curve over the swept dimensions, and published errors."""
    if pca is not None:
        part = pca[pca["dimension"].between(dims.min(), dims.max())]
        mark = "_" if len(part) == 1 else None
        axes.plot(part["dimension"], part["mse"], color=GREY, linestyle="--", linewidth=1.2, marker=mark, label="PCA")
    for mark, anchor in zip(MARKS, anchors, strict=False):
        x, y = zip(*anchor.errors.items(), strict=True)
        axes.plot(x, y, mark, color=INK, markerfacecolor="none", markersize=7, label=anchor.label)


def _scale_x(axes: Axes, values: pd.Series, code: bool) -> None:
    """A log axis for latent_dim, and where the values span enough; plain numbers at the swept values."""
    if code or (values.min() > 0 and values.max() >= 4 * values.min()):
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
    if values.nunique() <= TICKS:
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(values))))


def _scale_y(axes: Axes, least: float) -> None:
    """A log axis where all is positive and spans a factor of `least`."""
    low, high = axes.dataLim.intervaly
    if low > 0 and high >= least * low:
        axes.set_yscale("log")
        wide, narrow = (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
        plain_log_ticks(axes.yaxis, wide if high > 8 * low else narrow)


def _about(n: pd.Series, spread: str) -> str:
    """What the marks are, and how many runs stand behind each."""
    if n.max() == 1:
        return "one run each"
    runs = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    return f"mean of {runs} seeds; {spread}: one standard deviation; small dots: runs"


def _colours(count: int) -> Sequence:
    """Distinct colours; beyond ten, steps of one scale."""
    return COLOURS[:count] if count <= len(COLOURS) else mpl.colormaps["viridis"](np.linspace(0, 0.9, count))
