"""One model in several processes: what they compute is what one computes, and how they end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ROOT, TINY, merged, yaml
from torch import distributed

from stages import check, download, split, train
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model import devices
from stages.autoencoder.model.random_numbers import SliceGenerator, normal, uniform
from stages.autoencoder.training.group import Group
from tests.support import endings, together

OUTPUTS = [train.MODEL, train.LOSS, train.METRICS, train.STRIP]
CHANGES = {"processes": 2, "threads": 1, "device": "cpu", "train": {"epochs": 5, "batch_size": 33}}


def run(module: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)} | variables
    return subprocess.run([sys.executable, "-m", module], cwd=folder, env=environment, text=True, capture_output=True)


def read_outputs(folder: Path) -> list[bytes]:
    return [(folder / path).read_bytes() for path in [*OUTPUTS, *sorted((folder / train.EPOCHS).iterdir())]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with params.yaml for two processes and the data of the stages before train."""
    folder = tmp_path_factory.mktemp("prepared")
    values = merged(merged(yaml.load((ROOT / "params.yaml").read_text()), TINY), CHANGES)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(values, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (check, download, split):
            stage.main()
    return folder


@pytest.fixture(scope="module")
def together_run(prepared, tmp_path_factory):
    """The folder in which two processes have run tests/support/together.py, and how that ended."""
    folder = tmp_path_factory.mktemp("together")
    for place in (folder, folder / "again"):
        shutil.copytree(prepared, place, dirs_exist_ok=True)
    return folder, run(together.__name__, folder)


@pytest.fixture(scope="module")
def found(together_run):
    """What each of the two processes found."""
    folder, ended = together_run
    assert (folder / "found.0").exists(), ended.stderr
    return [torch.load(folder / f"found.{rank}") for rank in (0, 1)]


@pytest.fixture
def alone(prepared, monkeypatch):
    monkeypatch.chdir(prepared)


@pytest.mark.parametrize("name", together.TRAININGS)
def test_ten_steps_of_two_processes_are_those_of_one(name, found, alone):
    expected = together.run_training(together.TRAININGS[name], torch.float64, together.STEPS)
    for tensors in (found[0][name], found[1][name]):
        for key, tensor in expected.items():
            torch.testing.assert_close(
                tensors[key], tensor, rtol=0, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}"
            )


@pytest.mark.parametrize("name", together.TRAININGS)
def test_the_first_loss_of_two_processes_is_that_of_one(name, found, alone):
    (expected, got) = (
        tensors["train"].item()
        for tensors in (
            together.run_training(together.TRAININGS[name], torch.float32, 1),
            found[0][f"{name}, first step"],
        )
    )
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", together.TRAININGS)
def test_both_processes_have_the_same_bits(name, found):
    for run_name in (name, f"{name}, first step"):
        first, second = (tensors[run_name] for tensors in found)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_batch_norm_is_that_of_torch_on_the_whole_batch(found):
    images = together.make_images()
    expected = together.run_batch_norm(images, slice(0, len(images)), shared=False)
    first, second = (tensors["batch norm"] for tensors in found)
    got = {key: torch.cat([first[key], second[key]]) for key in ("y", "of x")}
    got |= {key: first[key] + second[key] for key in ("of weight", "of bias")}
    got |= {key: first[key] for key in ("running_mean", "running_var")}
    for key, tensor in expected.items():
        torch.testing.assert_close(got[key], tensor, rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


def test_a_killed_training_of_two_processes_resumes_to_the_same_bytes(together_run):
    folder, killed = together_run
    *_, last = killed.stderr.splitlines()
    assert "Traceback" not in killed.stderr
    line = "processes: all 2 must run to their end; number 2 ended with SIGKILL; run again to go on"
    assert (killed.returncode, last) == (1, line)
    again = folder / "again"
    assert not any((again / path).exists() for path in OUTPUTS)
    resumed = run("stages.train", again)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"resumes after epoch [23] of", resumed.stderr)
    assert read_outputs(again) == read_outputs(folder)
    assert not (again / train.UNFINISHED).exists()
    assert not list(folder.glob("stage-*"))


