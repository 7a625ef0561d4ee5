"""A sweep's report as text: tables and the choice for the terminal, Markdown, one HTML page that can be mailed.

The page holds its figures and loads nothing from a network.
"""

import base64
import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from tools.sweeps import explorers
from tools.sweeps.published_errors import PublishedErrors
from tools.sweeps.results import ERROR_METRIC, LATENT_DIM, REPETITIONS, Choice, SweepResults, compute_means
from tools.workspace.commands import git

TEMPLATE = Path(__file__).with_name("report_page.html")
TITLES = {
    "error.png": "Test error against the swept parameter",
    "dimensions.png": "Estimates of the dimension of the codes and of the images",
    "losses.png": "Validation loss of every run by epoch",
    "pictures.png": "Test images, and each model's reconstructions of them",
}
# Columns of metrics in a table on the page: more are split into several tables, so that none is cut at 1000 pixels
MAX_RUN_COLUMNS, MAX_MEAN_COLUMNS = 7, 4
MAX_DECIMALS = 6  # of a standard deviation
MAX_LISTED_VALUES = 8  # of a swept parameter


@dataclass(frozen=True)
class Report:
    """What the terminal, Markdown and the page show.

    metrics: those in the short tables. figures: file names, error.png first. notes: sentences.
    """

    results: SweepResults
    metrics: list[str]
    choice: Choice | None
    tolerance: float
    published_errors: Sequence[PublishedErrors]
    figures: list[str]
    notes: list[str]


