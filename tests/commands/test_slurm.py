"""Sweeps on a Slurm cluster: two real nodes on this machine, a bare repository as hub, a folder as remote."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from stages.autoencoder.core.errors import UserError
from tests.support.slurm_cluster import PARTITION, SlurmCluster, missing_program, running_cluster
from tests.support.toy_pipeline import (
    add_hub,
    errors,
    make_toy,
    ran,
    run,
    shared_once,
    sweep_command,
    sweep_locally,
    trees,
    wait_for,
)
from tools import sweep

pytest.importorskip("submitit", reason="needs the packages of requirements/cluster.txt")
from tools.sweeps.engines import slurm_commands, slurm_jobs

needs_slurm = pytest.mark.skipif(missing_program() is not None, reason=f"needs {missing_program()} of Slurm")


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """Two nodes for all tests of this module."""
    with running_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The toy pipeline with a hub and a remote beside it."""
    folder = make_toy(tmp_path)
    shutil.copy(ROOT / "environment.json", folder)
    run("git", "add", "environment.json", cwd=folder)
    add_hub(folder)
    return folder


class Sweep:
    """A sweep of the toy pipeline on the cluster, in a process of its own."""

    def __init__(self, toy: Path, cluster: SlurmCluster, *arguments: str) -> None:
        options = ["--engine", "slurm", "--partition", PARTITION, "--cpus", "1", "--scratch", f"{toy.parent}/scratch"]
        self.log = toy.parent / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                sweep_command(*arguments, "--name", "s", *options),
                cwd=toy,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TOY": str(toy.parent / "marks"), **cluster.access},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> tuple[int, str]:
        """Its exit status and what it printed."""
        return self.process.wait(300), self.log.read_text()


def jobs(cluster: SlurmCluster) -> list[str]:
    """Names of the jobs that wait or run, without what makes each array's unique."""
    return [name.rpartition("-")[0] for name in cluster.ask("squeue", "--array", "--noheader", "--format=%j").split()]


def runs_nine(toy: Path) -> bool:
    return (toy.parent / "marks/ran").exists() and "train 9 0" in ran(toy)


def left_over(toy: Path) -> list[str]:
    """What should be gone: clones, references of the sweep, submitit's files."""
    references = run("git", "for-each-ref", "--format=%(refname)", "refs/sweeps", cwd=toy.parent / "hub").stdout.split()
    folders = [*(toy.parent / "scratch").glob("clone-*"), *(toy / ".dvc/tmp/slurm").glob("*")]
    return [*references, *map(str, folders)]


@needs_slurm
def test_rows_of_two_nodes_are_those_of_one_machine(toy: Path, cluster: SlurmCluster):
    """A row that fails once is run again, one that always fails is explained, and nothing that is done runs twice."""
    status, output = Sweep(toy, cluster, "latent_dim=2,5,7").wait()
    assert "s-latent_dim-5 failed and is run once more" in output
    assert "failed: s-latent_dim-7: seven is unlucky" in output
    assert status == 1
    assert errors(toy, "s") == {"s-latent_dim-2": 1 / 3 / 2, "s-latent_dim-5": 1 / 3 / 5}
    assert ran(toy) == [shared_once(), "train 2 0", "train 5 0", "train 5 0", "train 7 0", "train 7 0"]
    wait_for(lambda: not left_over(toy))

    status, output = Sweep(toy, cluster, "latent_dim=2,5").wait()
    assert "2 of 2 were done before" in output
    assert (status, len(ran(toy))) == (0, 6)

    rows = sweep_locally(toy, "latent_dim=2,5")
    assert rows == trees(toy.parent / "hub")
    assert len(rows) == 2


