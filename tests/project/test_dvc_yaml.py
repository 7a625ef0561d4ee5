"""dvc.yaml and dvc.lock, held against the code: what DVC is told is what the code does."""

import ast
import hashlib
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.fs import LocalFileSystem
from dvc.ignore import DvcIgnoreFilter
from dvc.repo import Repo
from ruamel.yaml import YAML

from dev.stage_dependencies import closure, code_dependencies, fold, modules_in
from stages.autoencoder.params.download import DEFAULT_FOLDER
from tests.support.source_tree import imports, tree

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
COMPUTED = {"numerics", "threads"}  # read through stages/runtime/numerics.py
MAX_DVC_YAML_LINES = 280
LEFT_BY_EDITORS = [
    *("__pycache__/a.cpython-311.pyc", "a.pyc", "a.pyo", ".ipynb_checkpoints/a-checkpoint.py"),
    *(".a.py.swp", ".a.py.swo", "a.py~", ".#a.py", "#a.py#", "a.py.bak", "a.py.orig", "a.py.rej", "a.py.save"),
    *(".a.py.un~", "4913", ".idea/workspace.xml", ".vscode/settings.json", ".DS_Store", "._a.py", "Thumbs.db"),
    *("desktop.ini", ".nfs0000a1", ".a.py.1.part", "sub/__pycache__/b.cpython-311.pyc", "sub/b.py~"),
]


def is_code(dep):
    return dep.startswith("stages/")


def outputs_of(stage):
    """What a stage writes: outs, metrics and plots, as paths."""
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[stage].get(kind, []):
            yield entry if isinstance(entry, str) else next(iter(entry))


def views(stage):
    """The classes that a stage hands to loader.load()."""
    module = __import__(f"stages.{stage}", fromlist=["main"])
    for node in ast.walk(tree(f"stages/{stage}.py")):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "loader.load":
            yield getattr(module, node.args[0].id)


