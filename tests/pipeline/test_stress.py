"""Small versions of the stress tests on toy pipelines; those with bad input are in test_reliability.py."""

import random
import subprocess
import sys

import pytest

from stages.autoencoder.core.errors import UserError
from tests.stress import __main__ as stress
from tests.stress import cluster_kills, emulation, kills, model_kills
from tools.workspace.copies import commit_all

TOY_DVC = """
stages:
  first:
    cmd: python -m stages.first
    outs: [first.txt]
  second:
    cmd: python -m stages.second
    deps: [first.txt]
    metrics: [second.txt: {cache: false}]
"""
TOY_STAGE = """
import time
with open("{name}.txt", "w") as file:
    print("half", file=file, flush=True)
    time.sleep(0.5)
    print("whole", file=file)
"""


def try_once(try_trials, template, folder, before=""):
    """The number of faults in one trial."""
    return try_trials(template, folder, 1, random.Random(0), before)  # noqa: S311


def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_killed_dvc_repro_runs_to_the_undisturbed_outputs(tmp_path, capsys):
    files = {f"stages/{name}.py": TOY_STAGE.format(name=name) for name in ("first", "second")}
    files |= {"stages/__init__.py": "", "dvc.yaml": TOY_DVC, ".dvc/config": "[core]\n    analytics = false\n"}
    template = write_files(tmp_path / "template", files)
    commit_all(template)
    assert try_once(kills.try_kills, template, tmp_path) == 0
    printed = capsys.readouterr().out
    assert "1/1 SIGKILL to group after" in printed
    assert ": the same" in printed  # DVC may have needed a repair: it rewrites .dvc/tmp/rwlock in place


@pytest.fixture
def script_template(tmp_path):
    """A function that makes a template whose `sh repro.sh` stands in for `dvc repro`; tools.repair does nothing."""

    def make(script):
        return write_files(tmp_path / "template", {"repro.sh": script, "tools/__init__.py": "", "tools/repair.py": ""})

    return make


SCRIPTS = {  # {how a run differs from the others: (the script, the fault that is reported)}
    "in nothing": ("echo same > out", "the same"),
    "in the content of a file": ("echo $$ > out", "status 0, differ: ['out']"),
    "in the name of a file": ("touch left.$$", "status 0, differ: ['left."),
    "in its exit status": ("test ! -e ../ran && touch ../ran", "status 1, differ: []"),
}


@pytest.mark.parametrize("difference", SCRIPTS)
def test_run_after_a_kill_that_differs_is_a_fault(difference, script_template, tmp_path, capsys):
    script, fault = SCRIPTS[difference]
    faults = try_once(kills.try_kills, script_template(script), tmp_path, "sh repro.sh")
    assert faults == (fault != "the same")
    assert f"in dvc itself: {fault}" in capsys.readouterr().out


def test_a_lock_that_the_kill_cut_short_is_repaired(script_template, tmp_path, capsys):
    """The script, as DVC does, stops at an empty .dvc/tmp/rwlock; all but the undisturbed run leave one."""
    script = """test ! -e .dvc/tmp/rwlock || exit 255
    test ! -e ../ran || { mkdir -p .dvc/tmp; touch .dvc/tmp/rwlock; }
    touch ../ran; echo same > out"""
    assert try_once(kills.try_kills, script_template(script), tmp_path, "sh repro.sh") == 0
    assert "in dvc itself: the same, after a repair\n" in capsys.readouterr().out


@pytest.mark.parametrize("difference", ["in nothing", "in the content of a file"])
def test_run_after_a_loss_of_power_that_differs_is_a_fault(difference, script_template, tmp_path, capsys):
    if obstacle := kills.find_power_obstacle():
        pytest.skip(obstacle)
    script, fault = SCRIPTS[difference]
    faults = try_once(kills.try_power_losses, script_template(script), tmp_path, "sh repro.sh")
    assert faults == (fault != "the same")
    assert f": {fault}" in capsys.readouterr().out


def test_undisturbed_run_that_fails_ends_the_trials(script_template, tmp_path):
    template = script_template("echo no data; exit 3")
    with pytest.raises(UserError, match=r"^kills: the undisturbed run failed: no data"):
        try_once(kills.try_kills, template, tmp_path, "sh repro.sh")


EMULATOR = """#!/bin/sh
# called as: emulator -cpu MODEL python -m stages.NAME
model=$2
shift 2
case "$model $*" in
    "crashes "*second) echo "uncaught target signal 11" >&2; exit 139 ;;
esac
"$@" || exit
case "$model $*" in
    "errs "*second) printf x >> second.txt ;;
esac
"""
STAGE = 'from pathlib import Path; Path("{name}.txt").write_text(Path("params.yaml").read_text())'


