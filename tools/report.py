"""`python -m tools.report [NAME]`: tabulates and draws a sweep's results, names the smallest sufficient latent_dim.

Reads experiments that DVC has. NAME is a sweep's --name; without it, all experiments of HEAD are taken. Prints the
tables and writes reports/NAME/: report.md, runs.csv and means.csv (every digit), error.png, dimensions.png,
losses.png and pictures.png; with --html also report.html, one file that can be mailed.
"""

import importlib.metadata
import io
import platform
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd
from dvc.exceptions import DvcException
from packaging.utils import canonicalize_name

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.figures.base import image_grids
from stages.runtime.command import run_main
from tools.sweeps import explorers, pictures, plots, published_errors, render
from tools.sweeps.published_errors import PublishedErrors
from tools.sweeps.render import Report
from tools.sweeps.results import (
    DETECTION_METRIC,
    ERROR_METRIC,
    LATENT_DIM,
    SweepResults,
    choose_latent_dim,
    collect_results,
    compute_means,
)
from tools.workspace.arguments import ArgumentParser
from tools.workspace.commands import git
from tools.workspace.copies import ROOT

REPORTS = Path("reports")
DIRECT_PACKAGES = ROOT / "requirements/direct.in"
DEFAULT_TOLERANCE = 0.05  # of the best mean error
DEFAULT_METRIC_COUNT = 6  # in the printed tables; the CSV files have all metrics


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.report", description="Table and curve of a sweep.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a sweep's name (default: all experiments of HEAD)")
    parser.add_argument("--html", action="store_true", help="also write one self-contained page")
    parser.add_argument("--explore", action="store_true", help="also make a page to explore each run; implies --html")
    parser.add_argument(
        "--tolerance", type=float, default=DEFAULT_TOLERANCE, help="of the best error (default 0.05: 5 %%)"
    )
    parser.add_argument(
        "--metrics", help=f"metrics in the tables, separated by commas (default: the first {DEFAULT_METRIC_COUNT})"
    )
    options = parser.parse_args()
    metrics = options.metrics.split(",") if options.metrics else None
    if not options.tolerance >= 0:
        raise UserError(f"--tolerance must be at least 0; got {options.tolerance}")
    try:
        write_report(
            options.name, html=options.html, explore=options.explore, tolerance=options.tolerance, metrics=metrics
        )
    except DvcException as error:
        raise UserError(f"dvc: {error}") from None


def write_report(
    name: str | None,
    baseline: str | None = None,
    only: Collection[str] | None = None,
    *,
    html: bool = False,
    explore: bool = False,
    tolerance: float = DEFAULT_TOLERANCE,
    metrics: Sequence[str] | None = None,
) -> None:
    """Write the report of a sweep and print its tables. Raises UserError if no experiment is finished.

    name, baseline, only: which experiments, see results.collect_results. explore: also a page for each run, and
    report.html with links to them.
    """
    results = collect_results(name, baseline, only)
    folder = REPORTS / results.name
    selected = _select_metrics(results, metrics)
    published_errors = _select_published_errors(results)
    notes = [f"Not included: {experiment} ({state})." for experiment, state in results.unfinished.items()]
    figures = ["error.png"]
    plots.save_error_plot(folder / "error.png", results, _load_pca(results), published_errors)
    estimates = _load_estimates(results)
    if estimates is not None:
        figures.append("dimensions.png")
        plots.save_dimension_plot(folder / "dimensions.png", results, estimates)
    if losses := _load_losses(results):
        figures.append("losses.png")
        plots.save_loss_plot(folder / "losses.png", results, losses)
    rows, picture_notes = pictures.collect(results)
    if rows:
        figures.append("pictures.png")
        image_grids.save_rows(folder / "pictures.png", rows)
    explorer_notes = explorers.write_pages(results.table["experiment"], folder) if explore else []
    choice = choose_latent_dim(results, tolerance)
    notes += picture_notes + explorer_notes + ([] if estimates is None else [render.describe_estimates(estimates)])
    report = Report(results, selected, choice, tolerance, published_errors, figures, notes)
    for file, table in (("runs.csv", results.table.drop(columns="test")), ("means.csv", compute_means(results))):
        files.write(folder / file, table.to_csv(index=False).encode())
    files.write(folder / "report.md", render.render_markdown(report).encode())
    if html or explore:
        files.write(folder / "report.html", render.render_page(report, folder, list_versions()).encode())
    print(f"\n{render.render_terminal(report)}")
    print(
        f"\n{folder}/: report.md, runs.csv, means.csv, {', '.join(figures)}{', report.html' if html or explore else ''}"
    )


