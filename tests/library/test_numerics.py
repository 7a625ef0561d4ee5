"""The pins of stages/runtime/numerics.py: what may not reach a number."""

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

from stages.runtime import numerics

PRODUCTS = """
import os, sys
os.sched_setaffinity(0, set(map(int, sys.argv[1:])))
import stages.runtime.numerics
import hashlib
import numpy as np
images = np.random.default_rng(0).standard_normal((600, 300)).astype(np.float32)
spread = images.T @ images
axes = np.linalg.eigh(spread)[1]
print(hashlib.sha256(spread.tobytes() + axes.tobytes()).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind a process to cores")
def test_the_number_of_cores_does_not_reach_principal_axes():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        pytest.skip("needs two cores")
    found = {
        subprocess.check_output([sys.executable, "-c", PRODUCTS, *map(str, some)], cwd=ROOT)
        for some in (cores[:1], cores)
    }
    assert len(found) == 1


FAULTS = """
import resource, stages.runtime.numerics, torch
from stages.autoencoder.model import devices
devices.prepare("cpu", "fast")
def step():
    layers = [torch.ones(2_000_000)]
    for _ in range(8):
        layers.append(layers[-1] + 1)
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system has another malloc than glibc's")
def test_memory_that_a_step_frees_serves_the_next():
    """Pages that the kernel had to give: 72 MB are 17,578 of 4 KiB in each of the ten steps where they are returned.

    Fewer than one step's in all ten, not none: where a block finds its place cut up, malloc asks for another.
    """
    assert int(subprocess.check_output([sys.executable, "-c", FAULTS], cwd=ROOT)) < 17_578


def test_pins_that_come_too_late_warn():
    code = "import numpy, stages.runtime.numerics"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "stages.runtime.numerics pins nothing of numpy: import it first" in done.stderr
    code = "import stages.runtime.numerics, numpy"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_python_without_the_packages_is_told_in_one_line(tmp_path):
    """`-S` leaves out site-packages, as a Python outside the environment would."""
    command = [sys.executable, "-S", "-m", "stages.check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == f"python: must have the locked packages; {sys.executable} lacks pydantic; . .venv/bin/activate\n"
    )


@pytest.mark.parametrize(
    ("running", "threads", "idle"), [("1", 2, True), ("1", 3, False), ("2", 2, False), ("2", 1, True)]
)
def test_cores_are_idle_where_few_other_threads_run(running, threads, idle, tmp_path, monkeypatch):
    monkeypatch.setattr(numerics, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    numerics.LOAD.write_text(f"9.00 9.00 9.00 {running}/300 4711\n")
    assert numerics.has_idle_cores(threads) == idle


@pytest.mark.parametrize("content", [None, "", "1 2 3", "1 2 3 x/y 4"])
def test_cores_count_as_busy_where_the_system_does_not_tell(content, tmp_path, monkeypatch):
    monkeypatch.setattr(numerics, "LOAD", tmp_path / "loadavg")
    if content is not None:
        numerics.LOAD.write_text(content)
    assert not numerics.has_idle_cores(1)


SPIN = "import os; import stages.runtime.numerics; print(os.environ.get('GOMP_SPINCOUNT'))"


def test_the_wait_policy_of_the_user_wins():
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment.pop("OMP_WAIT_POLICY", None)
    for policy, expected in (({}, {numerics.SPIN, numerics.SHORT_SPIN}), ({"OMP_WAIT_POLICY": "active"}, {"None"})):
        command = [sys.executable, "-c", SPIN]
        assert subprocess.check_output(command, cwd=ROOT, env=environment | policy, text=True).strip() in expected
