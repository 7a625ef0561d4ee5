"""The whole pipeline through DVC, in a temporary clone with a tiny configuration."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, TINY, merged, yaml

BEHIND_TRAIN = {"train", "reconstruct", "embed", "evaluate"}
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
    folder = tmp_path / "clone"
    for name in subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    ).splitlines():
        source = ROOT / name
        if source.exists() and not name.startswith(("tests/", "docs/")) and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    values = yaml.load((ROOT / "params.yaml").read_text())
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(merged(values, TINY), file)
    run(folder, "git", "init", "-q")
    commit(folder)
    return folder


def commit(folder):
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "state")


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
        if path.is_file()
    }


def test_repro_runs_everything_then_nothing_and_a_new_latent_dim_repeats_only_what_it_must(clone, finished):
    stages = set(yaml.load((clone / "dvc.yaml").read_text())["stages"])
    assert ran(run(clone, "dvc", "repro", **ELSEWHERE)) == stages
    # made at another path, in this process: neither that nor locale, time zone and hash seed reach an output
    assert outs(clone) == outs(finished)
    untracked = run(clone, "git", "ls-files", "--others", "--exclude-standard").split()
    assert untracked == []
    commit(clone)
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


def test_queued_experiments_have_their_own_numbers_in_the_table(clone, finished):
    for place in ("data", "metrics", "plots"):  # what `dvc repro` would make, recorded as its result
        shutil.copytree(finished / place, clone / place, dirs_exist_ok=True)
    run(clone, "dvc", "commit", "--force", "--quiet")
    commit(clone)
    run(clone, "dvc", "exp", "run", "--queue", "-S", "latent_dim=3,5")
    run(clone, "dvc", "queue", "start")
    for _ in range(120):
        status = run(clone, "dvc", "queue", "status")
        if "Queued" not in status and "Running" not in status:
            break
        time.sleep(0.5)
    assert status.count("Success") == 2, status
    rows = json.loads(run(clone, "dvc", "exp", "show", "--json"))
    found = {}
    for baseline in rows:
        for experiment in baseline["experiments"] or []:
            data = experiment["revs"][0]["data"]
            found[data["params"]["params.yaml"]["data"]["latent_dim"]] = data["metrics"]["metrics/evaluate.json"][
                "data"
            ]["mse"]
    assert {3, 5} <= set(found)
    assert len(set(found.values())) == len(found)
