"""Sweeps on a Ray cluster: two real nodes on loopback addresses, a bare repository as hub, a folder as remote."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from tests.support.ray_cluster import RayCluster, running_cluster
from tests.support.servers import HOST, running_sshd
from tests.support.toy_pipeline import (
    add_hub,
    errors,
    find_marked,
    make_toy,
    ran,
    run,
    shared_once,
    sweep_command,
    sweep_locally,
    trees,
    wait_for,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs the packages of requirements/cluster.txt"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Two nodes for all tests of this module. The stages of a test find its folder by a link."""
    marks = tmp_path_factory.mktemp("current") / "marks"
    with running_cluster(2, TOY=str(marks)) as cluster:
        cluster.marks = marks
        yield cluster


@pytest.fixture
def toy(tmp_path: Path, cluster: RayCluster) -> Path:
    """The toy pipeline with a hub and a remote beside it."""
    folder = make_toy(tmp_path)
    add_hub(folder)
    cluster.marks.unlink(missing_ok=True)
    cluster.marks.symlink_to(tmp_path / "marks")
    return folder


def on_ray(toy: Path, cluster: RayCluster, *arguments: str) -> list[str]:
    """The command of a sweep on the cluster, whose clones are in a folder of the test."""
    options = ["--engine", "ray", "--address", cluster.address, "--cpus", "1", "--scratch", str(toy.parent / "scratch")]
    return sweep_command(*arguments, "--name", "s", *options)


def left_over(toy: Path) -> list[str]:
    """What should be gone: clones, references of the sweep, processes of experiments."""
    references = run("git", "for-each-ref", "--format=%(refname)", "refs/sweeps", cwd=toy.parent / "hub").stdout.split()
    return [
        *references,
        *(path.name for path in (toy.parent / "scratch").glob("clone-*")),
        *map(str, find_marked(toy.parent)),
    ]


def test_rows_of_two_nodes_are_those_of_one_machine(toy: Path, cluster: RayCluster):
    """A row that fails once is run again, one that always fails is explained, and nothing that is done runs twice."""
    done = run(
        *on_ray(toy, cluster, "latent_dim=2,5,7"), cwd=toy, check=False, TOY=str(toy.parent / "marks"), **cluster.access
    )
    assert "s-latent_dim-5 failed and is run once more" in done.stdout, done.stderr
    assert "failed: s-latent_dim-7: seven is unlucky" in done.stdout
    assert done.returncode == 1
    assert errors(toy, "s") == {"s-latent_dim-2": 1 / 3 / 2, "s-latent_dim-5": 1 / 3 / 5}
    assert ran(toy) == [shared_once(), "train 2 0", "train 5 0", "train 5 0", "train 7 0", "train 7 0"]
    wait_for(lambda: not left_over(toy))

    again = run(*on_ray(toy, cluster, "latent_dim=2,5"), cwd=toy, TOY=str(toy.parent / "marks"), **cluster.access)
    assert "2 of 2 were done before" in again.stdout
    assert len(ran(toy)) == 6

    rows = sweep_locally(toy, "latent_dim=2,5")
    assert rows == trees(toy.parent / "hub")
    assert len(rows) == 2


def test_a_killed_node_and_a_killed_driver_leave_no_process_and_the_rows_are_made(toy: Path, cluster: RayCluster):
    command, marks = on_ray(toy, cluster, "latent_dim=2,9"), toy.parent / "marks"
    variables = {"TOY": str(marks), **cluster.access}
    driver = start(command, toy, variables)
    wait_for(lambda: "s-latent_dim-2" in run("git", "for-each-ref", cwd=toy.parent / "hub").stdout)
    wait_for(lambda: "train 9 0" in ran(toy))
    driver.kill()
    driver.wait()
    wait_for(lambda: not find_marked(toy.parent))

    driver = start(command, toy, variables)
    wait_for(lambda: ran(toy).count("train 9 0") == 2)
    (stage,) = [
        process
        for process in find_marked(toy.parent)
        if "train" in process.cmdline() and process.name().startswith("python")
    ]
    cluster.start_node()
    cluster.kill_node(stage.environ()["SWEEP_NODE"])
    wait_for(lambda: not stage.is_running())
    (marks / "go").touch()
    assert driver.wait(120) == 0, (toy.parent / "log").read_text()
    assert errors(toy, "s") == {"s-latent_dim-2": 1 / 3 / 2, "s-latent_dim-9": 1 / 3 / 9}
    assert ran(toy).count("train 2 0") == 1
    wait_for(lambda: not left_over(toy))


def start(command: list[str], toy: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a sweep, whose output goes to the file `log` beside the repository."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    with (toy.parent / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=toy, env=environment, stdout=log, stderr=log)


def test_a_driver_without_the_token_is_not_let_in(toy: Path, cluster: RayCluster):
    done = run(*on_ray(toy, cluster, "latent_dim=2"), cwd=toy, check=False, RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("--address must be that of a Ray cluster's head")
    assert "it does not know this token" in line


@pytest.mark.skipif(not shutil.which("sshd"), reason="needs openssh-server")
def test_the_checkout_is_the_hub_and_ssh_the_remote(toy: Path, cluster: RayCluster, tmp_path: Path):
    with running_sshd(tmp_path / "ssh") as ssh:
        run("dvc", "remote", "add", "-q", "-d", "far", f"ssh://{HOST}:{ssh['PORT']}{tmp_path}/far", cwd=toy)
        run("dvc", "remote", "modify", "-q", "far", "keyfile", str(tmp_path / "ssh/user"), cwd=toy)
        run("git", "commit", "-qam", "far", cwd=toy)
        command = on_ray(toy, cluster, "latent_dim=2,3", "--hub", ".")
        done = run(*command, cwd=toy, check=False, TOY=str(tmp_path / "marks"), **cluster.access)
        assert (done.returncode, done.stderr) == (0, "")
        assert errors(toy, "s") == {"s-latent_dim-2": 1 / 3 / 2, "s-latent_dim-3": 1 / 3 / 3}
        assert any((tmp_path / "far").rglob("*"))
        assert run("git", "for-each-ref", "refs/sweeps", cwd=toy).stdout == ""


def test_a_remote_that_cannot_be_written_to_ends_the_sweep_and_leaves_nothing(toy: Path, cluster: RayCluster):
    (toy.parent / "store").write_text("not a folder")
    done = run(*on_ray(toy, cluster, "latent_dim=2"), cwd=toy, check=False, **cluster.access)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("--remote must be one that this machine can write to; got store, ")
    assert left_over(toy) == []
