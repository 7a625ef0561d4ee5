"""The rules of the layout, held against the code: what DVC is told is what the code does."""

import ast
import hashlib
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, stage_names
from ruamel.yaml import YAML

from tools.dependencies import closure

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
COMPUTED = {"numerics", "threads"}  # read through stages/__init__.py


def tree(path):
    return ast.parse((ROOT / path).read_text())


def data_of(stage):
    """What a stage writes: outs, metrics and plots, as paths."""
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[stage].get(kind, []):
            yield entry if isinstance(entry, str) else next(iter(entry))


def views(stage):
    """The classes that a stage hands to read()."""
    module = __import__(f"stages.{stage}", fromlist=["main"])
    for node in ast.walk(tree(f"stages/{stage}.py")):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read":
            yield getattr(module, node.args[0].id)


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_import_closure(stage):
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == closure(f"stages.{stage}", ROOT)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_those_read(stage):
    declared = {key if isinstance(key, str) else next(iter(key)) for key in STAGES[stage].get("params", [])}
    if stage == "check":
        assert declared == {"params.yaml"}
        return
    read = {name for view in views(stage) for name in view.model_fields}
    assert declared | COMPUTED == read | COMPUTED


def test_only_a_stage_that_computes_declares_how_numbers_are_computed():
    for stage in STAGES:
        imported = {name for path in closure(f"stages.{stage}", ROOT) for name in imports(path)}
        computes = bool(imported & {"torch", "sklearn.decomposition", "sklearn.cluster"})
        declares = set(STAGES[stage]["params"]) & COMPUTED if stage != "check" else COMPUTED
        # check and download import torch for a device and for torchvision, and compute nothing with it
        assert declares == (COMPUTED if computes or stage == "evaluate" else set()) or stage in ("check", "download")


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "check"])
def test_every_declared_key_is_used_by_the_code_of_the_stage(stage):
    used = {
        node.attr
        for path in closure(f"stages.{stage}", ROOT)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
    }
    whole = "model_dump(exclude" in (ROOT / "stages/autoencoder/training.py").read_text()

    def leaves(section):
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                if not (whole and name == "augment"):  # handed on as keyword arguments, whole
                    yield from leaves(field.annotation)
            else:
                yield name

    for view in views(stage):
        assert set(leaves(view)) <= used


