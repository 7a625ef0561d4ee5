"""A sweep's report as one HTML file that can be mailed: figures inside, nothing asked from a network."""

import base64
import importlib.metadata
import platform
import re
from pathlib import Path

import jinja2

from tools import report_text, runs
from tools.experiments import git
from tools.report_text import Report

ROOT = Path(__file__).parents[1]
TEMPLATE = "report_page.html"


def page(report: Report, folder: Path) -> str:
    """The page; `folder` holds the report's pictures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = report.runs
    means = runs.means(found)
    return environment.get_template(TEMPLATE).render(
        report=report,
        runs=found,
        choice=report.choice,
        dataset=report_text.dataset(found),
        number=report_text.number,
        error=runs.ERROR,
        means=means.to_dict("records") if means["n"].max() > 1 else [],
        table=found.table.to_dict("records"),
        pictures=[(file, report_text.ALTERNATIVES[file], _inline(folder / file)) for file in report.files],
        constants=report_text.constants(found),
        versions=versions(),
        commit=git("show", "--no-patch", "--format=%H, %cs: %s", found.baseline).strip(),
    )


def versions() -> dict[str, str]:
    """Python and the packages of requirements.txt, as installed here."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9_.-]+(?===)", line))]
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
