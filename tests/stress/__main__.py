"""`python -m tests.stress`: all stress tests, one after the other: fuzz, kills, losses of power, sweeps
on a disturbed cluster, emulation.

Tests that this machine cannot run are listed and skipped. The exit status is 1 if any other test fails.
"""

import subprocess
import sys

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tests.stress import cluster_kills, emulation, kills
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.stress", description="Run all stress tests, one after the other.")
    parser.add_argument("--cases", type=int, default=3000, help="bad inputs of each kind (default: 3000)")
    parser.add_argument(
        "--kills",
        type=int,
        default=18,
        help="killed runs, of dvc repro and of tools.model each (default: 18)",
    )
    parser.add_argument("--power", type=int, default=5, help="losses of power (default: 5)")
    parser.add_argument("--cluster", type=int, default=5, help="disturbed sweeps on a cluster (default: 5)")
    options = parser.parse_args()
    for name, value in vars(options).items():
        if value < 1:
            raise UserError(f"stress: --{name} must be at least 1; got {value}")
    obstacles = {  # {test: what keeps this machine from running it}
        f"fuzz --cases {options.cases}": None,
        f"kills --trials {options.kills}": None,
        f"model_kills --trials {options.kills}": None,
        f"kills --power --trials {options.power}": kills.find_power_obstacle(),
        f"cluster_kills --trials {options.cluster}": cluster_kills.find_obstacle(),
        "emulation": emulation.find_obstacle(),
    }
    failed = []
    for test, obstacle in obstacles.items():
        if obstacle:
            print(f"== {test}: skipped; {obstacle}", flush=True)
            continue
        print(f"== {test}", flush=True)
        module, *arguments = test.split()
        command = [sys.executable, "-m", f"tests.stress.{module}", *arguments]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(test)
    if failed:
        raise UserError(f"stress: {len(failed)} of {len(obstacles)} tests failed: {'; '.join(failed)}; see above")
    passed = sum(obstacle is None for obstacle in obstacles.values())
    print(f"== {passed} of {len(obstacles)} tests passed, {len(obstacles) - passed} skipped")


if __name__ == "__main__":
    run_main(main)