@pytest.fixture
def toy_emulation(tmp_path, monkeypatch):
    """Trivial stages and cases, and an emulator that runs the command itself, crashes or errs in the stage second."""
    files = {f"stages/{name}.py": STAGE.format(name=name) for name in (*emulation.DATA_STAGES, "first", "second")}
    files |= {"stages/fails.py": "raise SystemExit('out of order')", "stages/__init__.py": ""}
    files |= {"params.yaml": "epochs: 5\n", "emulator": EMULATOR}
    write_files(tmp_path, files)
    (tmp_path / "emulator").chmod(0o755)
    case = emulation.Case("two stages", {"epochs": 1}, ["first", "second"])
    monkeypatch.setattr(emulation, "ROOT", tmp_path)
    monkeypatch.setattr(emulation, "QEMU", str(tmp_path / "emulator"))
    monkeypatch.setattr(emulation, "CASES", {"broken": case._replace(stages=["fails"]), "toy": case})
    monkeypatch.setattr(emulation, "find_obstacle", lambda: None)


def test_emulated_cpu_that_fails_or_differs_stops_no_other(toy_emulation, monkeypatch, capsys):
    models = ["crashes", "errs", "agrees"]
    monkeypatch.setattr(sys, "argv", ["emulation", *(f"--cpu={model}" for model in models)])
    with pytest.raises(UserError, match=r"^emulation: every emulated CPU must give the same files as this one"):
        emulation.main()
    assert capsys.readouterr().out.splitlines() == [
        "broken: two stages; fails",
        "  this machine: fails failed: out of order",
        "toy: two stages; first, second",
        "  crashes: second failed: uncaught target signal 11",
        "  errs: different, first in second: second.txt",
        "  agrees: identical, 2 files",
    ]


def test_identical_files_pass(toy_emulation, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["emulation", "toy", "--cpu", "agrees"])
    emulation.main()


def test_unknown_case_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["emulation", "umap"])
    with pytest.raises(UserError, match=r"^emulation: a case must be one of conv, mlp, small, pca; got umap$"):
        emulation.main()


def test_emulation_needs_x86_linux_and_qemu(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(emulation.platform, "machine", lambda: "aarch64")
    assert emulation.find_obstacle() == "must run on x86-64 Linux; got linux on aarch64"
    monkeypatch.setattr(emulation.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(emulation, "QEMU", "no-such-emulator")
    assert emulation.find_obstacle().startswith("no-such-emulator must be on PATH; not found; install it")


def test_killed_tools_model_leaves_a_whole_output_or_none(tmp_path, monkeypatch):
    model_kills.make_inputs(tmp_path, 20)
    monkeypatch.setattr(model_kills, "VERBS", model_kills.VERBS[2:])
    assert model_kills.try_kills(tmp_path, 1, random.Random(0)) == 0  # noqa: S311
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "photos"]


def test_a_half_written_output_of_tools_model_is_a_fault(tmp_path, monkeypatch, capsys):
    def start(verb, folder):
        script = "echo 1 > codes.csv; sleep 1; echo 2 >> codes.csv"
        return subprocess.Popen(["sh", "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(model_kills, "start_verb", start)
    monkeypatch.setattr(model_kills, "VERBS", (("encode",),))
    assert model_kills.try_kills(tmp_path, 1, random.Random(0)) == 1  # noqa: S311
    assert "['codes.csv'] are there" in capsys.readouterr().out


@pytest.fixture
def run_stress(monkeypatch):
    """A function that runs `python -m tests.stress` without starting its tests, and returns their arguments.

    failing: the test that exits with status 1. obstacle: keeps power losses from running.
    """

    def run(*arguments, failing="", obstacle=None):
        started = []

        def start(command, **_):
            module, *rest = command[2:]
            started.append(" ".join([module.removeprefix("tests.stress."), *rest]))
            return subprocess.CompletedProcess(command, int(module == f"tests.stress.{failing}"))

        monkeypatch.setattr(stress.subprocess, "run", start)
        monkeypatch.setattr(kills, "find_power_obstacle", lambda: obstacle)
        for module in (cluster_kills, emulation):
            monkeypatch.setattr(module, "find_obstacle", lambda: None)
        monkeypatch.setattr(sys, "argv", ["stress", *arguments])
        try:
            stress.main()
        except UserError as error:
            return started, str(error)
        return started, ""

    return run


def test_numbers_of_trials_reach_the_stress_tests(run_stress):
    started, error = run_stress("--cases", "7", "--kills", "2", "--power", "1", "--cluster", "4")
    assert started == [
        "fuzz --cases 7", "kills --trials 2", "model_kills --trials 2", "kills --power --trials 1",
        "cluster_kills --trials 4", "emulation",
    ]  # fmt: skip
    assert error == ""


def test_stress_test_that_cannot_run_is_listed_and_skipped(run_stress, capsys):
    started, error = run_stress(obstacle="must be run by root")
    assert started == [
        "fuzz --cases 3000", "kills --trials 18", "model_kills --trials 18", "cluster_kills --trials 5", "emulation",
    ]  # fmt: skip
    assert error == ""
    assert "== kills --power --trials 5: skipped; must be run by root\n" in capsys.readouterr().out


def test_stress_test_that_fails_stops_no_other(run_stress):
    started, error = run_stress(failing="fuzz")
    assert len(started) == 6
    assert error == "stress: 1 of 6 tests failed: fuzz --cases 3000; see above"


@pytest.mark.parametrize("name", ["cases", "kills", "power", "cluster"])
def test_zero_trials_are_refused(name, run_stress):
    assert run_stress(f"--{name}", "0") == ([], f"stress: --{name} must be at least 1; got 0")
