"""Figures of a sweep: test error against a parameter, and the validation loss of every run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

from stages.autoencoder.figures.style import COLOURS, DPI, INK, drawing, plain_log_ticks
from tools.sweeps.published_errors import PublishedErrors
from tools.sweeps.results import ERROR_METRIC, LATENT_DIM, SweepResults, compute_means, is_numeric

SIZE = (8.5, 5)  # inches
OF_IMAGES = " of the images"
GREY = "#666666"
PUBLISHED_MARKERS = "Ds^v"
MAX_VALUE_TICKS = 12  # up to so many swept values, each has its own tick
MIN_TICK_DISTANCE = 0.04  # of the axis: labels closer than this would overlap
LOG_RATIO = 4  # largest / smallest value from which on an axis is logarithmic
WIDE_RATIO = 16  # from which on ticks at 1, 2 and 5 are enough
CLOSE_TICKS = (1, 1.5, 2, 3, 5, 7)  # below that
LINE_MARKER, DOT_MARKER = 5, 7  # diameter of a mean in points, on a line and alone


def save_error_plot(
    path: Path, results: SweepResults, pca: pd.DataFrame | None = None, published_errors: Iterable[PublishedErrors] = ()
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
            _draw_references(axes, means[LATENT_DIM], pca, published_errors)
        if numeric:
            _scale_x(axes, results.table[results.axis], by_latent_dim)
        _scale_y(axes)
        axes.set(
            xlabel=f"{LATENT_DIM}: numbers in the code of one image" if by_latent_dim else results.axis,
            ylabel="test error: MSE per pixel",
        )
        figure.draw_without_rendering()  # lays out the axes, so that distances in pixels are known
        axes.set_title(_explain_marks(axes, results, numeric), fontsize="small", color=GREY)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")


def save_dimension_plot(path: Path, results: SweepResults, estimates: pd.DataFrame) -> None:
    """Estimates of the dimension of the codes against latent_dim, means over repetitions, beside those of the images.

    estimates: columns latent_dim, estimate, value; the names of those of the images end in OF_IMAGES.
    """
    of_images = estimates["estimate"].str.endswith(OF_IMAGES)
    means = estimates[~of_images].groupby(["estimate", LATENT_DIM], sort=False)["value"].mean().unstack(LATENT_DIM)
    with drawing(path, *SIZE) as figure:
        axes = figure.subplots()
        for colour, name in zip(COLOURS, means.index, strict=False):
            values = means.loc[name].dropna()
            axes.plot(values.index, values, color=colour, marker="o", markersize=LINE_MARKER, label=f"{name} of codes")
        constant = estimates[of_images].groupby("estimate", sort=False)["value"].mean()
        for (name, value), style in zip(constant.items(), ("--", ":"), strict=False):
            axes.axhline(value, color=INK, linestyle=style, linewidth=1.2, label=str(name))
        swept = results.table[LATENT_DIM]
        axes.plot([swept.min(), swept.max()], [swept.min(), swept.max()], color=GREY, linewidth=1, label=LATENT_DIM)
        _scale_x(axes, swept, by_latent_dim=True)
        _scale_y(axes)
        axes.set(xlabel=f"{LATENT_DIM}: numbers in the code of one image", ylabel="estimated dimension")
        axes.set_title("where a curve stays level, larger codes hold nothing more", fontsize="small", color=GREY)
        axes.legend(fontsize="small")


def save_loss_plot(path: Path, results: SweepResults, losses: Mapping[str, pd.DataFrame]) -> None:
    """Validation loss by epoch: a line for each run, a colour for each combination.

    losses: {experiment: table with the columns epoch and valid}.
    """
    groups = [
        (values, [losses[experiment] for experiment in runs["experiment"] if experiment in losses])
        for values, runs in results.table.groupby(results.group_keys, dropna=False)
    ]
    groups = [(values, curves) for values, curves in groups if curves]
    labels = label_groups(results.group_keys, [values for values, _ in groups])
    with drawing(path, *SIZE) as figure:
        axes = figure.subplots()
        for colour, label, (_, curves) in zip(_pick_colours(len(groups)), labels, groups, strict=True):
            for curve in curves:
                axes.plot(curve["epoch"], curve["valid"], color=colour, linewidth=1)
            axes.plot([], [], color=colour, label=label)
        _scale_y(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set(xlabel="epoch", ylabel="validation loss per image")
        if any(labels):
            axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def label_groups(keys: Sequence[str], groups: Sequence[Sequence[Any]]) -> list[str]:
    """A label for each group of values of `keys`; keys that have the same value in all groups are left out."""
    distinct = [number for number in range(len(keys)) if len({str(values[number]) for values in groups}) > 1]
    names = [keys[number] for number in distinct]
    return [format_label(names, [values[number] for number in distinct]) for values in groups]


def format_label(keys: Sequence[str], values: Iterable[object]) -> str:
    """`latent_dim 4, architecture conv`."""
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in zip(keys, values, strict=True))


def _draw_line(axes: Axes, results: SweepResults, rows: pd.DataFrame, colour: Any, label: str) -> None:
    """Means joined by a line, a band of one standard deviation (a bar if alone), each run as a small dot."""
    x, mean, sd = rows[results.axis], rows[ERROR_METRIC], rows[f"{ERROR_METRIC} sd"].fillna(0)
    axes.plot(x, mean, color=colour, marker="o", markersize=LINE_MARKER, label=label)
    if rows["n"].max() > 1:
        if len(rows) > 1:
            axes.fill_between(x, (mean - sd).clip(lower=mean / 10), mean + sd, color=colour, alpha=0.2, linewidth=0)
        else:
            axes.errorbar(x, mean, sd, color=colour, capsize=4)
        runs = _select_runs(results, rows)
        axes.scatter(runs[results.axis], runs[ERROR_METRIC], s=7, color=colour, alpha=0.6, linewidths=0, zorder=3)


def _draw_dots(axes: Axes, results: SweepResults, rows: pd.DataFrame, colour: Any, label: str, offset: float) -> None:
    """For values without an order: the mean as a dot with one standard deviation, each run beside it as a small dot."""
    values = list(dict.fromkeys(results.table[results.axis].astype(str)))
    x = rows[results.axis].astype(str).map(values.index) + offset
    sd = rows[f"{ERROR_METRIC} sd"].fillna(0)
    axes.errorbar(x, rows[ERROR_METRIC], sd, fmt="o", markersize=DOT_MARKER, capsize=4, color=colour, label=label)
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
    axes: Axes, latent_dims: pd.Series, pca: pd.DataFrame | None, published_errors: Iterable[PublishedErrors]
) -> None:
    """PCA's curve over the swept dimensions, a marker if there is one dimension, and published errors."""
    if pca is not None:
        swept = pca[pca["dimension"].between(latent_dims.min(), latent_dims.max())]
        style = "x" if len(swept) == 1 else "--"
        axes.plot(swept["dimension"], swept["mse"], style, color=GREY, linewidth=1.2, label="PCA")
    for marker, system in zip(PUBLISHED_MARKERS, published_errors, strict=False):
        x, y = zip(*system.errors.items(), strict=True)
        axes.plot(x, y, marker, color=INK, markerfacecolor="none", markersize=7, label=system.label)


