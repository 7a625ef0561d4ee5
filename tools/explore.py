"""`python -m tools.explore [--rev EXPERIMENT] [--out FILE.html]`: makes one page to explore a trained model.

The page holds the model, its test images and their codes: point at dots of the map, move sliders, draw. It opens in a
browser from disk, runs the model itself and loads nothing. docs/explorer.md shows it. Numbers are computed with the
pinned numerics, so that the same experiment gives the same bytes.
"""

import math
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.workspace.arguments import ArgumentParser

if TYPE_CHECKING:
    from tools.exploration.experiment import Experiment

DEFAULT_NAME = Path("explorer.html")
MAX_RUNS = 500  # of a sweep in the chart


def main() -> None:
    from stages.runtime import numerics as _  # noqa: F401  first: pins threads and instruction set

    parser = ArgumentParser(prog="python -m tools.explore", description="Make a page to explore a trained model.")
    parser.add_argument("--rev", help="an experiment, tag or commit (default: what data/, metrics/ and plots/ hold)")
    parser.add_argument("--out", type=Path, default=DEFAULT_NAME, help=f"the page (default {DEFAULT_NAME})")
    parser.add_argument("--images", type=int, help="test images in it, at most (default: those of the maps)")
    options = parser.parse_args()
    if options.images is not None and options.images < 1:
        raise UserError(f"--images must be at least 1; got {options.images}")
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{options.out}: must end in .html; choose such a name")
    size = write_page(options.rev, options.out, options.images)
    print(f"{options.out}: {size / 1e6:.1f} MB; open it in a browser")


def write_page(rev: str | None, path: Path, max_images: int | None) -> int:
    """Write the page of a revision, or of the workspace if rev is None. Returns its size in bytes.

    max_images: as for experiment.load. Raises UserError if outputs are absent or do not belong together.
    """
    from tools.exploration import contents, experiment, page  # imports torch, after the pins
    from tools.workspace.revisions import copy_files

    with tempfile.TemporaryDirectory(prefix="explore-") if rev else nullcontext(".") as name:
        folder = Path(name)
        if rev:
            copy_files(rev, experiment.FILES, folder)
        held = experiment.load(folder, max_images)
        title = rev or f"{held.params.get('download.dataset')}, code of {held.model.latent_dim}"
        html = page.render(contents.build(held, title, find_neighbours(rev, held)))
    files.write(path, html)
    return len(html)


def find_neighbours(rev: str | None, held: "Experiment") -> dict[str, Any] | None:
    """The experiments that differ from this one in latent_dim and seed alone, for a chart; None if there are none.

    rev: of the experiment; None for the workspace, whose neighbours are the experiments of HEAD. Returns the sweep's
    name and, for each run, its name, latent_dim, mse and whether it is this experiment.
    """
    from dvc.exceptions import DvcException

    from tools.sweeps import results

    try:
        sweep, baseline = results.find_sweep(rev) if rev else (None, None)
        found = results.collect_results(sweep, baseline)
    except (UserError, DvcException):
        return None  # no git, no DVC or no experiments
    own = {key: results.to_comparable(value) for key, value in held.params.items()}
    fixed = [key for key in found.varied_keys if key not in (results.LATENT_DIM, *results.REPETITIONS)]
    runs = [
        {
            "name": run["experiment"],
            "latent_dim": int(run[results.LATENT_DIM]),
            "mse": float(run[results.ERROR_METRIC]),
            "own": all(run[key] == own.get(key) for key in found.varied_keys)
            and math.isclose(run[results.ERROR_METRIC], held.metrics["mse"], rel_tol=1e-6),
        }
        for run in found.table.to_dict("records")
        if all(run[key] == own.get(key) for key in fixed)
    ]
    if len({run["latent_dim"] for run in runs} | {held.model.latent_dim}) < 2:
        return None
    return {"name": found.name if sweep else "", "runs": runs[:MAX_RUNS]}


if __name__ == "__main__":
    run_main(main)