def render_markdown(report: Report) -> str:
    """The report as GitHub Markdown; the figures stand beside the file."""
    results = report.results
    paragraphs = [
        f"# {results.name}: {ERROR_METRIC} against {results.axis}",
        f"{describe_sweep(results)} Commit {results.baseline[:7]}. "
        f"`{ERROR_METRIC}`: mean squared error per pixel on the test images.",
        describe_choice(report),
        f"![Test error against {results.axis}](error.png)",
        *render_tables(report),
        *(f"![{TITLES[file]}]({file})" for file in report.figures[1:]),
        *(f"Published: {system.label}: {system.source}." for system in report.published_errors),
        *report.notes,
    ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def render_terminal(report: Report) -> str:
    """The tables, the choice and the notes as plain text."""
    choice = describe_choice(report).replace("**", "")
    return "\n\n".join(filter(None, [*render_tables(report), choice, *report.notes]))


def render_page(report: Report, folder: Path, versions: Mapping[str, str]) -> str:
    """The report as one HTML page; `folder` holds the figures, `versions` what the results depend on."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    results = report.results
    means = compute_means(results)
    return environment.get_template(TEMPLATE.name).render(
        report=report,
        results=results,
        error=ERROR_METRIC,
        description=describe_sweep(results),
        commit=git("show", "--no-patch", "--format=%h, %cs", results.baseline).strip(),
        choice=_markdown_to_html(describe_choice(report)),
        means=means.to_dict("records") if means["n"].max() > 1 else [],
        runs=results.table.to_dict("records"),
        mean_blocks=split_columns(report.metrics, MAX_MEAN_COLUMNS),
        run_blocks=split_columns(results.metrics, MAX_RUN_COLUMNS),
        format_number=format_number,
        format_mean=format_mean,
        figures=[(file, TITLES[file], _inline_image(folder / file)) for file in report.figures],
        constants=list_constants(results),
        versions=versions,
        explorers=explorers.list_links(results.table["experiment"], folder),
    )


def describe_sweep(results: SweepResults) -> str:
    """How many runs of what: `6 runs of latent_dim 2, 4, 8 and seed 0, 1 on mnist5k.`"""
    count = len(results.table)
    swept = " and ".join(f"{key} {_list_values(results.table[key])}" for key in results.key_columns)
    datasets = results.table["download.dataset"].unique() if "download.dataset" in results.params else ()
    data = f" on {', '.join(map(str, datasets))}" if len(datasets) else ""
    return f"{count} run{'s' if count > 1 else ''} of {swept}{data}."


def describe_choice(report: Report) -> str:
    """Which latent_dim is sufficient and how to apply it, or why none is named, as Markdown; empty if one was run."""
    if report.choice is None:
        varied = report.results.varied_keys
        others = [key for key in varied if key not in (LATENT_DIM, *REPETITIONS)]
        return f"No choice: the runs also differ in {', '.join(others)}." if others and LATENT_DIM in varied else ""
    chosen, best = report.choice.chosen, report.choice.best
    if chosen is not best:
        comparison = f"; best: {format_number(best[ERROR_METRIC])} at {best[LATENT_DIM]}, n = {best['n']})"
    elif best[LATENT_DIM] < report.choice.largest:
        comparison = "), the best"
    else:
        comparison = "), the largest tried; larger ones may be better"
    return (
        f"Smallest {LATENT_DIM} whose mean {ERROR_METRIC} is within {100 * report.tolerance:.3g} % of the best: "
        f"**{chosen[LATENT_DIM]}** ({format_number(chosen[ERROR_METRIC])}, n = {chosen['n']}{comparison}. "
        f"To apply it: `dvc exp apply {report.choice.experiment}`"
    )


def describe_estimates(estimates: pd.DataFrame) -> str:
    """The estimates at the largest latent_dim, means over repetitions, as a sentence.

    estimates: columns latent_dim, estimate, value.
    """
    largest = estimates[estimates[LATENT_DIM] == estimates[LATENT_DIM].max()]
    values = largest.groupby("estimate", sort=False)["value"].mean()
    listed = ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    return f"Estimates of the dimension at {LATENT_DIM} {estimates[LATENT_DIM].max()}: {listed}."


def render_tables(report: Report) -> list[str]:
    """The runs and, where some repeat others, the means, as Markdown tables of text."""
    tables = [(tabulate_runs(report), "left"), (tabulate_means(report), "right")]
    return [
        table.to_markdown(index=False, disable_numparse=True, colalign=["right"] * (table.shape[1] - 1) + [last])
        for table, last in tables
        if table is not None
    ]


def tabulate_runs(report: Report) -> pd.DataFrame:
    """A row for each run, as text."""
    results = report.results
    return results.table[[*results.key_columns, *report.metrics, "experiment"]].map(format_number)


def tabulate_means(report: Report) -> pd.DataFrame | None:
    """A row for each combination of the group keys, as text; None if no combination was repeated."""
    means = compute_means(report.results)
    if means["n"].max() == 1:
        return None
    table = means[[*report.results.group_keys, "n"]].map(format_number)
    for metric in report.metrics:
        pairs = zip(means[metric], means[f"{metric} sd"], strict=True)
        table[metric] = [format_mean(mean, sd) for mean, sd in pairs]
    return table


def format_number(value: object) -> str:
    """Five significant digits; integers in full; a dash for NaN."""
    if isinstance(value, float | np.floating):
        return "-" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def format_mean(mean: float, sd: float) -> str:
    """`mean ± standard deviation`, both with the decimals that give the deviation two significant digits."""
    if np.isnan(sd):
        return f"{format_number(mean)} ± -"
    decimals = 1 - math.floor(math.log10(sd)) if sd > 0 else MAX_DECIMALS + 1
    if decimals > MAX_DECIMALS:
        return f"{format_number(mean)} ± {sd:.2g}"
    return f"{mean:.{max(decimals, 0)}f} ± {sd:.{max(decimals, 0)}f}"


def split_columns(columns: Sequence[str], maximum: int) -> list[list[str]]:
    """The columns in as few blocks of at most `maximum` as possible, about equally long."""
    count = -(-len(columns) // maximum)
    return [list(block) for block in np.array_split(np.array(columns, dtype=object), count)] if count else []


def list_constants(results: SweepResults) -> Mapping[str, object]:
    """The parameters that are the same in all runs."""
    return {key: results.table[key].iloc[0] for key in results.params if key not in results.varied_keys}


def _list_values(column: pd.Series) -> str:
    """`2, 4, 8`; the first, the last and the number of values if they are many."""
    values = [format_number(value) for value in dict.fromkeys(column.sort_values())]
    if len(values) > MAX_LISTED_VALUES:
        return f"{values[0]}, {values[1]}, ..., {values[-1]} ({len(values)} values)"
    return ", ".join(values)


def _markdown_to_html(text: str) -> str:
    """A line with bold text and code, escaped, as HTML."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)


def _inline_image(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
