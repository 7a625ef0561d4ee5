"""The commit HEAD in a clone of its own, where DVC sees no cache, no remote and no setting from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dvc.utils.flatten import flatten

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.base.loader import read_yaml
from tools.verification import environment
from tools.verification.environment import ENVIRONMENT_FILE, LOCK_FILE
from tools.workspace.commands import git, run, worker_environment
from tools.workspace.pipeline_file import stage_names

PIPELINE_FILE = Path("dvc.yaml")
DOWNLOADS = Path("data/downloads")  # published files, which the stage `download` checks by their MD5
LOG_TAIL = 5  # lines shown of a pipeline that failed


class Clone:
    """A clone of the commit HEAD in the folder `place`, which must be empty.

    Raises UserError where the commit has no dvc.lock.
    """

    def __init__(self, place: Path) -> None:
        self.folder = place / "clone"
        commit = git("rev-parse", "HEAD").strip()
        if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
            print(f"verify: takes the commit, not the changes in {len(changed)} files", file=sys.stderr)
        git("clone", "--quiet", "--no-checkout", str(Path.cwd()), str(self.folder))
        git("checkout", "--quiet", "--detach", commit, cwd=self.folder)
        if not (self.folder / LOCK_FILE).exists():
            raise UserError(f"verify: {LOCK_FILE} must be in the commit; not found; dvc repro, then commit it")
        if DOWNLOADS.exists():
            (self.folder / DOWNLOADS).parent.mkdir(exist_ok=True)
            (self.folder / DOWNLOADS).symlink_to(DOWNLOADS.resolve())
        empty = {f"DVC_{name}": str(place / name) for name in ("SYSTEM_CONFIG_DIR", "GLOBAL_CONFIG_DIR")}
        self._variables = {**worker_environment(), **empty, "DVC_SITE_CACHE_DIR": str(place / "site")}
        print(f"verify: commit {commit[:7]}, in a clone without cache", flush=True)

    def lock(self) -> dict[str, Any]:
        """The stages in the clone's dvc.lock as it is now."""
        return read_yaml(self.folder / LOCK_FILE).get("stages") or {}

    def lock_mismatches(self) -> dict[str, list[str]]:
        """{stage: where the commit disagrees with its dvc.lock}: code, params, commands, and outs that git has."""
        status = json.loads(self._dvc("status", "--json"))
        mismatches: dict[str, list[str]] = {name: [] for name in stage_names(self.folder)}
        for name, changes in status.items():
            for change in changes:
                if isinstance(change, str):  # "changed command"
                    mismatches[name].append(f"{change}: dvc.lock has another")
                    continue
                for kind, entries in change.items():
                    if changed := list(_changed_names(entries)):
                        what = kind.removeprefix("changed ")
                        mismatches[name].append(f"{what} not as in dvc.lock: {', '.join(changed)}")
        return mismatches

    def metrics(self) -> dict[str, dict[str, float]]:
        """{stage: {metric: value}} of the stages that have metrics, as the files are now."""
        metrics: dict[str, dict[str, float]] = {}
        for name, stage in self._pipeline().items():
            for entry in stage.get("metrics", []):
                path = self.folder / (entry if isinstance(entry, str) else next(iter(entry)))
                metrics.setdefault(name, {}).update(_numeric_values(path))
        return metrics

    def reproduce(self) -> None:
        """Run every stage. Prints the end of the log and raises UserError where one fails."""
        log: list[str] = []
        with subprocess.Popen(
            ["dvc", "repro", "--force", "--no-run-cache"],
            cwd=self.folder,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                log.append(line.rstrip())
                if line.startswith("Running stage"):
                    print(f"verify: {line[:1].lower()}{line[1:].rstrip(':' + os.linesep)}", file=sys.stderr, flush=True)
        if process.returncode:
            print("\n".join(log[-LOG_TAIL:]), file=sys.stderr)
            stage = next((line.split("'")[1] for line in reversed(log) if line.startswith("Running stage")), "none")
            raise UserError(f"verify: different, first in {stage}: it fails in the clone")

    def nondeterministic_outs(self, stage: str) -> list[str]:
        """The outs of a stage that get other bytes when it runs once more on the same inputs."""
        before = self._out_hashes(stage)
        self._dvc("repro", "--force", "--no-run-cache", "--single-item", stage)
        after = self._out_hashes(stage)
        return [path for path in after if after[path] != before.get(path)]

    def differs_only_in_pictures(self, out: str) -> bool:
        """Whether an out is a picture, or a folder in which nothing but pictures may differ from the commit."""
        path = self.folder / out
        if not path.is_dir():
            return path.suffix == ".png"
        tracked = git("ls-files", "--", out, cwd=self.folder)
        changed = git("diff", "--name-only", "HEAD", "--", out, cwd=self.folder).split() if tracked else ()
        return all(Path(name).suffix == ".png" for name in changed or map(str, path.iterdir()))

    def environment_differences(self) -> tuple[list[str], list[str]]:
        """How this environment differs from the recorded one, and notes about the record itself."""
        try:
            recorded = environment.parse((self.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return [f"the commit has no readable {ENVIRONMENT_FILE}, so its environment may explain anything"], []
        committed_lock = git("show", f"HEAD:{LOCK_FILE}", cwd=self.folder).encode()
        stale = recorded.get(LOCK_FILE.name) != environment.lock_md5(committed_lock)
        notes = [f"environment: {ENVIRONMENT_FILE} was recorded for another {LOCK_FILE}"] if stale else []
        return list(environment.differences(recorded, environment.current(self.folder)).values()), notes

    def _pipeline(self) -> dict[str, Any]:
        """The stages in dvc.yaml."""
        stages: dict[str, Any] = read_yaml(self.folder / PIPELINE_FILE)["stages"]
        return stages

    def _out_hashes(self, stage: str) -> dict[str, str]:
        return {out["path"]: out["md5"] for out in self.lock()[stage].get("outs", [])}

    def _dvc(self, *arguments: str) -> str:
        return run(["dvc", *arguments], cwd=self.folder, env=self._variables)


def _numeric_values(path: Path) -> dict[str, float]:
    """{name: number} in a metrics file; none where it is absent or no JSON, which its hash gives away."""
    try:
        values = flatten(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _changed_names(entries: Mapping[str, Any]) -> Iterable[str]:
    """Names in `dvc status` that are not as dvc.lock says. Data that a fresh clone lacks don't count."""
    for name, state in entries.items():
        if isinstance(state, Mapping):  # a file of params: its keys
            yield from (f"{name} {key}" for key in state)
        elif state not in ("deleted", "not in cache"):
            yield name
