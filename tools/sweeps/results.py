"""Experiments -> tables: the finished experiments of a sweep, means of repetitions, the smallest sufficient latent_dim.

Only finished experiments count: those that git has and whose error is a number. Failed, queued and running ones
and the workspace carry the metrics of the commit that they started from, so they are left out.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from dvc.repo import Repo
from dvc.utils.flatten import flatten

from stages.autoencoder.core.errors import UserError
from tools.workspace.commands import git

LATENT_DIM = "latent_dim"
SEED, NORMAL_CLASSES = "seed", "split.normal_classes"
REPETITIONS = {SEED: "seeds", NORMAL_CLASSES: "normal classes"}  # runs that differ in nothing else are averaged
ERROR_METRIC = "mse"  # what is compared: mean squared error per pixel on the test images
DETECTION_METRIC = "auroc"  # what is compared beside it where anomalies are looked for
SELECTION_METRIC = "valid"  # what chooses among seeds: the validation error, never the test error
TEST_FILE = "data/split/test.safetensors"


@dataclass(frozen=True)
class SweepResults:
    """The finished experiments of a sweep, called runs in the report.

    baseline: the commit that they started from.
    table: a row each, with the columns experiment, commit, test (hash of the test images), `params`, `metrics`.
    unfinished: {experiment: state} of those that are left out.
    """

    name: str
    baseline: str
    table: pd.DataFrame
    params: list[str]
    metrics: list[str]
    unfinished: dict[str, str]

    @property
    def varied_keys(self) -> list[str]:
        """The parameters that differ between runs, in the order of params.yaml."""
        return [key for key in self.params if self.table[key].nunique(dropna=False) > 1]

    @property
    def axis(self) -> str:
        """The parameter on the x axis: latent_dim if it varies, else the first number that does, else the first key."""
        varied = [key for key in self.varied_keys if key not in REPETITIONS]
        latent_dim = [key for key in varied if key == LATENT_DIM]
        numbers = [key for key in varied if is_numeric(self.table[key])]
        return next(iter((*latent_dim, *numbers, *varied)), LATENT_DIM)

    @property
    def group_keys(self) -> list[str]:
        """The axis and all other varied parameters but those of repetitions: runs that agree in these are averaged."""
        return [self.axis, *(key for key in self.varied_keys if key not in (self.axis, *REPETITIONS))]

    @property
    def repeated(self) -> str:
        """What the means are over, such as `seeds`."""
        return " and ".join(name for key, name in REPETITIONS.items() if key in self.varied_keys) or "runs"

    @property
    def key_columns(self) -> list[str]:
        """The parameters that tell the runs apart in a table: the varied ones, or the axis if none varies."""
        return self.varied_keys or [self.axis]


@dataclass(frozen=True)
class Choice:
    """The smallest latent_dim within a tolerance of the best.

    best, chosen: rows of the table of means. experiment: the run of `chosen` with the least validation error.
    largest: the largest latent_dim that was run.
    """

    best: Mapping[str, Any]
    chosen: Mapping[str, Any]
    experiment: str
    largest: int


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers; True and False are none."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def collect_results(
    name: str | None = None, baseline: str | None = None, only: Collection[str] | None = None
) -> SweepResults:
    """The results of the sweep `name`, or of all experiments of HEAD.

    baseline: the commit that the experiments start from; by default HEAD if it has any of the sweep, else the
    commit of the newest one. only: names of experiments; all others are ignored.
    Raises UserError if no experiment is left.
    """
    experiments = [
        (commit, revision) for commit, revision, label in _list_experiments(name) if only is None or label in only
    ]
    head = git("rev-parse", "HEAD").strip()
    baselines = [commit for commit, _ in experiments]
    if baseline is None:
        baseline = head if head in baselines or name is None or not baselines else baselines[0]
    members = {revision for commit, revision in experiments if commit == baseline}
    if not members:
        source = f"sweep {name}" if name else "this commit"
        others = [sweep for sweep in _list_sweeps() if sweep != name] if name else []
        known = f"; sweeps that have some: {', '.join(others)}" if others else ""
        raise UserError(f"{source} has no finished experiment{known}; python -m tools.sweep runs some")
    with Repo() as repo:
        states = [state.dumpd() for state in repo.experiments.show(revs=[baseline], hide_workspace=True)]
    results = build_results(name, baseline, states, members)
    if only is not None:
        unfinished = {label: state for label, state in results.unfinished.items() if label in only}
        results = replace(results, unfinished=unfinished)
    return results


def _list_experiments(name: str | None) -> Iterable[tuple[str, str, str]]:
    """(baseline commit, own commit, name) of each experiment of the sweep in git, the newest first.

    tools.sweep writes `sweep NAME: ...` into the commit; other experiments belong to a sweep if their names begin
    with NAME-.
    """
    for baseline, revision, label, sweep in _read_references():
        if name is None or sweep == name or (sweep is None and f"{label}-".startswith(f"{name}-")):
            yield baseline, revision, label


def find_sweep(experiment: str) -> tuple[str | None, str]:
    """The sweep that an experiment belongs to, if any, and the commit that it started from.

    Raises UserError if git has no experiment of that name.
    """
    for baseline, _, label, sweep in _read_references():
        if label == experiment:
            return sweep, baseline
    raise UserError(f"{experiment}: must be an experiment; git has none of that name; see dvc exp show -A")


def _list_sweeps() -> list[str]:
    """The names of the sweeps that have experiments in git."""
    return sorted({sweep for *_, sweep in _read_references() if sweep})


def _read_references() -> Iterable[tuple[str, str, str, str | None]]:
    """(baseline commit, own commit, name, sweep if any) of each experiment in git, the newest first."""
    fields = "%(refname)%00%(objectname)%00%(subject)"
    for line in git("for-each-ref", "--sort=-committerdate", f"--format={fields}", "refs/exps").splitlines():
        reference, revision, subject = line.split("\0")
        parts = reference.split("/")  # refs/exps/ab/cdef.../name; the queue's own references are shorter
        if len(parts) == 5:
            sweep = subject.removeprefix("sweep ").partition(":")[0] if subject.startswith("sweep ") else None
            yield parts[2] + parts[3], revision, parts[4], sweep


def build_results(
    name: str | None, baseline: str, states: Sequence[Mapping[str, Any]], members: Collection[str]
) -> SweepResults:
    """The results in `states`, the output of `dvc exp show --json` for the commit `baseline`.

    members: commits of the experiments that belong to the sweep. Runs with the same parameters count once.
    Raises UserError if none is finished.
    """
    rows: list[dict[str, Any]] = []
    unfinished: dict[str, str] = {}
    params: dict[str, None] = {}  # an ordered set
    metrics: dict[str, None] = {}
    for experiment in (experiment for state in states for experiment in state.get("experiments") or []):
        tip = experiment["revs"][0]
        label = tip.get("name") or tip["rev"][:7]
        state = (experiment.get("executor") or {}).get("state") or "success"
        data = tip.get("data") or {}
        metric_values = _read_metrics(data.get("metrics") or {})
        if state != "success":
            if name is None or label.startswith(f"{name}-"):
                unfinished[label] = state
        elif tip["rev"] in members and not _is_finite(metric_values.get(ERROR_METRIC)):
            unfinished[label] = f"without {ERROR_METRIC}"
        elif tip["rev"] in members:
            param_values = _read_params(data["params"])
            test_hash = ((data.get("deps") or {}).get(TEST_FILE) or {}).get("hash")
            rows.append({"experiment": label, "commit": tip["rev"], "test": test_hash, **param_values, **metric_values})
            params |= dict.fromkeys(param_values)
            metrics |= dict.fromkeys(metric_values)
    if not rows:
        raise UserError(f"{name or baseline[:7]} has no finished experiment with the metric {ERROR_METRIC}")
    table = pd.DataFrame(rows).drop_duplicates(list(params))
    for label in table["experiment"]:
        unfinished.pop(label, None)  # it failed at first and was done later
    numeric_metrics = [key for key in metrics if is_numeric(table[key])]
    results = SweepResults(name or "experiments", baseline, table, list(params), numeric_metrics, unfinished)
    order = [*results.group_keys, *(key for key in REPETITIONS if key in params)]
    return replace(results, table=table.sort_values(order, ignore_index=True))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _read_params(files: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted key: value}; lists and null become text, so that they can be compared and sorted."""
    flat = {key: value for file in files.values() for key, value in flatten(file.get("data") or {}).items()}
    return {key: to_comparable(value) for key, value in flat.items()}


