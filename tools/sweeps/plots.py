"""Figures of a sweep: test error against a parameter, and the validation loss of every run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

from stages.autoencoder.figures.style import COLOURS, INK, drawing, plain_log_ticks
from tools.sweeps.published_errors import PublishedErrors
from tools.sweeps.results import ERROR_METRIC, LATENT_DIM, SweepResults, compute_means, is_numeric

SIZE = (8.5, 5)  # inches
GREY = "#666666"
PUBLISHED_MARKERS = "Ds^v"
MAX_VALUE_TICKS = 12  # up to so many swept values, each has its own tick
MIN_TICK_DISTANCE = 0.04  # of the axis: labels closer than this would overlap
LOG_RATIO = 4  # largest / smallest value from which on an axis is logarithmic
WIDE_RATIO = 16  # from which on ticks at 1, 2 and 5 are enough
CLOSE_TICKS = (1, 1.5, 2, 3, 5, 7)  # below that


def save_error_plot(
    path: Path, results: SweepResults, pca: pd.DataFrame | None = None, published: Iterable[PublishedErrors] = ()
) -> None:
    """Test error against the axis of the sweep, a line (numbers) or a row of dots for each other combination.

    pca: columns dimension, mse. It and the published errors are drawn if the axis is latent_dim.
    """
    means = compute_means(results)
    other_keys = results.group_keys[1:]
    series: list[tuple[Any, pd.DataFrame]]
    series = list(means.groupby(other_keys, dropna=False)) if other_keys else [((), means)]
    numeric, by_latent_dim = is_numeric(results.table[results.axis]), results.axis == LATENT_DIM
    with drawing(path, *SIZE) as figure:
        axes = figure.subplots()
        for number, (values, rows) in enumerate(series):
            colour = COLOURS[number % len(COLOURS)]
            label = format_label(other_keys, values) or ("autoencoder" if by_latent_dim else "")
            if numeric:
                _draw_line(axes, results, rows, colour, label)
            else:
                offset = (number - (len(series) - 1) / 2) * 0.6 / len(series)
                _draw_dots(axes, results, rows, colour, label, offset)
        if by_latent_dim:
            _draw_references(axes, means[LATENT_DIM], pca, published)
        if numeric:
            _scale_x(axes, results.table[results.axis], by_latent_dim)
        _scale_y(axes)
        axes.set(
            xlabel=f"{LATENT_DIM}: numbers in the code of one image" if by_latent_dim else results.axis,
            ylabel="test error: MSE per pixel",
        )
        axes.set_title(_explain_marks(means["n"], "band" if numeric else "bar"), fontsize="small", color=GREY)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")


def save_loss_plot(path: Path, results: SweepResults, losses: Mapping[str, pd.DataFrame]) -> None:
    """Validation loss by epoch: a line for each run, a colour for each combination.

    losses: {experiment: table with the columns epoch and valid}.
    """
    groups = list(results.table.groupby(results.group_keys, dropna=False))
    with drawing(path, *SIZE) as figure:
        axes = figure.subplots()
        for colour, (values, runs) in zip(_pick_colours(len(groups)), groups, strict=True):
            curves = [losses[experiment] for experiment in runs["experiment"] if experiment in losses]
            for curve in curves:
                axes.plot(curve["epoch"], curve["valid"], color=colour, linewidth=1)
            if curves:
                axes.plot([], [], color=colour, label=format_label(results.group_keys, values))
        _scale_y(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set(xlabel="epoch", ylabel="validation loss per image")
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def format_label(keys: Sequence[str], values: Iterable[object]) -> str:
    """`latent_dim 4, architecture conv`."""
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in zip(keys, values, strict=True))


def _draw_line(axes: Axes, results: SweepResults, rows: pd.DataFrame, colour: Any, label: str) -> None:
    """Means joined by a line, a band of one standard deviation, each run as a small dot."""
    x, mean, sd = rows[results.axis], rows[ERROR_METRIC], rows[f"{ERROR_METRIC} sd"].fillna(0)
    axes.plot(x, mean, color=colour, marker="o", markersize=5, label=label)
    if rows["n"].max() > 1:
        axes.fill_between(x, (mean - sd).clip(lower=mean / 10), mean + sd, color=colour, alpha=0.2, linewidth=0)
        runs = _select_runs(results, rows)
        axes.scatter(runs[results.axis], runs[ERROR_METRIC], s=7, color=colour, alpha=0.6, linewidths=0, zorder=3)


def _draw_dots(axes: Axes, results: SweepResults, rows: pd.DataFrame, colour: Any, label: str, offset: float) -> None:
    """For values without an order: the mean as a dot with one standard deviation, each run beside it as a small dot."""
    values = list(dict.fromkeys(results.table[results.axis].astype(str)))
    x = rows[results.axis].astype(str).map(values.index) + offset
    sd = rows[f"{ERROR_METRIC} sd"].fillna(0)
    axes.errorbar(x, rows[ERROR_METRIC], sd, fmt="o", markersize=7, capsize=4, color=colour, label=label)
    if rows["n"].max() > 1:
        runs = _select_runs(results, rows)
        x_runs = runs[results.axis].astype(str).map(values.index) + offset + 0.05
        axes.scatter(x_runs, runs[ERROR_METRIC], s=9, color=colour, alpha=0.6, linewidths=0)
    axes.set_xticks(range(len(values)), values)
    axes.margins(x=0.15)


def _select_runs(results: SweepResults, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs behind some rows of the means."""
    return results.table.merge(rows[results.group_keys], on=results.group_keys)


