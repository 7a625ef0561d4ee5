"""tools.repair: it removes what a loss of power or a kill has damaged, and nothing else."""

import functools
import hashlib
import subprocess
import sys

import pytest
from conftest import ROOT

from tools import repair
from tools.workspace import commands


def test_only_damaged_cache_files_are_found(tmp_path):
    """As a loss of power leaves them: cut, empty, exchanged; and an empty entry of the run cache."""
    whole, other = b"[]", b"something else"
    contents = {"whole": (whole, whole), "folder": (whole, whole), "cut": (other, other[:5]), "empty": (b"no", b"")}
    paths = {}
    for name, (intended, _) in contents.items():
        digest = hashlib.md5(intended, usedforsecurity=False).hexdigest()
        ending = ".dir" if name == "folder" else ""
        paths[name] = tmp_path / repair.OBJECTS / digest[:2] / (digest[2:] + ending)
    paths |= {"run": tmp_path / repair.RUN_CACHE / "0a/b/c", "empty run": tmp_path / repair.RUN_CACHE / "0a/b/d"}
    contents |= {"run": (b"", b"outs: []"), "empty run": (b"", b"")}
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[name][1])
    assert set(repair.damaged_cache_files(tmp_path)) == {paths["cut"], paths["empty"], paths["empty run"]}
    assert not list(repair.empty_run_folders(tmp_path))
    paths["run"].unlink()
    paths["empty run"].unlink()
    assert list(repair.empty_run_folders(tmp_path)) == [tmp_path / repair.RUN_CACHE / "0a/b"]


@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock"])
@pytest.mark.parametrize(
    ("content", "damaged"),
    [
        (b"", True),
        (b"\x00" * 512, True),
        (b'{"/a": {"wri', True),
        (b"schema: '2.0'\n", False),
        (b"schema: '2.0' # \xc3\xa9\n", False),
        (b'{"/a": {"write": {"pid": 1, "cmd": "dvc repro"}}}', False),
        (b"{}", False),
    ],
)
def test_a_lock_that_dvc_would_stop_at_is_found(tmp_path, name, content, damaged):
    lock = tmp_path / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_bytes(content)
    assert list(repair.damaged_locks(tmp_path)) == [lock] * damaged


def test_dvc_runs_again_after_its_own_lock_was_cut_short(tmp_path):
    """DVC itself says which file it cannot read; after tools.repair it can."""
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo 1 > a, outs: [a]}}")
    environment = commands.worker_environment() | {"PYTHONPATH": str(ROOT)}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run(["dvc", "init", "--no-scm", "-q"]).returncode == 0
    (tmp_path / ".dvc/tmp/rwlock").write_text("")
    assert ".dvc/tmp/rwlock" in run(["dvc", "repro"]).stderr
    repaired = run([sys.executable, "-m", "tools.repair"])
    assert (repaired.returncode, repaired.stderr) == (0, "")
    assert run(["dvc", "repro"]).returncode == 0


def test_help_repairs_nothing(tmp_path):
    """Outside a DVC repository a repair would end with status 1."""
    command = [sys.executable, "-m", "tools.repair", "--help"]
    ended = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "loss of power" in ended.stdout
