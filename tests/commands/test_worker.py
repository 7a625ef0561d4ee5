"""What a node of a cluster does with a task: refusals, and the guard that leaves nothing behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.autoencoder.core.errors import UserError
from tests.support.toy_pipeline import make_toy, run, sweep_command
from tools.sweeps.engines import worker
from tools.sweeps.engines.cluster import parse_outcome
from tools.sweeps.engines.hub import locate

SOURCE = Path(worker.__file__).read_text()


@pytest.fixture
def task(tmp_path: Path) -> worker.Task:
    """A task that would run the toy pipeline."""
    toy = make_toy(tmp_path)
    commit = run("git", "rev-parse", "HEAD", cwd=toy).stdout.strip()
    run("git", "update-ref", "refs/sweeps/s", commit, cwd=toy)
    return worker.Task(
        source=SOURCE,
        name="s-latent_dim-2",
        overrides=["latent_dim=2"],
        message="sweep s: latent_dim=2",
        commit=commit,
        base="refs/sweeps/s",
        hub=str(toy),
        identity={"name": "tester", "email": "tester@example.org"},
        remote="store",
        remote_config={"url": str(tmp_path / "store")},
        shared=[],
        own=["shared", "train"],
        lock="",
        versions={},
        scratch=str(tmp_path / "scratch"),
    )


def answer(task: worker.Task, **variables: str) -> worker.Outcome:
    """What a node prints for a task."""
    environment = {**os.environ, **variables}
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        return parse_outcome(process.stdout.read())


def test_a_task_ends_in_a_reference_on_the_hub_and_its_data_on_the_remote(task: worker.Task, tmp_path: Path):
    outcome = answer(task, TOY=str(tmp_path / "marks"), SWEEP_NODE="n1")
    assert outcome == {"reason": "", "unfit": False, "node": "n1", "log": []}
    reference = f"refs/exps/{task['commit'][:2]}/{task['commit'][2:]}/s-latent_dim-2"
    metrics = run("git", "show", f"{reference}:metrics/evaluate.json", cwd=Path(task["hub"])).stdout
    assert json.loads(metrics) == {"mse": 1 / 6}
    assert list((tmp_path / "store").rglob("*"))
    assert not list((tmp_path / "scratch").glob("clone-*"))

    (tmp_path / "marks/ran").unlink()
    assert answer(task, TOY=str(tmp_path / "marks"))["reason"] == ""
    assert not (tmp_path / "marks/ran").exists()  # the hub has it


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("name", "--force", "name must be letters and digits"),
        ("name", "../../x", "name must be letters and digits"),
        ("name", "a;touch x", "name must be letters and digits"),
        ("commit", "--upload-pack=x", "commit must be 40 hexadecimal digits"),
        ("hub", "--upload-pack=x", "no name of a stage, a remote or a hub may begin with -"),
        ("own", ["--all-commits"], "no name of a stage, a remote or a hub may begin with -"),
    ],
)
def test_a_hostile_value_is_refused(task: worker.Task, key: str, value: object, reason: str):
    outcome = worker.run({**task, key: value})
    assert reason in outcome["reason"]
    assert not Path(task["scratch"]).exists()


def test_a_hostile_parameter_stays_a_value(task: worker.Task, tmp_path: Path):
    marker = tmp_path / "hit"
    task["overrides"] = [f"download.mirror='$(touch {marker}); `touch {marker}`'"]
    assert answer(task, TOY=str(tmp_path / "marks"))["reason"] == ""
    assert not marker.exists()


def test_a_node_with_other_packages_is_unfit(task: worker.Task):
    outcome = worker.run({**task, "versions": {"python": worker.python_version(), "numpy": "0.1", "no-such": "1"}})
    assert outcome["unfit"]
    assert "no-such must be 1, as where the sweep started; got none and 1 more" in outcome["reason"]


def test_a_folder_that_others_can_write_to_is_refused(task: worker.Task, tmp_path: Path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    outcome = worker.run(task)
    assert outcome["unfit"]
    assert "must be a folder that only its user" in outcome["reason"]


def test_a_full_disk_makes_a_node_unfit(task: worker.Task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "MIN_FREE", 2**60)
    outcome = worker.run(task)
    assert outcome["unfit"]
    assert "MiB of disk; got" in outcome["reason"]


def test_a_command_that_fails_on_a_full_disk_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    call = worker._Caller(tmp_path, dict(os.environ), tmp_path)
    monkeypatch.setattr(worker, "PAUSES", (0.1,))
    monkeypatch.setattr(worker, "PATIENCE", 0.5)
    for least, is_full in ((0, False), (2**60, True)):
        monkeypatch.setattr(worker, "MIN_FREE", least)
        (tmp_path / "count").unlink(missing_ok=True)
        with pytest.raises(worker.TaskError, match=r"^sh -c: no room$") as error:
            call("sh", "-c", "echo . >> count; echo no room; exit 1", lasting=True)
        assert (len((tmp_path / "count").read_text().split()) == 1) == is_full
        assert error.value.unfit == is_full


def test_when_the_engine_ends_so_does_all_that_it_started(task: worker.Task, tmp_path: Path):
    task["overrides"], marks = ["latent_dim=9"], tmp_path / "marks"  # waits for a file
    environment = {**os.environ, "TOY": str(marks)}
    process = subprocess.Popen([sys.executable, "-c", SOURCE], stdin=subprocess.PIPE, text=True, env=environment)
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (marks / "ran").exists() or "train 9" not in (marks / "ran").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 3  # the guard, DVC, the stage
    process.stdin.close()
    process.wait(20)
    assert not psutil.wait_procs(below, timeout=20)[1]
    assert not list((tmp_path / "scratch").glob("clone-*"))


def test_a_clone_that_was_left_is_removed_and_one_in_use_is_not(tmp_path: Path):
    for name in ("clone-left", "clone-used"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with worker._locked(tmp_path / "clone-used" / "lock"):
        worker._remove_stale_clones(tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("clone-*"))] == ["clone-used"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--cpus", "2"], "--cpus must be left out with --engine local"),
        (["--engine", "ray"], "--address must be that of the Ray cluster's head"),
        (["--engine", "ray", "--jobs", "2"], "--jobs must be left out with --engine ray"),
        (["--engine", "ray", "--address", "h:1", "--cpus", "0"], "--cpus must be a number of at least 0.01"),
        (["--engine", "ray", "--address", "h:1"], "--hub must name the git repository that the nodes can reach"),
        (["--engine", "ray", "--address", "h:1", "--hub", "."], "--remote must be the name of a DVC remote"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, options: list[str], line: str):
    toy = make_toy(tmp_path)
    done = run(*sweep_command("latent_dim=2", *options), cwd=toy, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(line), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_hub_is_a_remote_or_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy = make_toy(tmp_path)
    monkeypatch.chdir(toy)
    assert locate("..") == str(tmp_path)
    assert locate("ssh://host/path") == "ssh://host/path"
    run("git", "remote", "add", "origin", "host:path", cwd=toy)
    assert locate(None) == "host:path"
    with pytest.raises(UserError, match="--hub must be an address"):
        locate("--exec=x")