def dvc_hash(path: Path, root: Path = ROOT) -> str:
    """The MD5 by which dvc.lock names a file or, with .dir at its end, a folder of the repository at root."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    ignored = DvcIgnoreFilter(LocalFileSystem(), str(root))
    files = (file for file in path.rglob("*") if file.is_file() and not ignored.is_ignored_file(str(file)))
    listed = {file.relative_to(path).as_posix(): dvc_hash(file) for file in files}
    entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(listed.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_import_closure(stage):
    declared = [dep for dep in STAGES[stage]["deps"] if is_code(dep)]
    covered = [path for dep in declared for path in (modules_in(dep, ROOT) if (ROOT / dep).is_dir() else {dep})]
    assert sorted(covered) == sorted(closure(f"stages.{stage}", ROOT))  # nothing missing, idle or listed twice
    assert declared == code_dependencies(stage, ROOT)  # a folder wherever one is imported whole


def test_dependencies_are_data_first_and_code_last():
    for stage, entry in STAGES.items():
        kinds = [is_code(dep) for dep in entry["deps"]]
        assert kinds == sorted(kinds), stage
        assert kinds[-1], stage


def test_folder_stands_for_its_modules_only_when_all_are_imported(tmp_path):
    for path in ("p/__init__.py", "p/a.py", "p/q/__init__.py", "p/q/b.py", "p/q/c.py", "d.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).touch()
    assert fold({"p/a.py", "p/q/b.py", "p/q/c.py", "d.py"}, tmp_path) == ["d.py", "p"]
    assert fold({"p/q/b.py", "p/q/c.py"}, tmp_path) == ["p/q"]
    assert fold({"p/a.py", "p/q/b.py"}, tmp_path) == ["p/a.py", "p/q/b.py"]


def test_closure_follows_imports_inside_functions(tmp_path):
    (tmp_path / "a.py").write_text("import json\ndef f():\n    from p import b\n")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/__init__.py").touch()
    (tmp_path / "p/b.py").write_text("import p.c\n")
    (tmp_path / "p/c.py").write_text("from p.b import x\n")
    (tmp_path / "p/d.py").touch()
    assert closure("a", tmp_path) == {"a.py", "p/b.py", "p/c.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_those_read(stage):
    declared = {key if isinstance(key, str) else next(iter(key)) for key in STAGES[stage].get("params", [])}
    if stage == "check":
        assert declared == {"params.yaml"}
        return
    read = {name for view in views(stage) for name in view.model_fields}
    assert declared | COMPUTED == read | COMPUTED


def test_only_a_stage_that_computes_declares_how():
    for stage in STAGES:
        # every stage has the module below, which imports torch where train is to run in several processes
        paths = closure(f"stages.{stage}", ROOT) - {"stages/runtime/processes.py"}
        imported = {name for path in paths for name in imports(path)}
        computes = bool(imported & {"torch", "sklearn.decomposition", "sklearn.cluster"})
        declares = set(STAGES[stage]["params"]) & COMPUTED if stage != "check" else COMPUTED
        # check and download import torch for a device and for torchvision, and compute nothing with it
        assert declares == (COMPUTED if computes or stage == "evaluate" else set()) or stage in ("check", "download")


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "check"])
def test_every_declared_key_is_used(stage):
    used = {
        node.attr
        for path in closure(f"stages.{stage}", ROOT)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
    }
    whole = "model_dump(exclude" in (ROOT / "stages/autoencoder/training/loop.py").read_text()

    def leaves(section):
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                if not (whole and name == "augment"):  # handed on as keyword arguments, whole
                    yield from leaves(field.annotation)
            else:
                yield name

    for view in views(stage):
        assert set(leaves(view)) <= used


def test_every_stage_is_described_and_runs_as_a_module():
    for stage, entry in STAGES.items():
        assert entry["desc"]
        assert entry["cmd"] == f"python -m stages.{stage}"


def test_training_is_not_told_which_images_are_the_test_part():
    assert not [dep for dep in STAGES["train"]["deps"] if "test" in dep]
    assert not re.search(r"\bTEST\b|test\.safetensors", (ROOT / "stages/train.py").read_text())


def test_every_stage_depends_on_check():
    made_by = {path: stage for stage in STAGES for path in outputs_of(stage)}

    def upstream(stage):
        for dep in STAGES[stage]["deps"]:
            if dep in made_by:
                yield made_by[dep]
                yield from upstream(made_by[dep])

    for stage in STAGES:
        assert stage == "check" or "check" in set(upstream(stage))


def test_metrics_and_plots_are_outs_kept_by_git():
    for stage in STAGES:
        for kind in ("metrics", "plots"):
            for entry in STAGES[stage].get(kind, []):
                assert next(iter(entry.values()))["cache"] is False, (stage, entry)


@pytest.mark.parametrize("page", ["docs/pipeline.md"])
def test_stage_table_is_dvc_yaml(page):
    rows = {}
    for line in (ROOT / page).read_text().splitlines():
        if cells := re.fullmatch(r"\| `(\w+)` \| ?(.*) \| (.*) \| (.*) \|", line):
            rows[cells[1]] = [set(re.findall(r"`([^`]+)`", cell)) for cell in cells.groups()[1:]]
    assert list(rows) == list(STAGES)
    for stage, (reads, writes, params) in rows.items():
        assert reads == {dep for dep in STAGES[stage]["deps"] if not is_code(dep)}, stage
        assert writes == set(outputs_of(stage)), stage
        declared = [key if isinstance(key, str) else next(iter(key)) for key in STAGES[stage].get("params", [])]
        assert params == set(declared), stage


def test_readme_numbers_are_the_committed_metrics():
    metrics = json.loads((ROOT / "metrics/evaluate.json").read_text())
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) >= 5
    for name, number in rows:
        decimals = len(number.partition(".")[2])
        assert f"{metrics[name]:.{decimals}f}" == number, name


def test_lock_fits_what_is_committed():
    """The hashes of what git has are those in dvc.lock: code files and folders, metrics, plots."""
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    assert set(lock) == set(STAGES)
    for name, stage in lock.items():
        deps = [dep.replace("${download.folder}", DEFAULT_FOLDER) for dep in STAGES[name]["deps"]]
        assert [dep["path"] for dep in stage["deps"]] == sorted(deps)
        for entry in [*stage["deps"], *stage.get("outs", [])]:
            if (ROOT / entry["path"]).exists() and not entry["path"].startswith("data/"):
                assert dvc_hash(ROOT / entry["path"]) == entry["md5"], entry["path"]


def test_dvc_yaml_is_short():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) < MAX_DVC_YAML_LINES


def test_folder_hash_ignores_what_editors_leave(tmp_path):
    repo = Repo.init(str(tmp_path), no_scm=True)
    (tmp_path / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    stage = {"cmd": "true", "deps": ["stages/code"], "outs": ["out"]}
    YAML().dump({"stages": {"only": stage}}, tmp_path / "dvc.yaml")
    for name in ("a.py", "sub/b.py", "a-b/c.py", "a/d.py"):
        (tmp_path / "stages/code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stages/code" / name).write_text(f"# {name}\n")

    def folder_hash() -> str:
        with Repo(str(tmp_path)) as repo:
            (dep,) = repo.index.deps
            return str(dep.get_hash().value)

    clean = folder_hash()
    assert clean == dvc_hash(tmp_path / "stages/code", tmp_path)
    for name in LEFT_BY_EDITORS:
        (tmp_path / "stages/code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stages/code" / name).write_text("left behind")
        assert folder_hash() == clean, name
    assert clean == dvc_hash(tmp_path / "stages/code", tmp_path)
    (tmp_path / "stages/code/sub/b.py").write_text("changed")
    assert folder_hash() != clean
    repo.close()