def _select_metrics(results: SweepResults, wanted: Sequence[str] | None) -> list[str]:
    """The metrics of the tables. Raises UserError for one that the runs don't have."""
    for metric in wanted or ():
        if metric not in results.metrics:
            raise UserError(f"--metrics: unknown metric {metric}; known: {', '.join(results.metrics)}")
    first = [metric for metric in (ERROR_METRIC, DETECTION_METRIC) if metric in results.metrics]
    default = [*first, *(metric for metric in results.metrics if metric not in first)]
    return list(wanted or default[:DEFAULT_METRIC_COUNT])


def list_versions() -> dict[str, str]:
    """Python, the platform and the packages of our own list that can change results, as installed here."""
    from tools.verification.environment import stage_packages  # imports torch, which takes seconds

    lines = DIRECT_PACKAGES.read_text(encoding="utf-8").splitlines()
    names = [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9_.-]+(?===)", line))]
    relevant = stage_packages()
    versions = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    return versions | {name: importlib.metadata.version(name) for name in names if canonicalize_name(name) in relevant}


def _select_published_errors(results: SweepResults) -> Sequence[PublishedErrors]:
    """The published errors if the runs compare with them: latent_dim swept on the whole of MNIST, all classes."""
    datasets, classes = (
        set(results.table.get(key, pd.Series(dtype=object))) for key in ("download.dataset", "split.normal_classes")
    )
    comparable = results.axis == LATENT_DIM and datasets == {"mnist"} and classes == {"[]"}
    return published_errors.MNIST if comparable else ()


def _load_pca(results: SweepResults) -> pd.DataFrame | None:
    """PCA's test error by dimension; None if the runs have different ones."""
    tables = {_read_committed(commit, "plots/pca.csv") for commit in results.table["commit"]}
    text = tables.pop()
    return pd.read_csv(io.StringIO(text)) if text and not tables else None


def _load_estimates(results: SweepResults) -> pd.DataFrame | None:
    """The estimates of the dimension (plots/intrinsic.csv): columns latent_dim, estimate, value, a row for each run.

    None if the runs differ in anything but latent_dim and the seed, and if none has estimates.
    """
    if results.group_keys != [LATENT_DIM]:
        return None
    tables = []
    for latent_dim, commit in zip(results.table[LATENT_DIM], results.table["commit"], strict=True):
        if text := _read_committed(commit, "plots/intrinsic.csv"):
            tables.append(pd.read_csv(io.StringIO(text)).assign(latent_dim=latent_dim))
    table = pd.concat(tables) if tables else pd.DataFrame()
    return None if table.empty else table[[LATENT_DIM, "estimate", "value"]]


def _load_losses(results: SweepResults) -> dict[str, pd.DataFrame]:
    """{experiment: losses by epoch} of the runs that have them."""
    losses = {}
    for experiment, commit in zip(results.table["experiment"], results.table["commit"], strict=True):
        if text := _read_committed(commit, "plots/loss.csv"):
            losses[experiment] = pd.read_csv(io.StringIO(text))
    return {experiment: table for experiment, table in losses.items() if {"epoch", "valid"} <= set(table)}


def _read_committed(commit: str, path: str) -> str:
    """A file as git has it in a commit; empty if there is none."""
    try:
        return git("show", f"{commit}:{path}")
    except UserError:
        return ""


if __name__ == "__main__":
    run_main(main)
