"""tools.verify: it finds planted faults and names the first stage concerned."""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import matplotlib as mpl
import pytest
import torch
from conftest import ROOT
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from stages.autoencoder.figures import style
from stages.runtime import numerics
from tools import verify
from tools.verification import environment, verdicts
from tools.verification.verdicts import DIFFERENT, EQUIVALENT, IDENTICAL, MetricDifference
from tools.workspace.copies import commit_all

LOCK = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
ORDER = list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])


def verdicts_of(committed, *, differences=None, explained=()):
    """{stage: verdict}, where a run has given the lock LOCK."""
    results = verdicts.compare_locks(committed, LOCK, {name: [] for name in ORDER})
    verdicts.set_verdicts(results, differences or {}, LOCK, explained)
    return {result.name: result.verdict for result in results}


def flip_hash(path, *, among="outs", stage=None):
    """dvc.lock with the last bit of one hash the other way."""
    lock = copy.deepcopy(LOCK)
    for name, entry in lock.items():
        for item in entry.get(among, []):
            if item["path"] == path and stage in (None, name):
                digits, dot, kind = item["md5"].partition(".")
                item["md5"] = f"{digits[:-1]}{int(digits[-1], 16) ^ 1:x}{dot}{kind}"
    assert lock != LOCK
    return lock


def first_different(verdict):
    return next(name for name in ORDER if verdict[name] == DIFFERENT)


def test_an_equal_lock_is_identical_in_every_stage():
    assert set(verdicts_of(LOCK).values()) == {IDENTICAL}


@pytest.mark.parametrize(("stage", "path"), [(name, out["path"]) for name in ORDER for out in LOCK[name]["outs"]])
def test_a_flipped_bit_in_an_outs_hash_is_found_in_its_stage(stage, path):
    assert first_different(verdicts_of(flip_hash(path))) == stage
    everything = [out["path"] for entry in LOCK.values() for out in entry["outs"]]
    read = any(dep["path"] == path for entry in LOCK.values() for dep in entry["deps"])
    # another CPU may explain other bytes, but not that dvc.lock contradicts itself
    assert (DIFFERENT in verdicts_of(flip_hash(path), explained=everything).values()) == read


def test_a_flipped_bit_in_a_deps_hash_is_found_in_the_stage_that_reads_it():
    lock = flip_hash("data/split/train.safetensors", among="deps", stage="embed")
    assert [name for name, verdict in verdicts_of(lock).items() if verdict != IDENTICAL] == ["embed"]


def test_a_stage_that_the_lock_lacks_is_different():
    lock = {name: entry for name, entry in LOCK.items() if name != "embed"}
    assert verdicts_of(lock)["embed"] == DIFFERENT


def test_other_bytes_are_equivalent_only_within_tolerance_and_if_explained():
    lock = flip_hash("data/baseline.safetensors")
    for entry in lock.values():
        for dep in entry["deps"]:
            if dep["path"] == "data/baseline.safetensors":
                dep["md5"] = "0" * 32
        for out in entry["outs"]:
            if out["path"] == "data/baseline.safetensors":
                out["md5"] = "0" * 32
    outs = ["data/baseline.safetensors"]
    near, far = (MetricDifference("pca_mse", 1.0, 1 + size * verdicts.TOLERANCE) for size in (0.9, 1.2))
    assert verdicts_of(lock, explained=outs)["baseline"] == EQUIVALENT
    assert verdicts_of(lock)["baseline"] == DIFFERENT
    # baseline has no metrics of its own: those of evaluate, which reads it, decide
    assert verdicts_of(lock, differences={"evaluate": near, "train": None}, explained=outs)["baseline"] == EQUIVALENT
    assert verdicts_of(lock, differences={"evaluate": far, "train": None}, explained=outs)["baseline"] == DIFFERENT
    assert verdicts_of(lock, differences={"evaluate": None, "train": far}, explained=outs)["baseline"] == EQUIVALENT


