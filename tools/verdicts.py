"""The committed results against those of a run: a verdict for each stage, from two texts of dvc.lock and metrics.

identical: every out has the committed hash, and dvc.lock fits the commit and itself. equivalent: an out has other
bytes, every metric is within a tolerance, and a difference of the environment may explain it. Else: different.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

IDENTICAL, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"
TOLERANCE = 0.05  # of the larger of two values of a metric; docs/reproducibility.md says what lies within it
Lock = Mapping[str, Mapping[str, Any]]  # the stages of a dvc.lock


@dataclass(frozen=True)
class Gap:
    """How far two values of a metric are apart, relative to the larger; infinity where one is missing."""

    name: str
    before: float | None
    now: float | None

    @property
    def size(self) -> float:
        if self.before is None or self.now is None:
            return math.inf
        return abs(self.before - self.now) / max(abs(self.before), abs(self.now), 1e-300)

    def __str__(self) -> str:
        share = f"{self.size:.2%}" if math.isfinite(self.size) else "in one of them only"
        return f"{self.name} {self.before} committed, {self.now} here ({share})"


@dataclass
class Stage:
    """What was found about one stage: outs with other bytes, and why its verdict may be no better."""

    name: str
    outs: list[str] = field(default_factory=list)  # those whose bytes differ
    faults: list[str] = field(default_factory=list)  # what makes it `different`, whatever the metrics say
    gap: Gap | None = None  # the largest among its metrics, or among those of the stages behind it
    verdict: str = IDENTICAL


def compare(committed: Lock, found: Lock, misfits: Mapping[str, Sequence[str]]) -> list[Stage]:
    """The stages in the order of `misfits`, with the outs that differ and the faults of dvc.lock itself.

    misfits: {stage: what of the commit is not as dvc.lock says}, for every stage, in the order of the pipeline.
    """
    makers = {out["path"]: out for entry in committed.values() for out in entry.get("outs", [])}
    stages = []
    for name, odd in misfits.items():
        stage = Stage(name, faults=list(odd))
        if name not in committed:
            stage.faults.append("dvc.lock does not have it")
        for dep in committed.get(name, {}).get("deps", []):
            made = makers.get(dep["path"])
            if made and _hash(made) != _hash(dep):
                stage.faults.append(f"dvc.lock has one hash for {dep['path']} here and another where it is made")
        before, now = (_hashes(lock.get(name, {})) for lock in (committed, found))
        stage.outs = [path for path in now | before if before.get(path) != now.get(path)]
        stages.append(stage)
    return stages


def origins(stages: Sequence[Stage], committed: Lock, found: Lock) -> list[str]:
    """Stages that made other outs out of the committed inputs: where a difference begins."""
    changed = {path for stage in stages for path in stage.outs}
    deps = {name: {dep["path"] for dep in entry.get("deps", [])} for name, entry in (committed | found).items()}
    return [stage.name for stage in stages if stage.outs and not deps.get(stage.name, set()) & changed]


def largest_gap(before: Mapping[str, float], now: Mapping[str, float]) -> Gap | None:
    """The metric that differs most between two sets {name: value}; None where all are equal."""
    gaps = [Gap(name, before.get(name), now.get(name)) for name in before | now if before.get(name) != now.get(name)]
    return max(gaps, key=lambda gap: gap.size, default=None)


def judge(stages: Sequence[Stage], gaps: Mapping[str, Gap | None], found: Lock, explained: Sequence[str]) -> None:
    """Set gap and verdict of every stage.

    gaps: of each stage with metrics. explained: names of outs whose difference the environment may explain.
    """
    for stage in stages:
        judges = [stage.name] if stage.name in gaps else _behind(stage.name, found)
        among = [gap for name in judges if (gap := gaps.get(name))]
        stage.gap = max(among, key=lambda gap: gap.size, default=None) if stage.outs else None
        if stage.gap and stage.gap.size > TOLERANCE:
            stage.faults.append(f"beyond the tolerance of {TOLERANCE:.0%}: {stage.gap}")
        elif unexplained := [out for out in stage.outs if out not in explained]:
            stage.faults.append(f"nothing in the environment explains {', '.join(unexplained)}")
        if stage.faults:
            stage.verdict = DIFFERENT
        elif stage.outs:
            stage.verdict = EQUIVALENT


def _behind(name: str, lock: Lock) -> list[str]:
    """The stages that read, directly or not, what a stage writes."""
    made = {out["path"] for out in lock.get(name, {}).get("outs", [])}
    readers = [other for other, entry in lock.items() if made & {dep["path"] for dep in entry.get("deps", [])}]
    return list(dict.fromkeys(stage for reader in readers for stage in (reader, *_behind(reader, lock))))


def _hash(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("md5"), entry.get("size")


def _hashes(entry: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {out["path"]: _hash(out) for out in entry.get("outs", [])}
