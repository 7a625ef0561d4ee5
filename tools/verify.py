"""`python -m tools.verify`: does this commit, run anew, give the results that are committed with it?

Clones the commit into a temporary folder, runs the whole pipeline there without any cache, and compares every out
with dvc.lock by hash and every metric by value. A verdict for each stage: identical, equivalent or different
(tools/verdicts.py). Exit status 0 for identical, 0 with a notice for equivalent, 1 for different; with --strict 0
for identical alone. --record writes environment.json instead: what the results were computed with.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dvc.utils.flatten import flatten

from stages.autoencoder.errors import UserError, run
from stages.autoencoder.params.reading import read_yaml
from tools import experiments, record, verdicts
from tools.experiments import git
from tools.verdicts import DIFFERENT, EQUIVALENT, Stage

DOWNLOADS = Path("data/downloads")  # published files, which the stage `download` checks by their MD5
SAID = 5  # lines of a failed pipeline that are shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description="Does a clone give the same bytes?")
    parser.add_argument("--strict", action="store_true", help="accept identical bytes alone")
    parser.add_argument("--record", action="store_true", help=f"write {record.RECORD} for the dvc.lock that is there")
    options = parser.parse_args()
    if options.record:
        record.write()
        return
    with tempfile.TemporaryDirectory(prefix="verify-") as place:
        stages, notes = verify(Path(place))
    for stage in stages:
        print(describe(stage))
    print("\n".join(notes))
    worst = {stage.verdict for stage in stages}
    if DIFFERENT in worst:
        first = next(stage.name for stage in stages if stage.verdict == DIFFERENT)
        sys.exit(f"verify: different, first in {first}")
    if EQUIVALENT in worst:
        first = next(stage.name for stage in stages if stage.verdict == EQUIVALENT)
        print(f"verify: equivalent, not identical, first in {first}; metrics within {verdicts.TOLERANCE:.0%}")
        if options.strict:
            sys.exit("verify: --strict accepts identical bytes alone")
        return
    print("verify: identical")


def verify(place: Path) -> tuple[list[Stage], list[str]]:
    """Run HEAD in a clone in an empty folder; the stages with their verdicts, and what is to be said beside them.

    Raises UserError where there is nothing to verify or where the pipeline fails in the clone.
    """
    clone = Clone(place)
    committed = clone.lock()
    order = list(read_yaml(clone.folder / "dvc.yaml")["stages"])
    misfits = clone.misfits(order)
    before = clone.metrics(order)
    clone.reproduce()
    found, now = clone.lock(), clone.metrics(order)
    stages = verdicts.compare(committed, found, misfits)
    pictures = [out for stage in stages for out in stage.outs if clone.only_pictures(out)]

    origins = verdicts.origins(stages, committed, found)
    for stage in stages:
        if stage.name in origins and (varying := clone.varying(stage.name)):
            stage.faults.append(f"other bytes in each run: {', '.join(varying)}")

    environment, notes = clone.environment()
    numbers = any(not text.endswith("pictures") for text in environment)
    explained = [out for stage in stages for out in stage.outs] if numbers else pictures if environment else []
    gaps = {name: verdicts.largest_gap(before[name], now[name]) for name in before}
    verdicts.judge(stages, gaps, found, explained)
    if environment:
        notes += [f"environment: {text}" for text in environment]
    elif not notes:
        notes = [f"environment: as in {record.RECORD}"]
    return stages, notes


def describe(stage: Stage) -> str:
    """One line for each stage, and one for each thing that is to be said about it."""
    lines = [f"{stage.name:<12} {stage.verdict}"]
    if stage.outs:
        lines[0] += f": {', '.join(stage.outs)}"
        lines.append(f"largest difference of a metric: {stage.gap}" if stage.gap else "all metrics are equal")
    return "\n    ".join([*lines, *stage.faults])


class Clone:
    """The commit HEAD in a folder of its own, where DVC sees no cache, remote or setting from outside."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "clone"
        commit = git("rev-parse", "HEAD").strip()
        if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
            print(f"verify: takes the commit; changes in {len(changed)} files are not in it", file=sys.stderr)
        git("clone", "--quiet", "--no-checkout", str(Path.cwd()), str(self.folder))
        git("-C", str(self.folder), "checkout", "--quiet", "--detach", commit)
        if not (self.folder / record.LOCK).exists():
            raise UserError(f"verify: {record.LOCK} must be in the commit; not found; dvc repro, then commit it")
        if DOWNLOADS.exists():
            (self.folder / DOWNLOADS).parent.mkdir(exist_ok=True)
            (self.folder / DOWNLOADS).symlink_to(DOWNLOADS.resolve())
        empty = {f"DVC_{name}": str(place / name) for name in ("SYSTEM_CONFIG_DIR", "GLOBAL_CONFIG_DIR")}
        self._environment = {**experiments.environment(), **empty, "DVC_SITE_CACHE_DIR": str(place / "site")}
        print(f"verify: commit {commit[:7]}, in a clone without cache", flush=True)

    def lock(self) -> dict[str, Any]:
        """The stages in the clone's dvc.lock as it is now."""
        return read_yaml(self.folder / record.LOCK).get("stages") or {}

    def misfits(self, order: Iterable[str]) -> dict[str, list[str]]:
        """{stage: what of the commit is not as dvc.lock says}: code, params, commands, and outs that git has."""
        status = json.loads(self._dvc("status", "--json"))
        found: dict[str, list[str]] = {name: [] for name in order}
        for name, changes in status.items():
            for change in changes:
                if isinstance(change, str):  # "changed command"
                    found[name].append(f"{change}: dvc.lock has another")
                    continue
                for kind, entries in change.items():
                    changed = list(_changed(entries))
                    if changed:
                        what = kind.removeprefix("changed ")
                        found[name].append(f"{what} not as in dvc.lock: {', '.join(changed)}")
        return found

    def metrics(self, order: Iterable[str]) -> dict[str, dict[str, float]]:
        """{stage: {metric: value}} of the stages that have metrics, as the files are now."""
        pipeline = read_yaml(self.folder / "dvc.yaml")["stages"]
        found: dict[str, dict[str, float]] = {}
        for name in order:
            for entry in pipeline[name].get("metrics", []):
                path = self.folder / (entry if isinstance(entry, str) else next(iter(entry)))
                found.setdefault(name, {}).update(_numbers(path))
        return found

    def reproduce(self) -> None:
        """Run every stage. Raises UserError with the end of its log where one fails."""
        said: list[str] = []
        command = ["dvc", "repro", "--force", "--no-run-cache"]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                said.append(line.rstrip())
                if line.startswith("Running stage"):
                    print(f"verify: {line[:1].lower()}{line[1:].rstrip(':' + os.linesep)}", file=sys.stderr, flush=True)
        if process.returncode:
            print("\n".join(said[-SAID:]), file=sys.stderr)
            stage = next((line.split("'")[1] for line in reversed(said) if line.startswith("Running stage")), "none")
            raise UserError(f"verify: different, first in {stage}: it fails in the clone")

    def varying(self, stage: str) -> list[str]:
        """Outs of a stage that have other bytes when it runs once more on the same inputs."""
        before = self._outs(stage)
        self._dvc("repro", "--force", "--no-run-cache", "--single-item", stage)
        now = self._outs(stage)
        return [path for path in now if now[path] != before.get(path)]

    def only_pictures(self, out: str) -> bool:
        """Whether an out is a picture, or a folder in which nothing but pictures may differ from the commit."""
        path = self.folder / out
        if not path.is_dir():
            return path.suffix == ".png"
        tracked = git("-C", str(self.folder), "ls-files", "--", out)
        differ = git("-C", str(self.folder), "diff", "--name-only", "HEAD", "--", out).split() if tracked else ()
        return all(Path(name).suffix == ".png" for name in differ or map(str, path.iterdir()))

    def environment(self) -> tuple[list[str], list[str]]:
        """How the environment differs from the recorded one, and what is odd about the record."""
        try:
            recorded = record.read((self.folder / record.RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            unknown = f"no readable {record.RECORD} in the commit: that of the results is unknown and may explain all"
            return [unknown], []
        content = git("-C", str(self.folder), "show", f"HEAD:{record.LOCK}").encode()
        stale = recorded.get(record.LOCK.name) != record.lock_mark(content)
        notes = [f"environment: {record.RECORD} was recorded for another {record.LOCK}"] if stale else []
        return list(record.differences(recorded, record.current()).values()), notes

    def _outs(self, stage: str) -> dict[str, Any]:
        return {out["path"]: out["md5"] for out in self.lock()[stage].get("outs", [])}

    def _dvc(self, *arguments: str) -> str:
        done = subprocess.run(
            ["dvc", *arguments], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise UserError(f"dvc {arguments[0]}: {complaint[-1]}")
        return done.stdout


def _numbers(path: Path) -> dict[str, float]:
    """The numbers in a metrics file by name; none in a file that is absent or no JSON, which its hash betrays."""
    try:
        values = flatten(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _changed(entries: Mapping[str, Any]) -> Iterable[str]:
    """Names in `dvc status` that are there and not as dvc.lock says; data that a fresh clone lacks are no matter."""
    for name, state in entries.items():
        if isinstance(state, Mapping):  # a file of params: its keys
            yield from (f"{name} {key}" for key in state)
        elif state not in ("deleted", "not in cache"):
            yield name


if __name__ == "__main__":
    run(main)
