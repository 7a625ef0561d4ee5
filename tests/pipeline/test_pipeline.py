"""The whole pipeline through DVC, in a temporary clone with a tiny configuration."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, yaml

from tools.workspace.copies import commit_all, copy_working_tree
from tools.workspace.params_file import write_params

BEHIND_TRAIN = {"train", "reconstruct", "embed", "evaluate", "sample"}
ELSEWHERE = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "TZ": "Pacific/Chatham",
    "PYTHONHASHSEED": "7",
}


@pytest.fixture
def clone(tmp_path):
    """A repository with the working tree's files and TINY in params.yaml, committed, and no cache."""
    folder = copy_working_tree(tmp_path / "clone", without=("tests/", "docs/", "dvc.lock"))
    write_params(folder / "params.yaml", TINY, source=folder / "params.yaml")
    commit_all(folder)
    return folder


def run(folder, *command, status=0, **changes):
    """Run a command in the clone, with this Python's folder first on PATH as in an activated environment."""
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    environment |= {
        f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    ended = subprocess.run(command, cwd=folder, env=environment | changes, capture_output=True, text=True)
    assert (ended.returncode == 0) == (status == 0), ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def ran(output):
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def outs(folder):
    """Every output's bytes."""
    return {
        path.relative_to(folder): path.read_bytes()
        for place in ("data", "metrics", "plots")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file() and path.name != "README.md"
    }


def test_repro_reruns_only_what_a_change_reaches(clone, finished):
    stages = set(yaml.load((clone / "dvc.yaml").read_text())["stages"])
    assert ran(run(clone, "dvc", "repro", **ELSEWHERE)) == stages
    # made at another path, in this process: neither that nor locale, time zone and hash seed reach an output
    assert outs(clone) == outs(finished)
    untracked = run(clone, "git", "ls-files", "--others", "--exclude-standard").split()
    assert untracked == []
    commit_all(clone)
    first = outs(clone)
    assert ran(run(clone, "dvc", "repro")) == set()
    assert run(clone, "git", "status", "--porcelain") == ""

    output = run(clone, "dvc", "exp", "run", "-S", "latent_dim=2")
    assert ran(output) - {"check"} == BEHIND_TRAIN
    assert (
        json.loads((clone / "metrics/evaluate.json").read_text())["mse"]
        != json.loads(first[Path("metrics/evaluate.json")])["mse"]
    )
    changed = run(clone, "dvc", "metrics", "diff")
    assert "metrics/evaluate.json" in changed
    assert "mse" in changed

    # back again: everything comes from the cache, byte for byte
    run(clone, "git", "checkout", "-q", "--", ".")
    output = run(clone, "dvc", "repro")
    assert ran(output) == set()
    assert outs(clone) == first

    # a mistake is found before any output is touched
    for change, message in [
        ("latent_dim=0", "latent_dim must be an integer >= 1"),
        ("seed=-1", "seed must be an integer >= 0"),
    ]:
        output = run(clone, "dvc", "exp", "run", "-S", change, status=255)
        assert [line for line in output.splitlines() if message in line and line.startswith("params.yaml: ")]
        assert "Traceback" not in output
        run(clone, "git", "checkout", "-q", "--", "params.yaml")
        now = outs(clone)
        now.setdefault(Path("data/checked"), first[Path("data/checked")])  # the one output of the stage that failed
        assert now == first
