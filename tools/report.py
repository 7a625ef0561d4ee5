"""`python -m tools.report [NAME]`: the table and the curve of a sweep, and the smallest code that is good enough.

From experiments that DVC has; NAME is a sweep's --name, none means all experiments of HEAD. Prints the table and
writes reports/NAME/: report.md, runs.csv and means.csv (every digit), error.png, losses.png, pictures.png; with
--html also report.html, one file to be mailed.
"""

import argparse
import io
from collections.abc import Collection, Sequence
from pathlib import Path

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from safetensors.numpy import load as from_bytes

from stages.autoencoder import arrays, images, pictures
from stages.autoencoder.errors import UserError, run
from tools import curves, report_page, report_text, runs
from tools.anchors import MNIST, Anchor
from tools.experiments import git
from tools.report_text import Report
from tools.runs import CODE, ERROR, Runs

REPORTS = Path("reports")
TOLERANCE = 0.05  # of the best mean error
SHOWN = 6  # metrics in the printed tables; the CSV files have all
SHOWN_IMAGES = 12  # as many as plots/reconstruct/reconstructions.png has
SHOWN_ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.report", description="Table and curve of a sweep.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a sweep's name; none: all experiments of HEAD")
    parser.add_argument("--html", action="store_true", help="also write one self-contained page")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of the best error (default 0.05: 5 %%)")
    parser.add_argument("--metrics", help=f"metrics in the tables, with commas (default: {SHOWN} of them)")
    options = parser.parse_args()
    metrics = options.metrics.split(",") if options.metrics else None
    if not options.tolerance >= 0:
        raise UserError(f"--tolerance must be at least 0; got {options.tolerance}")
    try:
        make(options.name, html=options.html, tolerance=options.tolerance, metrics=metrics)
    except DvcException as error:
        raise UserError(f"dvc: {error}") from None


def make(
    name: str | None,
    baseline: str | None = None,
    only: Collection[str] | None = None,
    *,
    html: bool = False,
    tolerance: float = TOLERANCE,
    metrics: Sequence[str] | None = None,
) -> None:
    """Write the report of a sweep and print its tables. Raises UserError where nothing has finished.

    baseline, only: the commit and the names of the experiments that it is about; without them, see runs.collect.
    """
    found = runs.collect(name, baseline, only)
    folder = REPORTS / found.name
    shown = _shown(found, metrics)
    anchors, notes = _anchors(found)
    notes += [f"Left out, not finished: {label} ({state})." for label, state in found.unfinished.items()]
    files = ["error.png"]
    curves.save_error(folder / "error.png", found, _pca(found), anchors)
    if losses := _losses(found):
        files.append("losses.png")
        curves.save_losses(folder / "losses.png", found, losses)
    rows, note = _pictures(found)
    if rows:
        pictures.save_rows(folder / "pictures.png", rows)
        files.append("pictures.png")
    notes += note
    report = Report(found, shown, runs.choose(found, tolerance), tolerance, anchors, files, notes)
    for file, table in (("runs.csv", found.table.drop(columns="test")), ("means.csv", runs.means(found))):
        arrays.write(folder / file, table.to_csv(index=False).encode())
    arrays.write(folder / "report.md", report_text.markdown(report).encode())
    if html:
        arrays.write(folder / "report.html", report_page.page(report, folder).encode())
    print(
        "\n"
        + "\n\n".join(report_text.tables(report) + [line for line in (report_text.choice_text(report), *notes) if line])
    )
    print(f"\n{folder}/: report.md, runs.csv, means.csv, {', '.join(files)}{', report.html' if html else ''}")


def _shown(found: Runs, wanted: Sequence[str] | None) -> list[str]:
    """The metrics of the tables. Raises UserError for one that the runs don't have."""
    for metric in wanted or ():
        if metric not in found.metrics:
            raise UserError(f"--metrics: no metric {metric}; known: {', '.join(found.metrics)}")
    return list(wanted or [ERROR, *(metric for metric in found.metrics if metric != ERROR)][:SHOWN])


def _anchors(found: Runs) -> tuple[Sequence[Anchor], list[str]]:
    """The published errors where they compare, or a note that they don't."""
    if found.axis != CODE:
        return (), []
    if set(found.table.get("download.dataset", ())) == {"mnist"} and set(found.table["split.normal_classes"]) == {"[]"}:
        return MNIST, []
    return (), ["Published errors are not marked: they are for the whole of MNIST (dataset mnist)."]


def _pca(found: Runs) -> pd.DataFrame | None:
    """PCA's test error by dimension; None where the runs have different ones."""
    tables = {_tracked(commit, "plots/pca.csv") for commit in found.table["commit"]}
    text = tables.pop()
    return pd.read_csv(io.StringIO(text)) if text and not tables else None


def _losses(found: Runs) -> dict[str, pd.DataFrame]:
    """The losses by epoch of every run that has them."""
    read = {}
    for experiment, commit in zip(found.table["experiment"], found.table["commit"], strict=True):
        if text := _tracked(commit, "plots/loss.csv"):
            read[experiment] = pd.read_csv(io.StringIO(text))
    return {experiment: table for experiment, table in read.items() if {"epoch", "valid"} <= set(table)}


def _tracked(commit: str, path: str) -> str:
    """A file that git has in a commit; empty where there is none."""
    try:
        return git("show", f"{commit}:{path}")
    except UserError:
        return ""


def _pictures(found: Runs) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Test images over what the models make of them, a row for each combination: its first run; and notes.

    The arrays themselves, out of DVC's cache: any image, not only those that a picture of the pipeline shows.
    """
    first = found.table.drop_duplicates(found.groups)
    if first["test"].nunique(dropna=False) > 1:
        return [], ["No pictures: the runs have different test images."]
    notes = []
    if len(first) > SHOWN_ROWS:
        first = first.iloc[np.linspace(0, len(first) - 1, SHOWN_ROWS).round().astype(int)]
        notes.append(f"Pictures of {SHOWN_ROWS} combinations, evenly spread.")
    rows = []
    for _, one in first.iterrows():
        with _files(one["commit"]) as files:
            try:
                if not rows:
                    test = from_bytes(files.read_bytes(runs.TEST))["images"]
                    rows.append(("original", images.spread(test, SHOWN_IMAGES)))
                output = from_bytes(files.read_bytes("data/reconstructions.safetensors"))["output"]
            except (OSError, DvcException):
                notes.append(f"No pictures of {one['experiment']}: its data are not in the cache (dvc fetch).")
                continue
        rows.append((curves.label_of(found.groups, one[found.groups]), images.spread(output, SHOWN_IMAGES)))
    return (rows if len(rows) > 1 else []), notes


class _files:  # noqa: N801
    """DVC's file system of one commit, closed at the end."""

    def __init__(self, commit: str) -> None:
        self.system = dvc.api.DVCFileSystem(rev=commit)

    def __enter__(self) -> dvc.api.DVCFileSystem:
        return self.system

    def __exit__(self, *_: object) -> None:
        self.system.close()


if __name__ == "__main__":
    run(main)
