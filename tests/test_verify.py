"""tools.verify: planted faults are found, and the first stage concerned is named."""

import copy
import hashlib
import json
import re
import shutil
import subprocess

import matplotlib as mpl
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from stages.autoencoder import figures
from tools import record, verdicts, verify
from tools.verdicts import DIFFERENT, EQUIVALENT, IDENTICAL, Gap

LOCK = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
ORDER = list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])


def judged(committed, found=LOCK, *, misfits=None, gaps=None, explained=()):
    """{stage: verdict} of two locks."""
    stages = verdicts.compare(committed, found, {name: (misfits or {}).get(name, []) for name in ORDER})
    verdicts.judge(stages, gaps or {}, found, explained)
    return {stage.name: stage.verdict for stage in stages}


def flipped(path, *, among="outs", stage=None):
    """dvc.lock with the last bit of one hash the other way."""
    lock = copy.deepcopy(LOCK)
    for name, entry in lock.items():
        for item in entry.get(among, []):
            if item["path"] == path and stage in (None, name):
                digits, dot, kind = item["md5"].partition(".")
                item["md5"] = f"{digits[:-1]}{int(digits[-1], 16) ^ 1:x}{dot}{kind}"
    assert lock != LOCK
    return lock


def first_different(verdict_of):
    return next(name for name in ORDER if verdict_of[name] == DIFFERENT)


def test_a_lock_that_came_out_again_is_identical_in_every_stage():
    assert set(judged(LOCK).values()) == {IDENTICAL}


@pytest.mark.parametrize(("stage", "path"), [(name, out["path"]) for name in ORDER for out in LOCK[name]["outs"]])
def test_one_flipped_bit_in_the_hash_of_an_out_is_found_in_its_stage(stage, path):
    assert first_different(judged(flipped(path))) == stage
    everything = [out["path"] for entry in LOCK.values() for out in entry["outs"]]
    read = any(dep["path"] == path for entry in LOCK.values() for dep in entry["deps"])
    # another CPU may explain other bytes, but not that dvc.lock contradicts itself
    assert (DIFFERENT in judged(flipped(path), explained=everything).values()) == read


def test_one_flipped_bit_in_the_hash_of_an_input_is_found_in_the_stage_that_reads_it():
    lock = flipped("data/split/train.safetensors", among="deps", stage="embed")
    assert [name for name, verdict in judged(lock).items() if verdict != IDENTICAL] == ["embed"]


def test_a_stage_of_which_the_lock_knows_nothing_is_different():
    lock = {name: entry for name, entry in LOCK.items() if name != "embed"}
    assert judged(lock)["embed"] == DIFFERENT


def test_other_bytes_are_equivalent_only_within_the_tolerance_and_with_an_explanation():
    lock = flipped("data/baseline.safetensors")
    for entry in lock.values():
        for dep in entry["deps"]:
            if dep["path"] == "data/baseline.safetensors":
                dep["md5"] = "0" * 32
        for out in entry["outs"]:
            if out["path"] == "data/baseline.safetensors":
                out["md5"] = "0" * 32
    outs = ["data/baseline.safetensors"]
    near, far = (Gap("pca_mse", 1.0, 1 + size * verdicts.TOLERANCE) for size in (0.9, 1.2))
    assert judged(lock, explained=outs)["baseline"] == EQUIVALENT
    assert judged(lock)["baseline"] == DIFFERENT
    # baseline has no metrics of its own: those of evaluate, which reads it, decide
    assert judged(lock, gaps={"evaluate": near, "train": None}, explained=outs)["baseline"] == EQUIVALENT
    assert judged(lock, gaps={"evaluate": far, "train": None}, explained=outs)["baseline"] == DIFFERENT
    assert judged(lock, gaps={"evaluate": None, "train": far}, explained=outs)["baseline"] == EQUIVALENT