@needs_slurm
def test_a_killed_sweep_finds_its_jobs_and_a_stopped_one_cancels_them(toy: Path, cluster: SlurmCluster):
    driver = Sweep(toy, cluster, "latent_dim=9,2")
    wait_for(lambda: runs_nine(toy))
    driver.process.kill()
    driver.wait()
    assert "s" in jobs(cluster)

    driver = Sweep(toy, cluster, "latent_dim=9,2")
    wait_for(lambda: "1/2 s-latent_dim-2 done" in driver.log.read_text() or "1 of 2" in driver.log.read_text())
    assert jobs(cluster) == ["s"]
    assert ran(toy).count("train 9 0") == ran(toy).count("train 2 0") == 1  # nothing was submitted twice
    driver.process.send_signal(signal.SIGINT)
    status, output = driver.wait()
    assert status == 1
    assert output.splitlines()[-1].startswith("interrupted; 1 not finished (cancelled); the same command continues")
    wait_for(lambda: not jobs(cluster))
    wait_for(lambda: not left_over(toy))


@needs_slurm
def test_a_job_is_run_again_where_its_node_dies_and_where_its_processes_do(toy: Path, cluster: SlurmCluster):
    driver = Sweep(toy, cluster, "latent_dim=9")
    wait_for(lambda: runs_nine(toy))
    (node,) = cluster.ask("squeue", "--noheader", "--format=%N").split()
    cluster.kill(node)
    wait_for(lambda: ran(toy).count("train 9 0") == 2)  # by Slurm
    (other,) = cluster.ask("squeue", "--noheader", "--states=running", "--format=%N").split()
    assert other != node
    cluster.start_node(node)
    for pid in cluster.find_job_processes(other)[1]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: ran(toy).count("train 9 0") == 3)  # by the sweep
    (toy.parent / "marks/go").touch()
    status, output = driver.wait()
    assert "s-latent_dim-9 failed and is run once more" in output
    assert status == 0
    assert errors(toy, "s") == {"s-latent_dim-9": 1 / 3 / 9}


@needs_slurm
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere", None, 1, 0], "--partition must be one of Slurm's: tiny; got nowhere"),
        ([PARTITION, "61", 1, 0], "--time must be at most 60 minutes, the limit of partition tiny; got 61"),
        ([PARTITION, "1h", 1, 0], "--time must be minutes or H:MM:SS, such as 90 or 1:30:00; got '1h'"),
        ([PARTITION, None, 0.5, 0], "--cpus must be a whole number with --engine slurm; got 0.5"),
        ([PARTITION, None, 2, 1], "--cpus and --gpus must be what one node of partition tiny has; got 2 and 1;"),
        (["a\nid", None, 1, 0], r"--partition must have no signs but letters, digits and _ + - .; got 'a\nid'"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: SlurmCluster, arguments: list, complaint: str
):
    for key, value in cluster.access.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        slurm_jobs.SlurmJobs(tmp_path / "jobs", "s", *arguments)
    assert str(error.value).startswith(complaint)
    assert not (tmp_path / "jobs").exists()


@needs_slurm
def test_jobs_are_found_by_the_record_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: SlurmCluster):
    """Of the record only what waits or runs is taken up; what Slurm refuses is given back with its reason."""
    for key, value in cluster.access.items():
        monkeypatch.setenv(key, value)
    folder = tmp_path / "jobs"
    folder.mkdir(mode=0o700)
    command = ["sbatch", "--hold", f"--partition={PARTITION}", "--job-name=s-0123", "--array=0-1", "--output=/dev/null"]
    subprocess.run([*command, "--wrap=hostname"], check=True, capture_output=True)
    (folder / "jobs.json").write_text(json.dumps({"": "s-0123.0", "b": "s-0123.1", "c": "s-0123.2"}))
    found = slurm_jobs.SlurmJobs(folder, "s", PARTITION, None, 1, 0)
    assert found.unfinished() == {"b"}
    assert found.check("", lambda _: None) == []
    found.cancel(["b"])
    wait_for(lambda: len(jobs(cluster)) == 1)
    assert json.loads((folder / "jobs.json").read_text()) == {}

    monkeypatch.setenv("SBATCH_MEM_PER_CPU", "1T")
    monkeypatch.setattr(slurm_jobs, "QUEUE_SECONDS", 0.1)
    monkeypatch.setattr(slurm_jobs, "GONE_SECONDS", 0.1)
    found.submit("d", "{}", [])
    answers: dict[str, str] = {}
    wait_for(lambda: answers.update(found.poll()) or answers)
    assert json.loads(answers["d"])["reason"].startswith("sbatch: error: Batch job submission failed: ")
    assert found.unfinished() == set()
    cluster.ask("scancel", "--name=s-0123")