def test_the_largest_difference_is_relative_and_a_missing_metric_is_the_largest():
    assert verdicts.largest_difference({"a": 100.0, "b": 1.0}, {"a": 101.0, "b": 1.5}) == MetricDifference(
        "b", 1.0, 1.5
    )
    assert verdicts.largest_difference({"a": 1.0, "b": 2.0}, {"a": 3.0}).metric == "b"
    assert verdicts.largest_difference({"a": 0.0}, {"a": 0.0}) is None
    assert MetricDifference("b", 1.0, 1.25).size == pytest.approx(0.2)


WRITE = """from pathlib import Path
import time
Path("{out}").parent.mkdir(exist_ok=True)
Path("{out}").write_text({text})
"""
TOY = {  # stage: what it reads, what it writes, the text in it
    "first": ([], "data/one", "'1'"),
    "second": (["data/one"], "data/two", "str(time.time_ns())"),
    "third": (["data/one"], "metrics/third.json", "'{\"error\": 3.0}'"),
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A pipeline of trivial stages with the lock that `dvc repro` would write; `second` writes the time."""
    pipeline, lock = {}, {}
    contents = {"data/one": "1", "data/two": "1700000000000000000", "metrics/third.json": '{"error": 3.0}'}
    for name, (deps, out, text) in TOY.items():
        contents[f"{name}.py"] = WRITE.format(out=out, text=text)
        kind = {"metrics": [{out: {"cache": False}}]} if out.startswith("metrics") else {"outs": [out]}
        pipeline[name] = {"cmd": f"python {name}.py", "deps": [f"{name}.py", *deps], **kind}
        hashed = [{"path": path, "hash": "md5", **hash_of(contents[path])} for path in (f"{name}.py", *deps, out)]
        lock[name] = {"cmd": f"python {name}.py", "deps": hashed[:-1], "outs": hashed[-1:]}
    YAML(typ="safe").dump({"stages": pipeline}, tmp_path / "dvc.yaml")
    YAML(typ="safe").dump({"schema": "2.0", "stages": lock}, tmp_path / "dvc.lock")
    contents |= {".gitignore": "/data\n", ".dvc/config": "", ".dvc/.gitignore": "/cache\n/tmp\n"}
    for path, content in contents.items():
        if not path.startswith("data/"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hash_of(text):
    return {"md5": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), "size": len(text)}


@pytest.mark.skipif(not shutil.which("dvc"), reason="dvc is not on PATH")
def test_a_clone_shows_new_code_an_out_with_the_time_and_an_edited_metric(toy, tmp_path_factory):
    environment.write()
    with (toy / "first.py").open("a") as file:
        file.write("# changed without a new lock\n")
    (toy / "metrics/third.json").write_text('{"error": 2.9}')
    commit_all(toy)
    results, notes = verify.verify(tmp_path_factory.mktemp("place"))
    faults = {result.name: " ".join(result.faults) for result in results}
    assert [result.verdict for result in results] == [DIFFERENT] * 3
    assert faults["first"] == "deps not as in dvc.lock: first.py"
    assert "not deterministic: two runs gave different bytes for data/two" in faults["second"]
    assert "outs not as in dvc.lock: metrics/third.json" in faults["third"]
    assert notes == ["environment: as in environment.json"]


def locked_versions():
    """{package: version} of the lock, with canonical names."""
    pins = re.findall(r"^([\w.-]+)==([\w.+]+)", environment.LOCKED_PACKAGES.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def test_the_environment_is_recorded_for_the_committed_lock_and_the_locked_packages():
    recorded = environment.parse((ROOT / environment.ENVIRONMENT_FILE).read_text())
    md5 = environment.lock_md5((ROOT / environment.LOCK_FILE).read_bytes())
    assert recorded["dvc.lock"] == md5, "after dvc repro: python -m tools.verify --record"
    locked = locked_versions()
    assert set(recorded["packages"]) == environment.stage_packages()
    for name, version in recorded["packages"].items():
        assert version.partition("+")[0] == locked[name].partition("+")[0], name
    assert set(recorded) == {"dvc.lock", *environment.current()}


IMPORTED = """
import sys
from importlib.metadata import packages_distributions
from stages import baseline, check, classify, download, embed, evaluate, reconstruct, sample, split, train
packages = packages_distributions()
print(*{name for module in list(sys.modules) for name in packages.get(module.partition(".")[0], ())})
"""
# imported by the packages above them only if they are installed: for the terminal, for charts of networks, for the web
OPTIONAL = {"rich", "pydot", "charset-normalizer", "colorama"}


def test_every_locked_package_that_the_stages_import_is_recorded():
    imported = subprocess.check_output([sys.executable, "-c", IMPORTED], cwd=ROOT, text=True).split()
    imported = {canonicalize_name(name) for name in imported} & locked_versions().keys()
    assert len(imported) > 10
    recorded = environment.stage_packages()
    assert imported - OPTIONAL <= recorded
    code = "\n".join(path.read_text() for path in (ROOT / "stages").rglob("*.py"))
    for module, packages in packages_distributions().items():
        if re.search(rf"^\s*(from|import) {module}\b", code, re.MULTILINE):
            assert {canonicalize_name(name) for name in packages} <= recorded, module


def test_only_packages_for_drawing_explain_only_pictures():
    """By hand: what matplotlib alone requires. NumPy, pandas' dates and Pillow's decoding serve numbers too."""
    assert environment.drawing_packages() == {
        "matplotlib",
        *("contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing"),
    }


@pytest.mark.parametrize("params", ["numerics: portable\nthreads: 3\n", "numerics: fast\nthreads: 3\n", "no: yes\n"])
def test_the_recorded_threads_are_those_of_a_stage(tmp_path, monkeypatch, params):
    (tmp_path / "params.yaml").write_text(params)
    code = "import os; from stages.runtime import numerics; print(os.environ.get('OMP_NUM_THREADS', 'of torch'))"
    unpinned = {name: os.environ[name] for name in os.environ.keys() - {*numerics.PORTABLE, *numerics.THREAD_VARIABLES}}
    variables = unpinned | {"PYTHONPATH": str(ROOT)}
    pinned = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=variables, text=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: "of torch")
    assert str(environment.current(tmp_path)["threads"]) == pinned.strip()


def test_a_difference_of_the_environment_says_what_it_may_explain():
    here = environment.current()
    other = {**here, "cpu": "another", "packages": {**here["packages"], "matplotlib": "0"}}
    differences = environment.differences(other, here)
    assert set(differences) == {"cpu", "matplotlib"}
    assert differences["cpu"].endswith("may explain other numbers")
    assert differences["matplotlib"].endswith("may explain other pictures")


def test_committed_pictures_hold_only_pixels():
    """No date, no software version, no text: the chunks of each PNG are header, palette, data, end."""
    for path in sorted((ROOT / "plots").rglob("*.png")):
        content, position, kinds = path.read_bytes(), 8, set()
        while position < len(content):
            kinds.add(content[position + 4 : position + 8])
            position += 12 + int.from_bytes(content[position : position + 4], "big")
        assert kinds <= {b"IHDR", b"PLTE", b"IDAT", b"IEND"}, path


def test_a_users_matplotlibrc_changes_no_picture(tmp_path):
    def draw(name):
        with style.drawing(tmp_path / name, 2, 2) as figure:
            figure.subplots().plot([1, 2], label="line")
        return (tmp_path / name).read_bytes()

    plain = draw("plain.png")
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert draw("changed.png") == plain
        assert mpl.rcParams["font.size"] == 20


def test_the_recorded_environment_has_no_path():
    text = (ROOT / environment.ENVIRONMENT_FILE).read_text()
    assert json.loads(text)
    assert "/" not in text.replace('"', "")
