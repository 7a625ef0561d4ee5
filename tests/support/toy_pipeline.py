"""A repository with a pipeline of two stages that take a tenth of a second, and what sweeps leave behind."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
from ruamel.yaml import YAML

from tools.sweeps.engines.worker import MARK
from tools.workspace.copies import ROOT

PARAMS = ROOT / "params.yaml"

TOY = """\
import json, os, pathlib, re, sys, time
stage, marks = sys.argv[1], pathlib.Path(os.environ["TOY"])
with (marks / "ran").open("a") as file:
    text = pathlib.Path("params.yaml").read_text()
    dim, seed = (int(re.search(rf"^{key}: (\\d+)", text, re.M)[1]) for key in ("latent_dim", "seed"))
    file.write(f"{stage} {dim} {seed}\\n")
if stage == "shared":
    pathlib.Path("shared").write_text("x")
else:
    if dim == 7:
        sys.exit("seven is unlucky")
    if dim == 5 and not (marks / "tried").exists():
        (marks / "tried").touch()
        sys.exit("not at the first time")
    while dim == 9 and not (marks / "go").exists():
        time.sleep(0.1)
    pathlib.Path("metrics").mkdir(exist_ok=True)
    pathlib.Path("metrics/evaluate.json").write_text(json.dumps({"mse": 1 / 3 / dim + seed / 7}))
"""
TOY_DVC = """\
stages:
  shared: {cmd: python toy.py shared, deps: [toy.py], outs: [shared]}
  train:
    cmd: python toy.py train
    deps: [toy.py, shared]
    params: [latent_dim, seed]
    metrics: [metrics/evaluate.json: {cache: false}]
"""


def run(*command: str, cwd: Path, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the project on Python's path and more environment variables."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, cwd=cwd, env=environment, check=check, capture_output=True, text=True, timeout=400)


def commit(folder: Path) -> None:
    """Commit all of a folder, as the first commit of a new repository if there is none."""
    for command in ("init -q -b main", "config user.name tester", "config user.email tester@example.org"):
        run("git", *command.split(), cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "start", cwd=folder)


def make_toy(parent: Path) -> Path:
    """The repository `toy` in a folder; its stages note in `marks/ran` beside it what they run."""
    folder = parent / "toy"
    folder.mkdir()
    (parent / "marks").mkdir()
    (folder / "toy.py").write_text(TOY)
    (folder / "dvc.yaml").write_text(TOY_DVC)
    (folder / ".gitignore").write_text("/shared\n/reports/\n")
    shutil.copy(PARAMS, folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = true\n")
    shutil.copy(ROOT / ".dvc/.gitignore", folder / ".dvc")
    commit(folder)
    return folder


def shared_once() -> str:
    """What the stage `shared` notes when it runs with the committed parameters."""
    params = YAML().load(PARAMS.read_text())
    return f"shared {params['latent_dim']} {params['seed']}"


def ran(toy: Path) -> list[str]:
    """What the stages have noted, sorted."""
    return sorted((toy.parent / "marks/ran").read_text().splitlines())


def sweep_command(*arguments: str) -> list[str]:
    """The command of a sweep."""
    return [sys.executable, "-m", "tools.sweep", *arguments]


def errors(folder: Path, name: str) -> dict[str, float]:
    """{experiment: error} from the report's CSV, every digit."""
    table = pd.read_csv(folder / "reports" / name / "runs.csv")
    return dict(zip(table["experiment"], table["mse"], strict=True))


def add_hub(toy: Path) -> None:
    """Give the toy a DVC remote and a hub, `store` and `hub` beside it. All that git tracks is committed before."""
    parent = toy.parent
    run("dvc", "remote", "add", "-q", "-d", "store", str(parent / "store"), cwd=toy)
    run("git", "commit", "-qam", "remote", cwd=toy)
    run("git", "clone", "-q", "--bare", str(toy), str(parent / "hub"), cwd=parent)
    run("git", "remote", "add", "origin", str(parent / "hub"), cwd=toy)


def trees(repository: Path) -> dict[str, str]:
    """{experiment: what its commit holds} of the sweep `s`."""
    form = "--format=%(refname:lstrip=4) %(tree)"
    lines = run("git", "for-each-ref", form, "refs/exps/*/*/s-*", cwd=repository).stdout.splitlines()
    return dict(line.split() for line in lines)


def sweep_locally(toy: Path, *arguments: str) -> dict[str, str]:
    """The trees of the sweep `s` in a new clone of the hub, on this machine alone."""
    other = toy.parent / "other"
    run("git", "clone", "-q", str(toy.parent / "hub"), str(other), cwd=toy.parent)
    for key in ("name", "email"):
        run("git", "config", f"user.{key}", "tester@example.org", cwd=other)
    run(*sweep_command(*arguments, "--name", "s"), cwd=other, TOY=str(toy.parent / "marks"))
    return trees(other)


def find_marked(folder: Path) -> list[psutil.Process]:
    """Processes that an experiment on a cluster has started and that work below a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if MARK in process.environ() and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
