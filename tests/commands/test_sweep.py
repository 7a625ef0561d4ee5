"""tools.sweep: the grid and its names, what it refuses, and DVC's real queue with failures, kills and resumption.

The queue runs a toy pipeline (a stage takes a tenth of a second) and, once, the project's own with tiny settings.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, yaml
from dvc.repo import Repo

from stages.autoencoder.core.errors import UserError
from tests.support.toy_pipeline import PARAMS, TOY, commit, errors, make_toy, ran, run, shared_once, sweep_command
from tools import sweep
from tools.sweeps import grid
from tools.sweeps.engines.local import LocalEngine
from tools.sweeps.shared_stages import find_shared_stages
from tools.workspace.commands import git
from tools.workspace.copies import copy_working_tree
from tools.workspace.params_file import write_params


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository with the toy pipeline; its stages note in ../marks/ran what they run."""
    return make_toy(tmp_path)


def experiment_names(*arguments: str) -> list[str]:
    return [combination.name for combination in grid.expand(arguments, "s", PARAMS)]


def test_choices_and_ranges_multiply_out_in_order():
    assert experiment_names("latent_dim=2,4", "seed=range(0,2)") == [
        "s-latent_dim-2-seed-0",
        "s-latent_dim-2-seed-1",
        "s-latent_dim-4-seed-0",
        "s-latent_dim-4-seed-1",
    ]


def test_a_combination_given_twice_runs_once():
    assert experiment_names("latent_dim=2,2") == ["s-latent_dim-2"]


def test_lists_and_odd_signs_become_names_that_git_takes():
    names = experiment_names(
        "train.mlp.widths=[64,32],[16]", "download.mirror=null,'/a b'", "train.learning_rate=1e-3,1e-2"
    )
    assert names[2] == "s-train.mlp.widths-64_32-download.mirror-a_b-train.learning_rate-0.001"
    for name in names:
        git("check-ref-format", f"refs/exps/{name}")


def test_names_leave_out_what_all_experiments_share():
    assert experiment_names("train.mlp.widths=[512]", "seed=0,1", "train.epochs=2") == ["s-seed-0", "s-seed-1"]
    assert experiment_names("train.epochs=2", "seed=0") == ["s-train.epochs-2-seed-0"]  # alone: nothing would be left


def test_names_too_long_for_a_file_are_refused():
    widths, channels = f"train.mlp.widths=[{','.join(['512'] * 16)}]", f"train.conv.widths=[{','.join(['256'] * 16)}]"
    assert experiment_names(widths, channels, "seed=0,1") == ["s-seed-0", "s-seed-1"]
    assert experiment_names(widths, channels, "seed=0") == ["s"]
    with pytest.raises(UserError, match=r"at most 150 characters; got \d+ in s-train\.mlp"):
        experiment_names(f"{widths},[{','.join(['512'] * 32)}]", f"{channels},[1]")


def test_equal_names_are_told_apart():
    assert len(set(experiment_names("download.mirror='a b','a_b','a/b'"))) == 3


def test_a_combination_has_all_of_params_yaml():
    (combination,) = grid.expand(["train.epochs=3", "latent_dim=5"], "s", PARAMS)
    expected = yaml.load(PARAMS.read_text())
    expected["train"]["epochs"], expected["latent_dim"] = 3, 5
    assert (combination.params, combination.problem) == (expected, "")
    assert combination.overrides == ("train.epochs=3", "latent_dim=5")


def test_an_invalid_value_excludes_only_its_combinations():
    combinations = grid.expand(["latent_dim=4,0"], "s", PARAMS)
    assert [combination.problem for combination in combinations] == [
        "",
        f"{PARAMS}: latent_dim must be an integer >= 1 and <= 65536; got 0",
    ]


def test_a_rule_between_keys_is_checked_too():
    (combination,) = grid.expand(["latent_dim=5000", "train.variant=undercomplete"], "s", PARAMS)
    assert "latent_dim" in combination.problem


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train.epoch=3"], "unknown key train.epoch; did you mean train.epochs?"),
        (["latentdim=3"], "unknown key latentdim; did you mean latent_dim?"),
        (["train.rate=0.01,0.03"], "params.yaml: unknown key train.rate; it is now train.learning_rate"),
        (["train.clip=1", "seed=0,1"], "params.yaml: unknown key train.clip; it is now train.max_grad_norm"),
        (["latent_dim"], "latent_dim has no value; write latent_dim=2,4"),
        (["train.loss", "seed=1"], "train.loss has no value; write train.loss=VALUE,VALUE, as in latent_dim=2,4"),
        (["latent_dim=2,"], "latent_dim=2, is not key=value"),
        (["+new=1"], "with a key of params.yaml"),
        (["~seed"], "with a key of params.yaml"),
        (["seed=1", "seed=2"], "seed is given 2 times"),
        (["latent_dim=interval(1,2)"], "not a list of values"),
        (["latent_dim=glob(*)"], "not a list of values"),
    ],
)
def test_arguments_that_dvc_would_not_take_are_refused_in_one_line(arguments: list[str], complaint: str):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        grid.expand(arguments, "s", PARAMS)
    assert complaint in str(error.value)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a..b", "a.", "a:b", "~"])
