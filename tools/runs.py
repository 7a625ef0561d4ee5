"""Experiments -> tables: the finished runs of a sweep, means over seeds, the smallest code that is good enough.

Only what is finished gets in: an experiment that git has and whose error is a number. Failed, queued and running
experiments and the workspace carry the metrics of the commit they started from, so none of them may pass.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from dvc.repo import Repo
from dvc.utils.flatten import flatten

from stages.autoencoder.errors import UserError
from tools.experiments import git

ERROR = "mse"  # the metric that is compared: mean squared error per pixel on the test images
SEED = "seed"  # runs that differ in it alone are repetitions
CODE = "latent_dim"
CHOOSING = "valid"  # the metric that chooses among seeds: validation error, never the test's
TEST = "data/split/test.safetensors"


@dataclass(frozen=True)
class Runs:
    """The finished runs of a sweep.

    table: a row for each: experiment, commit, test (hash of the test images), then `params` and `metrics` columns.
    unfinished: {experiment: state} of those left out.
    """

    name: str
    baseline: str
    table: pd.DataFrame
    params: list[str]
    metrics: list[str]
    unfinished: dict[str, str]

    @property
    def varied(self) -> list[str]:
        """The parameters that differ between runs, in the order of params.yaml."""
        return [key for key in self.params if self.table[key].nunique(dropna=False) > 1]

    @property
    def axis(self) -> str:
        """The parameter that a figure has along its axis: latent_dim, else a varied number, else what varies."""
        varied = [key for key in self.varied if key != SEED]
        numbers = [key for key in varied if is_number(self.table[key])]
        return next((key for key in (*[key for key in varied if key == CODE], *numbers, *varied)), CODE)

    @property
    def groups(self) -> list[str]:
        """The axis, then whatever else varies but the seed: runs alike in these are averaged."""
        return [self.axis, *(key for key in self.varied if key not in (self.axis, SEED))]


@dataclass(frozen=True)
class Choice:
    """The smallest latent_dim within a tolerance of the best; `best` and `chosen` are rows of the means."""

    best: Mapping[str, Any]
    chosen: Mapping[str, Any]
    experiment: str


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def collect(name: str | None = None, baseline: str | None = None, only: Collection[str] | None = None) -> Runs:
    """The runs of a sweep, or all experiments of HEAD: those of commit `baseline`, else of HEAD, else the newest.

    only: names of experiments; the others count as not there. Raises UserError where there are none.
    """
    found = [(commit, rev) for commit, rev, label in _members(name) if only is None or label in only]
    head = git("rev-parse", "HEAD").strip()
    commits = [commit for commit, _ in found]
    if baseline is None:
        baseline = head if head in commits or name is None or not commits else commits[0]
    members = {rev for commit, rev in found if commit == baseline}
    if not members:
        what = f"of sweep {name}" if name else "of this commit"
        raise UserError(f"no finished experiment {what}; python -m tools.sweep makes some")
    with Repo() as repo:
        states = [state.dumpd() for state in repo.experiments.show(revs=[baseline], hide_workspace=True)]
    runs = tabulate(name, baseline, states, members)
    if only is not None:
        runs = replace(runs, unfinished={label: state for label, state in runs.unfinished.items() if label in only})
    return runs


def _members(name: str | None) -> Iterable[tuple[str, str, str]]:
    """(commit it started from, own commit, name) of each experiment of the sweep in git, the newest first.

    tools.sweep writes `sweep NAME: ...` into the commit; others belong to it when their names begin with NAME-.
    """
    form = "%(refname)%00%(objectname)%00%(subject)"
    for line in git("for-each-ref", "--sort=-committerdate", f"--format={form}", "refs/exps").splitlines():
        reference, rev, subject = line.split("\0")
        parts = reference.split("/")  # refs/exps/ab/cdef.../name; the queue's own references are shorter
        if len(parts) != 5:
            continue
        sweep = subject.removeprefix("sweep ").partition(":")[0] if subject.startswith("sweep ") else None
        if name is None or sweep == name or (sweep is None and f"{parts[4]}-".startswith(f"{name}-")):
            yield parts[2] + parts[3], rev, parts[4]


def tabulate(name: str | None, baseline: str, states: Sequence[Mapping[str, Any]], members: Collection[str]) -> Runs:
    """The runs among `states`, which is what `dvc exp show --json` says of the commit `baseline`.

    members: commits of the experiments that belong to the sweep. Runs with the same parameters count once.
    """
    rows: list[dict[str, Any]] = []
    unfinished: dict[str, str] = {}
    params: dict[str, None] = {}  # in their order, as a set
    metrics: dict[str, None] = {}
    for experiment in (experiment for state in states for experiment in state.get("experiments") or []):
        tip = experiment["revs"][0]
        label = tip.get("name") or tip["rev"][:7]
        state = (experiment.get("executor") or {}).get("state") or "success"
        data = tip.get("data") or {}
        values = _metrics(data.get("metrics") or {})
        if state != "success":
            if name is None or label.startswith(f"{name}-"):
                unfinished[label] = state
        elif tip["rev"] in members and not _is_error(values.get(ERROR)):
            unfinished[label] = f"without {ERROR}"
        elif tip["rev"] in members:
            given = _params(data["params"])
            test = ((data.get("deps") or {}).get(TEST) or {}).get("hash")
            rows.append({"experiment": label, "commit": tip["rev"], "test": test, **given, **values})
            params |= dict.fromkeys(given)
            metrics |= dict.fromkeys(values)
    if not rows:
        raise UserError(f"no finished experiment of {name or baseline[:7]} with the metric {ERROR}")
    table = pd.DataFrame(rows).drop_duplicates(list(params))
    for label in table["experiment"]:
        unfinished.pop(label, None)  # failed once, then done
    numbers = [key for key in metrics if is_number(table[key])]
    runs = Runs(name or "experiments", baseline, table, list(params), numbers, unfinished)
    order = [*runs.groups, *([SEED] if SEED in params else [])]
    return replace(runs, table=table.sort_values(order, ignore_index=True))


def _is_error(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _params(files: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by dotted name; lists and null as text, so that they can be compared and sorted."""
    flat = {key: value for file in files.values() for key, value in flatten(file.get("data") or {}).items()}
    return {key: value if isinstance(value, int | float | str) else json.dumps(value) for key, value in flat.items()}