def test_the_largest_gap_is_relative_and_a_missing_metric_is_the_largest():
    assert verdicts.largest_gap({"a": 100.0, "b": 1.0}, {"a": 101.0, "b": 1.5}) == Gap("b", 1.0, 1.5)
    assert verdicts.largest_gap({"a": 1.0, "b": 2.0}, {"a": 3.0}).name == "b"
    assert verdicts.largest_gap({"a": 0.0}, {"a": 0.0}) is None
    assert Gap("b", 1.0, 1.25).size == pytest.approx(0.2)


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
    """A pipeline of trivial stages with the lock that `dvc repro` would write; `second` has the time in its out."""
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
    subprocess.run(["git", "init", "-q"], check=True)
    return tmp_path


def hash_of(text):
    return {"md5": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), "size": len(text)}


def commit():
    author = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", *author, "commit", "-qm", "state"], check=True)


@pytest.mark.skipif(not shutil.which("dvc"), reason="dvc is not on PATH")
def test_an_out_that_depends_on_the_time_new_code_and_an_edited_metric_are_found_in_a_clone(toy, tmp_path_factory):
    record.write()
    with (toy / "first.py").open("a") as file:
        file.write("# changed without a new lock\n")
    (toy / "metrics/third.json").write_text('{"error": 2.9}')
    commit()
    stages, notes = verify.verify(tmp_path_factory.mktemp("place"))
    said = {stage.name: " ".join(stage.faults) for stage in stages}
    assert [stage.verdict for stage in stages] == [DIFFERENT] * 3
    assert said["first"] == "deps not as in dvc.lock: first.py"
    assert "other bytes in each run: data/two" in said["second"]
    assert "outs not as in dvc.lock: metrics/third.json" in said["third"]
    assert notes == ["environment: as in environment.json"]


def test_the_environment_is_recorded_for_the_committed_lock_and_the_pinned_packages():
    recorded = record.read((ROOT / record.RECORD).read_text())
    mark = record.lock_mark((ROOT / record.LOCK).read_bytes())
    assert recorded["dvc.lock"] == mark, "after dvc repro: python -m tools.verify --record"
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    for name, version in recorded["packages"].items():
        assert version.partition("+")[0] == pins.get(name, version.partition("+")[0]), name
    assert set(recorded) == {"dvc.lock", *record.current()}


def test_every_package_that_the_stages_import_is_recorded():
    names = {"scikit-learn": "sklearn", "pillow": "PIL", "ruamel.yaml": "ruamel", "scikit-image": "skimage"}
    modules = {names.get(name, name) for name in (*record.NUMBERS, *record.PICTURES)}
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    code = "\n".join(path.read_text() for path in (ROOT / "stages").rglob("*.py"))
    for name in pinned:
        module = names.get(name, name).replace("-", "_")
        if re.search(rf"^\s*(from|import) {module}\b", code, re.MULTILINE):
            assert module in modules, name


def test_a_difference_of_the_environment_says_what_it_may_explain():
    here = record.current()
    other = {**here, "cpu": "another", "packages": {**here["packages"], "pillow": "0"}}
    found = record.differences(other, here)
    assert set(found) == {"cpu", "pillow"}
    assert found["cpu"].endswith("may explain other numbers")
    assert found["pillow"].endswith("may explain other pictures")


def test_committed_pictures_hold_pixels_alone():
    """No date, no software version, no text: the chunks of each PNG are header, palette, data, end."""
    for path in sorted((ROOT / "plots").rglob("*.png")):
        content, place, kinds = path.read_bytes(), 8, set()
        while place < len(content):
            kinds.add(content[place + 4 : place + 8])
            place += 12 + int.from_bytes(content[place : place + 4], "big")
        assert kinds <= {b"IHDR", b"PLTE", b"IDAT", b"IEND"}, path


def test_a_matplotlibrc_of_the_user_changes_no_picture(tmp_path):
    def draw(name):
        with figures.drawing(tmp_path / name, 2, 2) as figure:
            figure.subplots().plot([1, 2], label="line")
        return (tmp_path / name).read_bytes()

    plain = draw("plain.png")
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert draw("changed.png") == plain
        assert mpl.rcParams["font.size"] == 20


def test_the_record_names_no_host_and_no_path():
    text = (ROOT / record.RECORD).read_text()
    assert json.loads(text)
    assert "/" not in text.replace('"', "")