def test_names_that_git_or_a_path_would_not_take_are_refused(name: str):
    with pytest.raises(UserError, match="--name must be"):
        grid.expand(["seed=1"], name, PARAMS)


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC 3.67 with pygtrie 2.6
def test_shared_stages_are_those_that_no_swept_key_reaches():
    with Repo(ROOT) as repo:
        shared = ["check", "download", "split", "baseline", "classify"]
        assert find_shared_stages(repo, ["latent_dim", "seed"]) == shared
        assert find_shared_stages(repo, ["split.seed"]) == ["check", "download"]
        assert find_shared_stages(repo, ["download.dataset"]) == ["check"]
        assert find_shared_stages(repo, ["threads"]) == ["check", "download", "split"]


@pytest.fixture
def read_refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """A function that starts tools.sweep in a folder and returns the line with which it refuses."""

    def read(folder: Path) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sweep", "latent_dim=2"])
        with pytest.raises(UserError, match=r"^[^\n]*$") as error:
            sweep.main()
        return str(error.value)

    return read


def test_a_change_since_the_commit_is_refused(toy: Path, read_refusal: Callable[[Path], str]):
    (toy / "params.yaml").write_text(PARAMS.read_text() + "# changed\n")
    line = read_refusal(toy)
    assert line.startswith("params.yaml: changed since the last commit")
    assert "in comments or layout only" in line


def test_changed_keys_are_named_with_the_way_back(toy: Path, read_refusal: Callable[[Path], str]):
    start = yaml.load(PARAMS.read_text())["latent_dim"]
    write_params(toy / "params.yaml", {"latent_dim": 0, "train.mlp.widths": [512] * 40}, PARAMS)  # 0 is invalid too
    assert read_refusal(toy) == (
        f"params.yaml: changed since the last commit (latent_dim: {start} -> 0, train.mlp.widths: [1024, 512] -> "
        "[512, 512, 512, 512, 512, 5...), from which experiments start; undo it with git checkout params.yaml"
        " (a failed dvc exp run -S leaves such changes), or git commit it"
    )
    run("git", "checkout", "params.yaml", cwd=toy)
    assert run("git", "status", "--porcelain", cwd=toy).stdout == ""


def test_other_changed_files_are_named_with_the_way_back(toy: Path, read_refusal: Callable[[Path], str]):
    (toy / "toy.py").write_text(TOY + "# changed\n")
    run("git", "add", "toy.py", cwd=toy)
    assert read_refusal(toy) == (
        "toy.py: changed since the last commit, from which experiments start;"
        " undo it with git checkout HEAD toy.py, or git commit it"
    )
    run("git", "checkout", "HEAD", "toy.py", cwd=toy)
    (toy / "new.py").write_text("")
    run("git", "add", "new.py", cwd=toy)
    assert read_refusal(toy) == "new.py: changed since the last commit, from which experiments start; git commit it"


def test_files_that_experiments_would_not_see_are_named(toy: Path, read_refusal: Callable[[Path], str]):
    run("git", "rm", "-q", "--cached", "toy.py", cwd=toy)
    run("git", "commit", "-qm", "without", cwd=toy)
    assert read_refusal(toy).startswith("toy.py: not in git")


def test_a_missing_git_identity_is_named(
    toy: Path, read_refusal: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
):
    run("git", "config", "--unset", "user.email", cwd=toy)
    for name, value in {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}.items():
        monkeypatch.setenv(name, value)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{who}_EMAIL", raising=False)
    assert read_refusal(toy) == "git does not know your email; git config --global user.email ..."