def _scale_x(axes: Axes, values: pd.Series, by_latent_dim: bool) -> None:
    """A log axis for latent_dim and where the values span LOG_RATIO; ticks at the swept values."""
    logarithmic = by_latent_dim or (values.min() > 0 and values.max() >= LOG_RATIO * values.min())
    if logarithmic:
        low, high = axes.dataLim.intervalx
        axes.set_xscale("log")
        if low == high:
            axes.set_xlim(low / 2, high * 2)
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


def _explain_marks(axes: Axes, results: SweepResults, numeric: bool) -> str:
    """What the marks show, and how many runs are behind each. The axes must be laid out."""
    groups = results.table.groupby(results.group_keys, dropna=False)[ERROR_METRIC]
    low, high = groups.size().min(), groups.size().max()
    if high == 1:
        return "one run each"
    what = f"mean of {low if low == high else f'{low} to {high}'} {results.repeated}"
    errors = results.table[ERROR_METRIC]
    runs, means = (_to_points(axes, values) for values in (errors, groups.transform("mean")))
    if np.abs(runs - means).max() > (LINE_MARKER if numeric else DOT_MARKER) / 2:
        sd_mark = "band" if numeric and results.table[results.axis].nunique() > 1 else "bar"
        return f"{what}; {sd_mark}: one standard deviation; small dots: runs"
    dots = "" if numeric else "; small dots: runs"  # beside the means, where they can be seen
    return f"{what}; spread over {results.repeated} is smaller than the markers{dots}"


def _to_points(axes: Axes, values: pd.Series) -> np.ndarray:
    """Where the y values stand on the figure, in points from its bottom."""
    x = np.full(len(values), axes.get_xlim()[0])
    return axes.transData.transform(np.column_stack([x, values]))[:, 1] * 72 / DPI


def _pick_colours(count: int) -> Sequence[Any]:
    """Distinct colours; for more than ten, steps of one scale."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.9, count)))