def test_squeue_is_read_row_by_row():
    text = (
        "0|7_0|RUNNING|node1|None|s-01ab\n"
        "12|7_12|PENDING||Resources|s-01ab\n"
        "N/A|8|NODE_FAIL|node2|NodeDown|s|x\n"
        "a line of another program\n"
    )
    assert slurm_commands.parse_queue(text) == {
        "s-01ab.0": slurm_commands.Job("7_0", "RUNNING", "node1", "None"),
        "s-01ab.12": slurm_commands.Job("7_12", "PENDING", "", "Resources"),
        "s|x.0": slurm_commands.Job("8", "NODE_FAIL", "node2", "NodeDown"),
    }


def test_sinfo_is_read_row_by_row():
    text = (
        "a|64|gpu:a100:4(S:0-1),nic:1|mixed|1-00:00:00\n"
        "b|8|gpu:2,gpu:1080:1|idle*|30:00\n"
        "c|8|(null)|drained|infinite\n"
        "d|8|(null)|idle~|1:30:00\n"
    )
    nodes = slurm_commands.parse_nodes(text)
    assert [(node.name, node.cpus, node.gpus, node.usable) for node in nodes] == [
        ("a", 64, 4, True),
        ("b", 8, 3, False),
        ("c", 8, 0, False),
        ("d", 8, 0, True),
    ]
    assert [node.minutes for node in nodes] == [1440, 30, float("inf"), 90]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", 1.5), ("1:30:00", 90), ("2-0", 2880), ("1-1:30", 1530), ("1-00:00:30", 1440.5)],
)
def test_times_are_those_of_slurm(text: str, minutes: float):
    assert slurm_commands.parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "1h", "1:2:3:4", "-1", "1\n", "\u0661"])
def test_other_times_are_refused(text: str):
    with pytest.raises(UserError, match=r"^--time must be minutes or H:MM:SS"):
        slurm_commands.parse_minutes(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("", "--partition must be one of those that sinfo lists; got none"),
        ("--partition p --jobs 2", "--jobs must be left out with --engine slurm; it is for --engine local"),
        ("--partition p --address a:1", "--address must be left out with --engine slurm; it is for --engine ray"),
        ("--engine ray --address a:1 --time 5", "--time must be left out with --engine ray; it is for --engine slurm"),
        ("--engine local --cpus 1", "--cpus must be left out with --engine local; it is for --engine ray or slurm"),
    ],
)
def test_options_of_other_engines_are_refused(monkeypatch: pytest.MonkeyPatch, options: str, complaint: str):
    monkeypatch.setattr(sys, "argv", ["sweep", "seed=0", "--engine", "slurm", *options.split()])
    with pytest.raises(UserError) as error:
        sweep.main()
    assert str(error.value) == complaint


def test_missing_commands_of_slurm_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^--engine slurm needs Slurm's commands, and sbatch is not on PATH; "):
        slurm_jobs.SlurmJobs(tmp_path / "jobs", "s", "p", None, 1, 0)


@pytest.mark.parametrize("name", ["a\nid", "a b", "$(id)", "-a", "a'"])
def test_no_text_of_the_user_reaches_a_script_unchecked(tmp_path: Path, name: str):
    for position, values in {
        "name": (tmp_path, name, "p"),
        "partition": (tmp_path, "s", name),
        "folder": (tmp_path / f"{name} ", "s", "p"),
    }.items():
        with pytest.raises(UserError, match=rf"^--{position} must have no signs but letters, digits and [^\n]*$"):
            slurm_jobs.SlurmJobs(*values, None, 1, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path):
    for mode, owner in ((0o777, 0), (0o700, 12345)):
        folder = tmp_path / str(owner)
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, owner, -1)
        with pytest.raises(UserError, match="must be a folder that only its user, 0, can write to"):
            slurm_jobs._make_private(folder)