def imports(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_no_stage_imports_a_stage():
    for stage in STAGES:
        others = {f"stages/{name}.py" for name in STAGES if name != stage}
        assert not others & closure(f"stages.{stage}", ROOT)


def test_every_stage_says_what_it_does_and_runs_as_a_module():
    for stage, entry in STAGES.items():
        assert entry["desc"]
        assert entry["cmd"] == f"python -m stages.{stage}"


def test_training_is_never_handed_the_test_part():
    assert not [dep for dep in STAGES["train"]["deps"] if "test" in dep or "raw" in dep]
    assert "test.safetensors" not in (ROOT / "stages/train.py").read_text()


def test_every_stage_stands_behind_check():
    made_by = {path: stage for stage in STAGES for path in data_of(stage)}

    def behind(stage):
        for dep in STAGES[stage]["deps"]:
            if dep in made_by:
                yield made_by[dep]
                yield from behind(made_by[dep])

    for stage in STAGES:
        assert stage == "check" or "check" in set(behind(stage))


def test_metrics_and_plots_are_outs_kept_by_git():
    for stage in STAGES:
        for kind in ("metrics", "plots"):
            for entry in STAGES[stage].get(kind, []):
                assert next(iter(entry.values()))["cache"] is False, (stage, entry)


def test_nouns_read_no_parameters_and_print_nothing():
    for path in sorted((ROOT / "stages/autoencoder").rglob("*.py")):
        if path.name == "reading.py":
            continue
        called = {
            getattr(node.func, "id", "") for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        assert not called & {"print", "read", "eval", "exec", "input"}, path
        assert "argv" not in path.read_text(), path


def test_nothing_is_unpickled_and_no_shell_is_built():
    for path in sorted([*(ROOT / "stages").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]):
        if path.name == "bad_input.py":  # holds such words as input that must not be run
            continue
        text = path.read_text()
        for word in ("pickle", "torch.load", "np.load", "shell=True", "os.system", "import yaml"):
            assert word not in text or "without pickle" in text, (path, word)


def test_requirements_are_pinned_exactly_with_a_reason_and_used():
    code = "\n".join(
        path.read_text() for folder in ("stages", "tools", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    names = {"scikit-learn": "sklearn", "pillow": "PIL", "ruamel.yaml": "ruamel", "pyyaml": "yaml", "dvc": "dvc"}
    names |= {
        "hydra-core": "hydra",
        "dvc-render": "dvc_render",
        "scikit-image": "skimage",
        "vl-convert-python": "vl_convert",
        "pytest": "pytest",
    }
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, version, reason = re.fullmatch(r"([\w.-]+)==([\w.]+)\s+# (\w.+)", line).groups()
            assert version
            assert reason
            # run by make, by pandas, by ruamel.yaml (test_params.py), imported by nobody
            if name not in ("ruff", "pytest-xdist", "tabulate", "ruamel.yaml.clib"):
                assert re.search(rf"\b{names.get(name, name)}\b", code), f"{name} is never used"


def test_every_package_that_the_code_imports_is_pinned():
    listed = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-benchmark.txt"))
    pinned = set(re.findall(r"^([\w.-]+)==", listed, re.MULTILINE))
    names = {"sklearn": "scikit-learn", "PIL": "pillow", "ruamel": "ruamel.yaml", "yaml": "pyyaml"}
    names |= {"skimage": "scikit-image", "vl_convert": "vl-convert-python"}
    names |= {"hydra": "hydra-core", "dvc_render": "dvc-render", "pytorch_lightning": "pytorch-lightning"}
    own = {"stages", "tools", "conftest", "worlds", "umap"}  # umap: an optional choice of embed.map
    for path in [path for folder in ("stages", "tools", "tests") for path in (ROOT / folder).rglob("*.py")]:
        for module in imports(path.relative_to(ROOT)):
            top = module.partition(".")[0]
            assert top in sys.stdlib_module_names | own or names.get(top, top) in pinned, (path, top)


def test_readme_stage_table_is_dvc_yaml():
    rows = {}
    for line in (ROOT / "README.md").read_text().splitlines():
        if cells := re.fullmatch(r"\| `(\w+)` \| ?(.*) \| (.*) \| (.*) \|", line):
            rows[cells[1]] = [set(re.findall(r"`([^`]+)`", cell)) for cell in cells.groups()[1:]]
    assert list(rows) == stage_names()
    for stage, (reads, writes, params) in rows.items():
        assert reads == {dep for dep in STAGES[stage]["deps"] if not dep.endswith(".py")}, stage
        assert writes == set(data_of(stage)), stage
        declared = [key if isinstance(key, str) else next(iter(key)) for key in STAGES[stage].get("params", [])]
        assert params == set(declared), stage


def test_no_tracked_file_is_large_but_the_plots_page():
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    large = {name for name in tracked if (ROOT / name).exists() and (ROOT / name).stat().st_size > 500_000}
    assert large == {".dvc/plots/offline.html"}


def test_readme_numbers_are_those_of_the_committed_metrics():
    metrics = json.loads((ROOT / "metrics/evaluate.json").read_text())
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) >= 5
    for name, number in rows:
        decimals = len(number.partition(".")[2])
        assert f"{metrics[name]:.{decimals}f}" == number, name


def test_lock_fits_what_is_committed():
    """The hashes of the files that git has are those in dvc.lock: code, metrics, plots."""
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    assert set(lock) == set(STAGES)
    for stage in lock.values():
        for entry in [*stage["deps"], *stage.get("outs", [])]:
            path = ROOT / entry["path"]
            if path.is_file() and not entry["path"].startswith("data/"):
                assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == entry["md5"], entry["path"]
