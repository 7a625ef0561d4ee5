"""`python -m tools.cost`: what `numerics: portable` costs in time against `fast`, for mlp and conv.

Trains the two default networks on the default dataset for a few epochs, portable and fast in turn, round after
round, each in a process of its own, and prints the median seconds and their ratio. For an idle machine alone.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.autoencoder.errors import UserError, run
from tools import ENVIRONMENT
from tools.emulate import lay_out

NUMERICS = ("portable", "fast")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.cost", description="portable against fast, in seconds.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    if min(options.rounds, options.epochs) < 1:
        raise UserError("cost: --rounds and --epochs must be at least 1; got 0 or less")
    with tempfile.TemporaryDirectory() as place:
        for architecture in ("mlp", "conv"):
            folders = {name: Path(place, f"{architecture}-{name}") for name in NUMERICS}
            for name, folder in folders.items():
                train = {"architecture": architecture, "epochs": options.epochs}
                lay_out(folder, {"numerics": name, "train": train})
            rounds = [{name: seconds(folder) for name, folder in folders.items()} for _ in range(options.rounds)]
            portable, fast = (statistics.median(taken[name] for taken in rounds) for name in NUMERICS)
            ratios = [taken["portable"] / taken["fast"] for taken in rounds]
            print(
                f"{architecture}: portable {portable:.2f} s, fast {fast:.2f} s, medians of {options.rounds};"
                f" ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}",
                flush=True,
            )


def seconds(folder: Path) -> float:
    """How long the training in a folder takes, without the start of Python, as its log says."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    if found := re.search(r"^train: ([\d.]+) s", done.stderr, re.MULTILINE):
        return float(found[1])
    raise UserError(f"cost: stages.train failed; {(done.stderr.strip().splitlines() or ['no log'])[-1]}")


if __name__ == "__main__":
    run(main)