def test_a_missing_name_and_email_are_named_at_once(
    toy: Path, read_refusal: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
):
    run("git", "config", "--remove-section", "user", cwd=toy)
    for name, value in {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}.items():
        monkeypatch.setenv(name, value)
    for variable in (f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")):
        monkeypatch.delenv(variable, raising=False)
    assert read_refusal(toy) == (
        "git does not know your name and email; git config --global user.name ..., git config --global user.email ..."
    )


def test_a_missing_commit_is_named(tmp_path: Path, read_refusal: Callable[[Path], str]):
    run("git", "init", "-q", cwd=tmp_path)
    assert read_refusal(tmp_path).startswith("no git commit here")


def test_a_queue_with_other_experiments_is_left_alone(toy: Path, read_refusal: Callable[[Path], str]):
    run("dvc", "exp", "run", "--queue", "-n", "theirs", "-S", "seed=3", cwd=toy)
    assert read_refusal(toy).startswith("the queue holds theirs, not of this sweep")


def test_a_name_taken_by_other_parameters_is_refused(toy: Path, read_refusal: Callable[[Path], str]):
    head = run("git", "rev-parse", "HEAD", cwd=toy).stdout.strip()
    run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/sweep-latent_dim-2", "HEAD", cwd=toy)
    assert read_refusal(toy).startswith("experiment sweep-latent_dim-2 exists with other parameters")


def test_a_failed_experiment_runs_once_more_then_is_reported(toy: Path):
    marks = str(toy.parent / "marks")
    command = sweep_command("latent_dim=5,7,0", "--jobs", "2", "--name", "s")
    done = run(*command, cwd=toy, check=False, TOY=marks)
    assert done.returncode == 1
    assert done.stderr == "2 of 3 experiments failed, for the reasons above; correct the cause and repeat the command\n"
    assert "failed: s-latent_dim-7: seven is unlucky\n" in done.stdout
    assert "failed: s-latent_dim-0: params.yaml: latent_dim must be an integer" in done.stdout
    refusal = done.stdout.index("sweep: does not run: s-latent_dim-0: params.yaml: latent_dim must be an integer")
    assert refusal < done.stdout.index("sweep: dvc repro")  # before anything runs
    assert errors(toy, "s") == {"s-latent_dim-5": 1 / 3 / 5}
    assert ran(toy) == [shared_once(), "train 5 0", "train 5 0", "train 7 0", "train 7 0"]
    assert run("git", "status", "--porcelain", cwd=toy).stdout == "A  dvc.lock\n"  # of the shared stage
    report = (toy / "reports/s/report.md").read_text()
    assert "Not included: s-latent_dim-7 (failed)." in report


def wait_until(condition: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def test_a_killed_worker_and_a_stopped_sweep_lose_nothing_finished(toy: Path):
    marks = toy.parent / "marks"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOY": str(marks)}
    command = sweep_command("latent_dim=2,9,3", "--jobs", "1", "--name", "s")
    begun = subprocess.Popen(
        command, cwd=toy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: (marks / "ran").exists() and "train 9 0" in ran(toy))
    begun.send_signal(signal.SIGTERM)
    _, complaint = begun.communicate(timeout=120)
    assert begun.returncode == 1
    assert complaint.startswith("interrupted; 1 not started (removed from the queue), 1 running to the end (")
    assert run("git", "status", "--porcelain", cwd=toy).stdout == "A  dvc.lock\n"  # of the shared stage

    worker = next(
        p
        for p in psutil.process_iter(["cmdline"])
        if "queue-worker" in (p.info["cmdline"] or []) and p.cwd() == str(toy)
    )
    worker.kill()  # its experiment's process goes on without anybody to collect the result
    (marks / "go").touch()
    done = run(*command, cwd=toy, TOY=str(marks))
    assert "1 of 3 were done before" in done.stdout
    assert errors(toy, "s") == {f"s-latent_dim-{dim}": 1 / 3 / dim for dim in (2, 3, 9)}
    assert [line for line in ran(toy) if line != "train 9 0"] == [shared_once(), "train 2 0", "train 3 0"]
    with Repo(toy) as repo:
        queue = LocalEngine(repo, run("git", "rev-parse", "HEAD", cwd=toy).stdout.strip(), {}, jobs=1)
        assert (
            list(queue.celery.iter_active()) == list(queue.celery.iter_queued()) == list(queue.celery.iter_done()) == []
        )


def test_a_real_sweep_reports_what_its_experiments_measured(tmp_path: Path, finished: Path):
    """Through DVC's queue, from a commit with results: a stale metrics file would have the numbers of that commit."""
    folder = copy_working_tree(tmp_path / "clone", without=("metrics/", "plots/", "docs/", "dvc.lock"))
    shutil.copytree(finished, folder, dirs_exist_ok=True)  # what `dvc repro` would make, recorded as its result
    commit(folder)
    run("dvc", "commit", "--force", "--quiet", cwd=folder)
    commit(folder)
    done = run(*sweep_command("latent_dim=3,5,0", "--jobs", "2", "--name", "tiny"), cwd=folder, check=False)
    assert "failed: tiny-latent_dim-0: params.yaml: latent_dim must be an integer" in done.stdout, done.stderr
    assert done.returncode == 1
    assert "dvc repro" not in done.stdout  # the shared stages are up to date
    head = run("git", "rev-parse", "HEAD", cwd=folder).stdout.strip()
    for dim in (3, 5):
        metrics_file = f"refs/exps/{head[:2]}/{head[2:]}/tiny-latent_dim-{dim}:metrics/evaluate.json"
        metrics = json.loads(run("git", "show", metrics_file, cwd=folder).stdout)
        assert errors(folder, "tiny")[f"tiny-latent_dim-{dim}"] == metrics["mse"]
    assert len(errors(folder, "tiny")) == 2
    assert {path.name for path in (folder / "reports/tiny").iterdir()} == {
        *("report.md", "runs.csv", "means.csv", "error.png", "dimensions.png", "losses.png", "pictures.png")
    }

    table = {}  # latent_dim: error, as DVC's own table has them
    for state in json.loads(run("dvc", "exp", "show", "--json", cwd=folder).stdout):
        for data in (state["data"], *(one["revs"][0]["data"] for one in state["experiments"] or [])):
            dim = data["params"]["params.yaml"]["data"]["latent_dim"]
            table[dim] = data["metrics"]["metrics/evaluate.json"]["data"]["mse"]
    assert set(table) == {3, 4, 5}
    assert len(set(table.values())) == 3
    assert {f"tiny-latent_dim-{dim}": table[dim] for dim in (3, 5)} == errors(folder, "tiny")