def to_comparable(value: Any) -> int | float | str:
    """A parameter's value as the table has it: lists and null as text."""
    return value if isinstance(value, int | float | str) else json.dumps(value)


def _read_metrics(files: Mapping[str, Any]) -> dict[str, Any]:
    """{metric: value}, those of the file with the error first. A name that is taken becomes `path:name`."""
    metrics: dict[str, Any] = {}
    flat = {path: flatten(file.get("data") or {}) for path, file in files.items()}
    for path in sorted(flat, key=lambda path: ERROR_METRIC not in flat[path]):
        for key, value in flat[path].items():
            metrics[f"{path}:{key}" if key in metrics else key] = value
    return metrics


def compute_means(results: SweepResults) -> pd.DataFrame:
    """A row for each combination of the group keys: these, n, then METRIC and `METRIC sd`.

    sd: the standard deviation over repetitions with n - 1 in the denominator; NaN where n is 1.
    """
    groups = results.table.groupby(results.group_keys, dropna=False)
    columns = {"n": groups.size()}
    for metric in results.metrics:
        columns |= {metric: groups[metric].mean(), f"{metric} sd": groups[metric].std(ddof=1)}
    return pd.DataFrame(columns).reset_index()


def choose_latent_dim(results: SweepResults, tolerance: float) -> Choice | None:
    """The smallest latent_dim whose mean error is at most (1 + tolerance) times the best.

    None if only one was run, and if the runs differ in anything but latent_dim and repetitions. Among these, the run
    with the least validation error is named.
    """
    if LATENT_DIM not in results.varied_keys or results.group_keys != [LATENT_DIM]:
        return None
    means = compute_means(results).to_dict("records")
    best = min(means, key=lambda row: row[ERROR_METRIC])
    sufficient = [row for row in means if row[ERROR_METRIC] <= best[ERROR_METRIC] * (1 + tolerance)]
    chosen = min(sufficient, key=lambda row: row[LATENT_DIM])
    runs = results.table[results.table[LATENT_DIM] == chosen[LATENT_DIM]]
    run = runs.loc[runs[SELECTION_METRIC].idxmin()] if SELECTION_METRIC in results.metrics else runs.iloc[0]
    return Choice(best, chosen, run["experiment"], max(row[LATENT_DIM] for row in means))
