"""`python -m tests.stress`: the long versions one after the other: fuzz, kills, losses of power, emulation.

What this machine cannot do is named and left out. Exit status 1 where one of the others failed.
"""

import argparse
import subprocess
import sys

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run
from tests.stress import emulation, kills
from tools.workspace.copies import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress", description="All stress tests, one after the other."
    )
    parser.add_argument("--cases", type=int, default=3000, help="bad inputs of each kind")
    parser.add_argument("--kills", type=int, default=18, help="of dvc repro; nine are one of each signal and victim")
    parser.add_argument("--power", type=int, default=5, help="losses of power")
    options = parser.parse_args()
    runs = [
        (f"fuzz --cases {options.cases}", None),
        (f"kills --trials {options.kills}", None),
        (f"kills --power --trials {options.power}", kills.find_power_obstacle()),
        ("emulation", emulation.find_obstacle()),
    ]
    failed = []
    for arguments, obstacle in runs:
        if obstacle:
            print(f"== {arguments}: left out; {obstacle}", flush=True)
            continue
        print(f"== {arguments}", flush=True)
        module, *rest = arguments.split()
        if subprocess.run([sys.executable, "-m", f"tests.stress.{module}", *rest], cwd=ROOT, check=False).returncode:
            failed.append(arguments)
    if failed:
        raise UserError(f"stress: {len(failed)} of {len(runs)} failed: {'; '.join(failed)}; see above")
    print(f"== {sum(obstacle is None for _, obstacle in runs)} of {len(runs)} ran, none failed")


if __name__ == "__main__":
    run(main)
