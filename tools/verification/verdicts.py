"""The verdict on each stage, from two versions of dvc.lock and of the metrics: the committed one and a new run's.

identical: every out has the committed hash, and dvc.lock agrees with the commit and with itself. equivalent: an
out has other bytes, every metric is within a tolerance, and a difference of the environment may explain it.
different: everything else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

IDENTICAL, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"
TOLERANCE = 0.05  # of the larger of two values of a metric; docs/reproducibility.md says what lies within it
Lock = Mapping[str, Mapping[str, Any]]  # the stages of a dvc.lock


@dataclass(frozen=True)
class MetricDifference:
    """How far two values of a metric are apart, relative to the larger; infinity where one is missing."""

    metric: str
    committed: float | None
    reproduced: float | None

    @property
    def size(self) -> float:
        if self.committed is None or self.reproduced is None:
            return math.inf
        largest = max(abs(self.committed), abs(self.reproduced), 1e-300)
        return abs(self.committed - self.reproduced) / largest

    def __str__(self) -> str:
        share = f"{self.size:.2%}" if math.isfinite(self.size) else "in one of them only"
        return f"{self.metric} {self.committed} committed, {self.reproduced} here ({share})"


@dataclass
class StageResult:
    """One stage of the new run, compared with the commit."""

    name: str
    differing_outs: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # each makes the stage `different`, whatever the metrics say
    # the largest of its own metrics, or else of the metrics of the stages downstream
    largest_difference: MetricDifference | None = None
    verdict: str = IDENTICAL


def compare_locks(committed: Lock, reproduced: Lock, mismatches: Mapping[str, Sequence[str]]) -> list[StageResult]:
    """One result for each stage, with the outs that differ and the faults of dvc.lock itself; no verdicts yet.

    mismatches: {stage: where the commit disagrees with its own dvc.lock} for every stage, in the order of the
    pipeline, which is the order of the results.
    """
    outs = {out["path"]: out for entry in committed.values() for out in entry.get("outs", [])}
    results = []
    for name, faults in mismatches.items():
        result = StageResult(name, faults=list(faults))
        if name not in committed:
            result.faults.append("dvc.lock lacks this stage")
        for dep in committed.get(name, {}).get("deps", []):
            out = outs.get(dep["path"])
            if out and _hash(out) != _hash(dep):
                result.faults.append(f"dvc.lock has two hashes for {dep['path']}: as a dep here, and as an out")
        before, after = (_out_hashes(lock.get(name, {})) for lock in (committed, reproduced))
        result.differing_outs = [path for path in after | before if before.get(path) != after.get(path)]
        results.append(result)
    return results


def first_differing_stages(results: Sequence[StageResult], committed: Lock, reproduced: Lock) -> list[str]:
    """The stages where a difference begins: they made other outs from the committed inputs."""
    differing = {path for result in results for path in result.differing_outs}
    stages = {**committed, **reproduced}
    deps = {name: {dep["path"] for dep in entry.get("deps", [])} for name, entry in stages.items()}
    return [result.name for result in results if result.differing_outs and not deps.get(result.name, set()) & differing]


def largest_difference(committed: Mapping[str, float], reproduced: Mapping[str, float]) -> MetricDifference | None:
    """The metric that differs most between two sets {metric: value}; None where all are equal."""
    differences = [
        MetricDifference(metric, committed.get(metric), reproduced.get(metric))
        for metric in {**committed, **reproduced}
        if committed.get(metric) != reproduced.get(metric)
    ]
    return max(differences, key=lambda difference: difference.size, default=None)


def set_verdicts(
    results: Sequence[StageResult],
    differences: Mapping[str, MetricDifference | None],
    reproduced: Lock,
    explained_outs: Sequence[str],
) -> None:
    """Set the verdict and the largest difference of every result.

    differences: the largest one of each stage that has metrics. explained_outs: outs whose difference the
    environment may explain.
    """
    for result in results:
        measured = [result.name] if result.name in differences else _downstream(result.name, reproduced)
        candidates = [difference for name in measured if (difference := differences.get(name))]
        largest = max(candidates, key=lambda difference: difference.size, default=None)
        result.largest_difference = largest if result.differing_outs else None
        unexplained = [out for out in result.differing_outs if out not in explained_outs]
        if result.largest_difference and result.largest_difference.size > TOLERANCE:
            result.faults.append(f"beyond the tolerance of {TOLERANCE:.0%}: {result.largest_difference}")
        elif unexplained:
            result.faults.append(f"nothing in the environment explains {', '.join(unexplained)}")
        if result.faults:
            result.verdict = DIFFERENT
        elif result.differing_outs:
            result.verdict = EQUIVALENT


def _downstream(name: str, lock: Lock) -> list[str]:
    """The stages that read, directly or not, what a stage writes."""
    outs = {out["path"] for out in lock.get(name, {}).get("outs", [])}
    readers = [other for other, entry in lock.items() if outs & {dep["path"] for dep in entry.get("deps", [])}]
    return list(dict.fromkeys(stage for reader in readers for stage in (reader, *_downstream(reader, lock))))


def _hash(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("md5"), entry.get("size")


def _out_hashes(entry: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {out["path"]: _hash(out) for out in entry.get("outs", [])}
