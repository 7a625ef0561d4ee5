"""A page of tools.explore for each run of a sweep, beside the sweep's report, which links to them."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from stages.autoencoder.core.errors import UserError
from tools.workspace import commands
from tools.workspace.copies import ROOT

FOLDER = "explorers"  # below that of the report


def write_pages(experiments: Iterable[str], report: Path) -> list[str]:
    """Make a page for each experiment. Returns a note for each one that could not be made.

    Each in a process of its own, which pins its numerics.
    """
    notes = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for experiment in tqdm(list(experiments), unit="page", disable=not sys.stderr.isatty()):
        command = [
            sys.executable,
            "-m",
            "tools.explore",
            "--rev",
            experiment,
            "--out",
            str(find_page(experiment, report)),
        ]
        try:
            commands.run(command, env=environment, place="explore")
        except UserError as error:
            notes.append(f"No explorer of {experiment}: {str(error).removeprefix('explore: ')}.")
    return notes


def find_page(experiment: str, report: Path) -> Path:
    """Where the page of an experiment is, if one was made."""
    return report / FOLDER / f"{experiment}.html"


def list_links(experiments: Iterable[str], report: Path) -> dict[str, str]:
    """{experiment: address from the report} of the pages that exist."""
    return {name: f"{FOLDER}/{quote(name)}.html" for name in experiments if find_page(name, report).is_file()}
