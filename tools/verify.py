"""`python -m tools.verify`: checks that this commit, run anew, gives the results that are committed with it.

Clones the commit into a temporary folder, runs the whole pipeline there without any cache, and compares every out
with dvc.lock by hash and every metric by value. Prints a verdict for each stage: identical, equivalent or different
(tools/verification/verdicts.py). Exit status 0 for identical, 0 with a notice for equivalent, 1 for different; with
--strict, 0 only for identical. --record writes environment.json instead: what the results were computed with.
"""

import sys
import tempfile
from pathlib import Path

from stages.runtime.command import run_main
from tools.verification import environment, verdicts
from tools.verification.clone import Clone
from tools.verification.environment import ENVIRONMENT_FILE
from tools.verification.verdicts import DIFFERENT, EQUIVALENT, StageResult
from tools.workspace.arguments import ArgumentParser


def main() -> None:
    """Print the verdicts and exit with the status that they call for."""
    parser = ArgumentParser(
        prog="python -m tools.verify", description="Check that rerunning this commit gives its committed results."
    )
    parser.add_argument("--strict", action="store_true", help="accept only identical bytes")
    parser.add_argument(
        "--record", action="store_true", help=f"write {ENVIRONMENT_FILE} for the dvc.lock in this folder and stop"
    )
    options = parser.parse_args()
    if options.record:
        environment.write()
        return
    with tempfile.TemporaryDirectory(prefix="verify-") as place:
        results, notes = verify(Path(place))
    for result in results:
        print(describe(result))
    print("\n".join(notes))
    first = {result.verdict: result.name for result in reversed(results)}
    if DIFFERENT in first:
        sys.exit(f"verify: different, first in {first[DIFFERENT]}")
    if EQUIVALENT in first:
        tolerance = f"{verdicts.TOLERANCE:.0%}"
        print(f"verify: equivalent, not identical, first in {first[EQUIVALENT]}; metrics within {tolerance}")
        if options.strict:
            sys.exit("verify: --strict accepts only identical bytes")
        return
    print("verify: identical")


def verify(place: Path) -> tuple[list[StageResult], list[str]]:
    """Run HEAD in a clone in the empty folder `place`: the results with their verdicts, and notes to be printed.

    Raises UserError where there is nothing to verify or where the pipeline fails in the clone.
    """
    clone = Clone(place)
    committed, committed_metrics = clone.lock(), clone.metrics()
    mismatches = clone.lock_mismatches()
    clone.reproduce()
    reproduced, metrics = clone.lock(), clone.metrics()

    results = verdicts.compare_locks(committed, reproduced, mismatches)
    differing = [out for result in results for out in result.differing_outs]
    pictures = [out for out in differing if clone.differs_only_in_pictures(out)]
    first_differing = verdicts.first_differing_stages(results, committed, reproduced)
    for result in results:
        if result.name in first_differing and (outs := clone.nondeterministic_outs(result.name)):
            result.faults.append(f"not deterministic: two runs gave different bytes for {', '.join(outs)}")

    explanations, notes = clone.environment_differences()
    if any(not text.endswith("pictures") for text in explanations):
        explained = differing
    else:
        explained = pictures if explanations else []
    largest = {name: verdicts.largest_difference(committed_metrics[name], metrics[name]) for name in committed_metrics}
    verdicts.set_verdicts(results, largest, reproduced, explained)
    if explanations:
        notes += [f"environment: {text}" for text in explanations]
    elif not notes:
        notes = [f"environment: as in {ENVIRONMENT_FILE}"]
    return results, notes


def describe(result: StageResult) -> str:
    """A line with the stage's verdict, then a line for each thing to say about it."""
    lines = [f"{result.name:<12} {result.verdict}"]
    if result.differing_outs:
        lines[0] += f": {', '.join(result.differing_outs)}"
        largest = result.largest_difference
        lines.append(f"largest difference of a metric: {largest}" if largest else "all metrics are equal")
    return "\n    ".join([*lines, *result.faults])


if __name__ == "__main__":
    run_main(main)