def _metrics(files: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics by name, those of the file with the error first; after their file's path where a name is taken."""
    found: dict[str, Any] = {}
    flat = {path: flatten(file.get("data") or {}) for path, file in files.items()}
    for path in sorted(flat, key=lambda path: ERROR not in flat[path]):
        for key, value in flat[path].items():
            found[f"{path}:{key}" if key in found else key] = value
    return found


def means(runs: Runs) -> pd.DataFrame:
    """A row for each combination but for the seed: the groups' columns, n, then METRIC and `METRIC sd`.

    sd: the standard deviation over seeds with n - 1 in the denominator; NaN where n is 1.
    """
    grouped = runs.table.groupby(runs.groups, dropna=False)
    columns = {"n": grouped.size()}
    for metric in runs.metrics:
        columns |= {metric: grouped[metric].mean(), f"{metric} sd": grouped[metric].std(ddof=1)}
    return pd.DataFrame(columns).reset_index()


def choose(runs: Runs, tolerance: float) -> Choice | None:
    """The smallest latent_dim whose mean error is at most (1 + tolerance) times the best; None where one was run.

    Of several rows with that latent_dim, the one with the least error; of its seeds, the one that validates best.
    """
    if CODE not in runs.varied:
        return None
    rows = means(runs).to_dict("records")
    best = min(rows, key=lambda row: row[ERROR])
    enough = [row for row in rows if row[ERROR] <= best[ERROR] * (1 + tolerance)]
    chosen = min(enough, key=lambda row: (row[CODE], row[ERROR]))
    alike = runs.table[(runs.table[runs.groups] == [chosen[key] for key in runs.groups]).all(axis=1)]
    run = alike.loc[alike[CHOOSING].idxmin()] if CHOOSING in runs.metrics else alike.iloc[0]
    return Choice(best, chosen, run["experiment"])
