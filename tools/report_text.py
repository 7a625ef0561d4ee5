"""A sweep's report in words: the numbers as text, the tables, the choice, Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tools import runs
from tools.anchors import Anchor
from tools.runs import CODE, ERROR, Choice, Runs

ALTERNATIVES = {
    "error.png": "Test error against the swept parameter",
    "losses.png": "Validation loss of every run by epoch",
    "pictures.png": "The same test images, and what each model makes of them",
}


@dataclass(frozen=True)
class Report:
    """All that is shown, on the terminal, in Markdown and in HTML alike."""

    runs: Runs
    metrics: list[str]  # those shown
    choice: Choice | None
    tolerance: float
    anchors: Sequence[Anchor]
    files: list[str]  # pictures beside it
    notes: list[str]


def markdown(report: Report) -> str:
    """The report as GitHub Markdown, its pictures beside it."""
    found = report.runs
    parts = [
        f"# {found.name}: {ERROR} against {found.axis}",
        f"{len(found.table)} runs from commit {found.baseline[:7]}, {dataset(found)}. "
        f"`{ERROR}`: mean squared error per pixel on the test images.",
        choice_text(report),
        f"![Test error against {found.axis}](error.png)",
        *tables(report),
        *(f"![{ALTERNATIVES[file]}]({file})" for file in report.files[1:]),
        *(f"Published: {anchor.label}: {anchor.source}." for anchor in report.anchors),
        *report.notes,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def choice_text(report: Report) -> str:
    """Which latent_dim is enough, and how to get it."""
    choice = report.choice
    if choice is None:
        return ""
    chosen, best = choice.chosen, choice.best
    return (
        f"Smallest {CODE} whose mean {ERROR} is within {100 * report.tolerance:.3g} % of the best: **{chosen[CODE]}** "
        f"({number(chosen[ERROR])}, n = {chosen['n']}; best: {number(best[ERROR])} at {best[CODE]}, n = {best['n']}). "
        f"To take it over: `dvc exp apply {choice.experiment}`"
    )


def dataset(found: Runs) -> str:
    """The data set or sets of the runs."""
    key = "download.dataset"
    return "data " + ", ".join(map(str, found.table[key].unique())) if key in found.params else "data unknown"


def number(value: object) -> str:
    """Five significant digits; whole numbers whole; a dash for what is not there."""
    if isinstance(value, float | np.floating):
        return "-" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def runs_table(report: Report) -> pd.DataFrame:
    """A row for each run, as text."""
    found = report.runs
    columns = [*(found.varied or [found.axis]), *report.metrics, "experiment"]
    return found.table[columns].map(number)


def means_table(report: Report) -> pd.DataFrame | None:
    """A row for each combination but for the seed, `mean ± sd`, as text; None where no seeds are repeated."""
    table = runs.means(report.runs)
    if table["n"].max() == 1:
        return None
    shown = table[[*report.runs.groups, "n"]].map(number)
    for metric in report.metrics:
        pairs = zip(table[metric], table[f"{metric} sd"], strict=True)
        shown[metric] = [f"{number(mean)} ± {'-' if np.isnan(sd) else f'{sd:.2g}'}" for mean, sd in pairs]
    return shown


def tables(report: Report) -> list[str]:
    shown = [runs_table(report), means_table(report)]
    return [
        table.to_markdown(index=False, disable_numparse=True, colalign=["right"] * (table.shape[1] - 1) + [last])
        for table, last in zip(shown, ("left", "right"), strict=True)
        if table is not None
    ]


def constants(found: Runs) -> Mapping[str, object]:
    """The parameters that are the same in all runs."""
    return {key: found.table[key].iloc[0] for key in found.params if key not in found.varied}