def _draw_references(
    axes: Axes, latent_dims: pd.Series, pca: pd.DataFrame | None, published: Iterable[PublishedErrors]
) -> None:
    """PCA's curve over the swept dimensions, and published errors."""
    if pca is not None:
        swept = pca[pca["dimension"].between(latent_dims.min(), latent_dims.max())]
        marker = "_" if len(swept) == 1 else None
        axes.plot(
            swept["dimension"], swept["mse"], color=GREY, linestyle="--", linewidth=1.2, marker=marker, label="PCA"
        )
    for marker, system in zip(PUBLISHED_MARKERS, published, strict=False):
        x, y = zip(*system.errors.items(), strict=True)
        axes.plot(x, y, marker, color=INK, markerfacecolor="none", markersize=7, label=system.label)


def _scale_x(axes: Axes, values: pd.Series, by_latent_dim: bool) -> None:
    """A log axis for latent_dim and where the values span LOG_RATIO; ticks at the swept values."""
    logarithmic = by_latent_dim or (values.min() > 0 and values.max() >= LOG_RATIO * values.min())
    if logarithmic:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
    if values.nunique() <= MAX_VALUE_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(_separate(sorted(set(values)), logarithmic)))


def _separate(values: Sequence[float], logarithmic: bool) -> list[float]:
    """Those of the sorted values whose labels on the axis do not overlap."""
    places = np.log(values) if logarithmic else np.asarray(values)
    kept = [0]
    for index in range(1, len(values)):
        if places[index] - places[kept[-1]] >= MIN_TICK_DISTANCE * (places[-1] - places[0]):
            kept.append(index)
    return [values[index] for index in kept]


def _scale_y(axes: Axes) -> None:
    """A log axis where all is positive and spans LOG_RATIO, else a linear one; ticks as plain, distinct numbers."""
    low, high = axes.dataLim.intervaly
    if low > 0 and high >= LOG_RATIO * low:
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
        if high < WIDE_RATIO * low:
            axes.yaxis.set_major_locator(LogLocator(subs=CLOSE_TICKS))
    else:
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def _explain_marks(run_counts: pd.Series, sd_mark: str) -> str:
    """What the marks show, and how many runs are behind each."""
    if run_counts.max() == 1:
        return "one run each"
    low, high = run_counts.min(), run_counts.max()
    seeds = f"{low}" if low == high else f"{low} to {high}"
    return f"mean of {seeds} seeds; {sd_mark}: one standard deviation; small dots: runs"


def _pick_colours(count: int) -> Sequence[Any]:
    """Distinct colours; for more than ten, steps of one scale."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.9, count)))