@pytest.mark.parametrize(
    ("ending", "status", "last_line"),
    [
        ("error", 1, "endings: one process must end with an error; got this one"),
        ("traceback", 1, "processes: must not fail; number 2 did, see above; report it"),
        ("parent", -signal.SIGKILL, ""),
    ],
)
def test_processes_end_together(ending, status, last_line, tmp_path):
    ended = run(endings.__name__, tmp_path, ENDING=ending)
    assert ended.returncode == status
    assert ended.stderr.splitlines()[-1:] == [last_line] * bool(last_line)
    assert ended.stderr.count("Traceback") == (ending == "traceback")
    wait_for_the_end_of(tmp_path)
    assert not list(tmp_path.iterdir())


def wait_for_the_end_of(folder: Path) -> None:
    """Wait until no process works in the folder. Fails after ten seconds."""
    for _ in range(100):
        working = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]
        if not working:
            return
        time.sleep(0.1)
    pytest.fail(f"still there: {working}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processes": 0}, "processes must be an integer >= 1 and <= 64; got 0"),
        ({"processes": "two"}, "processes must be an integer >= 1 and <= 64; got 'two'"),
        ({"processes": 33}, "processes must be at most train.batch_size, 32; got 33"),
        ({"processes": 2, "device": "cuda:1"}, "device must be auto, cpu or cuda with several processes; got cuda:1"),
    ],
)
def test_wrong_numbers_of_processes_are_refused(workspace, changes, message):
    workspace(changes)
    with pytest.raises(UserError) as refused:
        check.main()
    assert str(refused.value) == f"params.yaml: {message}"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_processes_than_gpus_are_refused(device, monkeypatch, workspace):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    workspace({"processes": 2, "device": device})
    check.main()
    workspace({"processes": 3, "device": device})
    with pytest.raises(
        UserError, match=r"^params.yaml: processes must be at most the number of cuda devices, 2; got 3;"
    ):
        check.main()
    devices.check_count("cpu", 3)


def test_slices_cover_a_batch_and_count_by_their_images():
    for size in range(1, 8):
        groups = [Group(rank, size) for rank in range(size)]
        covered = [row for group in groups for row in range(33)[group.slice(33)]]
        assert covered == list(range(33))
        lengths = [len(range(33)[group.slice(33)]) for group in groups]
        assert max(lengths) - min(lengths) <= 1
        values = [torch.arange(33.0)[group.slice(33)].mean().item() * group.weight(33) for group in groups]
        assert sum(values) / size == pytest.approx(16)
    assert Group().weight(33) == 1
    with pytest.raises(
        UserError, match=r"^params.yaml: processes must be at most the number of images in a batch, 3; got 4"
    ):
        Group(0, 4).slice(3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_group_of_one_trains_as_one_process(device, alone, tmp_path):
    """On a GPU this is all that is tried of NCCL and SyncBatchNorm: two processes need two GPUs."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    changes = together.TRAININGS["conv"] | {"max_grad_norm": 0}
    expected = together.run_training(changes, torch.float64, 2, device)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        got = together.run_training(changes, torch.float64, 2, device)
    finally:
        distributed.destroy_process_group()
    for key, tensor in expected.items():
        torch.testing.assert_close(got[key], tensor, rtol=0, atol=1e-8)


@pytest.mark.parametrize("draw", [uniform, normal])
def test_slices_draw_what_one_process_draws(draw):
    whole = draw((33, 2, 5), torch.Generator().manual_seed(0))
    groups = [Group(rank, 3) for rank in range(3)]
    generators = [SliceGenerator(torch.device("cpu"), 33, group.slice(33)).manual_seed(0) for group in groups]
    assert torch.equal(torch.cat([draw((11, 2, 5), generator) for generator in generators]), whole)
