"""The rules of the layout: who imports what, how large a folder grows, where a list stands."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from conftest import ROOT, stage_names
from ruamel.yaml import YAML

from dev import generate, plots_page
from dev.stage_dependencies import closure, imported_names
from stages.autoencoder.figures import score_figures
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.model.detector import score_functions
from stages.autoencoder.model.objectives import RECONSTRUCTION_LOSSES
from stages.autoencoder.params import train
from stages.autoencoder.params.all_sections import Params
from stages.autoencoder.params.download import DATASETS
from stages.autoencoder.params.embed import Embed
from stages.autoencoder.params.inputs import Denoising
from stages.autoencoder.scores import maps
from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.torchvision_datasets import datasets
from stages.autoencoder.training.inputs import corrupt
from stages.autoencoder.training.preparation import choose_bottleneck
from tests.support.model_files import make_detector, make_mixture
from tests.support.source_tree import TOP, imported_modules, imports, modules, tree

STAGES = stage_names()
# none imports one before it
PACKAGES = ["use", "figures", "scores", "classifier", "training", "model", "sources", "data", "params", "core"]
MAX_MODULES = 12  # in one folder


def test_no_stage_imports_a_stage():
    for stage in STAGES:
        others = {f"stages/{name}.py" for name in STAGES if name != stage}
        assert not others & closure(f"stages.{stage}", ROOT)


def test_first_import_of_a_stage_is_the_pins():
    for stage in STAGES:
        first = next(node for node in tree(f"stages/{stage}.py").body if isinstance(node, (ast.Import, ast.ImportFrom)))
        assert ast.unparse(first) in ("from stages.runtime import numerics", "import stages.runtime.numerics"), stage


def test_nouns_read_no_parameters_and_print_nothing():
    for path in sorted((ROOT / "stages/autoencoder").rglob("*.py")):
        if path.name == "loader.py":
            continue
        called = {
            getattr(node.func, "id", "") for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        assert not called & {"print", "read", "eval", "exec", "input"}, path
        assert "argv" not in path.read_text(), path
        assert Path("stages/autoencoder/params/base/loader.py") not in imported_modules(path.relative_to(ROOT)), path


def test_nothing_is_unpickled_and_no_shell_is_built():
    for path in modules(*TOP, "tests/stress"):
        if path.name == "fuzz.py":  # holds such words as input that must not be run
            continue
        text = (ROOT / path).read_text()
        for word in ("pickle", "torch.load", "np.load", "shell=True", "os.system", "import yaml"):
            assert word not in text or "without pickle" in text, (path, word)


def test_no_tracked_file_is_large_but_the_plots_page():
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    large = {name for name in tracked if (ROOT / name).exists() and (ROOT / name).stat().st_size > 500_000}
    assert large == {".dvc/plots/offline.html"}


def test_generated_files_are_up_to_date():
    assert list(generate.stale_files(ROOT)) == [], "run make generate"


def test_check_of_generated_files_names_the_stale_ones(monkeypatch, tmp_path):
    for path in generate.GENERATORS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    (tmp_path / "docs/params.schema.json").write_text("{}\n")
    (tmp_path / "dvc.yaml").unlink()
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    with pytest.raises(
        generate.UserError, match=r"out of date: dvc\.yaml, docs/params\.schema\.json; run make generate"
    ):
        generate.main()
    monkeypatch.setattr(sys, "argv", ["generate"])
    generate.main()
    assert generate.stale_files(tmp_path) == {}


EFFECTS = """
import importlib, importlib.util, json, locale, logging, os, random, signal, sys, warnings
packages, modules, extra = json.loads(sys.argv[1])
for name in packages:
    importlib.import_module(name)
import matplotlib, numpy, sklearn, torch

def state():
    return {
        "environment": dict(os.environ),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "torch": [str(torch.get_default_dtype()), torch.are_deterministic_algorithms_enabled(),
                  torch.is_grad_enabled(), torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled,
                  torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "random": [hash(random.getstate()), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()],
        "numpy": [numpy.geterr(), repr(numpy.get_printoptions())],
        "sklearn": sklearn.get_config(),
        "matplotlib": repr(sorted(dict.items(matplotlib.rcParams))),  # dict.items does not choose a backend
        "warnings": [repr(entry) for entry in warnings.filters],
        "logging": [logging.root.level, repr(logging.root.handlers), logging.root.manager.disable],
        "process": [os.getcwd(), os.umask(os.umask(0)), repr([signal.getsignal(n) for n in (2, 15)]), sys.path[:],
                    locale.setlocale(locale.LC_ALL), repr(sys.excepthook)],
    }

before = state()
for name in modules:
    importlib.import_module(name)
after = state()
for name in extra:
    importlib.import_module(name)
changed = [[key for key in before if first[key] != second[key]]
           for first, second in ((before, after), (after, state()))]
print(json.dumps(changed))
"""


def test_import_of_the_nouns_changes_nothing_in_the_process():
    paths = modules("stages/autoencoder")
    names = {name for path in paths for name in imports(path)} | {"sklearn", "torch", "matplotlib.pyplot"}
    tops = sys.stdlib_module_names | {"stages", "torchvision"}
    packages = sorted(
        name for name in names if name.split(".")[0] not in tops and importlib.util.find_spec(name.split(".")[0])
    )
    packages.append("stages.autoencoder.sources.torchvision_datasets")  # imports torchvision beside any torch
    own = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    arguments = json.dumps([packages, own, ["stages.runtime.numerics"]])
    command = [sys.executable, "-W", "ignore", "-c", EFFECTS, arguments]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "MPLCONFIGDIR": "/nonexistent"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_nouns, by_pins = json.loads(done.stdout)
    assert by_nouns == []
    assert by_pins == ["environment"]  # so the comparison does see a change


def test_top_folders_import_downwards():
    for top, allowed in TOP.items():
        for path in modules(top):
            tops = {name.split(".")[0] for name in imported_names(ROOT / path)}
            assert not tops & ({*TOP, "tests", "conftest"} - allowed), path


def test_packages_of_nouns_import_downwards():
    for path in modules("stages/autoencoder"):
        for module in imported_modules(path):
            assert module.parts[:2] == ("stages", "autoencoder"), (path, module)
            if len(path.parts) > 3:
                assert PACKAGES.index(module.parts[2]) >= PACKAGES.index(path.parts[2]), (path, module)
    assert {path.name for path in (ROOT / "stages/autoencoder").iterdir() if path.is_dir()} - {"__pycache__"} == set(
        PACKAGES
    )


def test_runtime_imports_only_what_every_stage_needs():
    for path in modules("stages/runtime"):
        for module in imported_modules(path):
            assert re.match(r"stages/(runtime|autoencoder/(core|params/base))/", module.as_posix()), (path, module)


def test_packages_of_tools_import_no_command_and_workspace_no_other_package():
    for path in modules("tools"):
        for module in imported_modules(path):
            if len(path.parts) > 2 and module.parts[0] == "tools":
                assert len(module.parts) > 2, (path, module)
                assert module.parts[1] in (path.parts[1], "workspace"), (path, module)


def test_no_import_runs_in_a_circle():
    graph = {path: imported_modules(path) - {path} for path in modules(*TOP)}
    while True:  # modules without imports go, until none is left or each left one imports another left one
        ends = {path for path, imported in graph.items() if not imported & graph.keys()}
        graph = {path: imported for path, imported in graph.items() if path not in ends}
        if not ends:
            break
    assert graph == {}


def test_no_import_is_relative():
    for path in modules(*TOP, "tests"):
        assert not [node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) and node.level], path


def test_no_folder_holds_more_than_a_dozen_modules():
    for folder in {path.parent for path in modules(*TOP, "tests")}:
        count = len([path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"])
        assert count <= MAX_MODULES, folder


def test_packages_import_nothing_themselves_but_the_public_one():
    packages = {path for path in modules(*TOP, "tests") if path.name == "__init__.py"}
    for path in packages - {Path("stages/autoencoder/use/__init__.py")}:
        (only,) = tree(path).body
        assert isinstance(only, ast.Expr), path
        assert isinstance(only.value, ast.Constant), path
        assert isinstance(only.value.value, str), path


def choices(section: type, field: str) -> list[str]:
    """The names that a parameter can take."""
    return list(get_args(section.model_fields[field].annotation))


def test_losses_are_those_of_params():
    assert list(RECONSTRUCTION_LOSSES) == choices(train.Train, "loss")


def test_scores_of_anomalies_are_those_of_params_and_have_names_on_the_axis():
    model = Autoencoder(Spec((1, 4, 4), 2, (), (), "linear"))
    kinds = [score_functions(model, make_detector(model), mixture, "mse") for mixture in (None, make_mixture(2))]
    assert {*kinds[0], *kinds[1]} == {*choices(train.Train, "anomaly_score")} == score_figures.SCORES.keys()


def test_kinds_of_corruption_are_those_of_params():
    kinds = choices(Denoising, "corruption")
    images = torch.full((2, 1, 4, 4), 0.5)
    corrupted = [corrupt(images, kind, 0.5, torch.Generator().manual_seed(0)) for kind in kinds]
    assert not any((other == images).all() for other in corrupted)
    with pytest.raises(ValueError, match="kind must be one"):
        corrupt(images, "no such kind", 0.5, torch.Generator())


def test_variants_give_every_bottleneck_of_the_model():
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["train"]
    bottlenecks = set()
    for variant in choices(train.Train, "variant"):
        for regularizer in choices(train.Overcomplete, "regularizer"):
            for penalty in choices(train.Sparse, "penalty"):
                changes = {"variant": variant, "overcomplete": {"regularizer": regularizer}}
                changes["sparse"] = values["sparse"] | {"penalty": penalty}
                bottlenecks.add(choose_bottleneck(train.Train.model_validate(values | changes)))
    assert bottlenecks == set(Bottleneck)


def test_datasets_have_one_source_each():
    fetched = {name for name, entry in DATASETS.items() if entry.fetched}
    assert set(builtin.PUBLISHED) == fetched
    assert set(builtin.PACKAGED) == DATASETS.keys() - fetched
    assert all(hasattr(datasets, entry.torchvision) for entry in DATASETS.values() if entry.torchvision)


def test_maps_are_those_of_params_and_of_the_plots_page():
    assert [*maps.METHODS, "none"] == choices(Embed, "map")
    names = {"pca", *maps.METHODS}
    assert set(maps.TITLES) == set(maps.UNITS) == names
    assert {f"plots/embed/{name}.csv": f"{maps.TITLES[name]} of the codes" for name in names} == plots_page.TITLES
    assert {f"plots/embed/{name}.png" for name in names} <= set(plots_page.SECTIONS[plots_page.FOLDED])


def test_comments_of_params_yaml_name_every_choice():
    text = re.sub(r"\n +#", "", (ROOT / "params.yaml").read_text())  # a comment may go on in the next line
    lines = text.splitlines()

    def enums(node: dict, schema: dict) -> Iterator[tuple[str, list[str]]]:
        for name, field in node["properties"].items():
            if "$ref" in field:
                yield from enums(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
            elif "enum" in field:
                yield name, field["enum"]

    schema = Params.model_json_schema()
    found = dict(enums(schema, schema))
    assert len(found) >= 8
    for name, names in found.items():
        (comment,) = [line.partition("#")[2] for line in lines if re.match(rf"\s*{name}:", line)]
        assert all(re.search(rf"\b{choice}\b", comment) for choice in names), name


def test_pixels_become_floats_in_one_place():
    scale = r"/ 255\b|float32\(255\)"
    scaling = [path.as_posix() for path in modules("stages") if re.search(scale, (ROOT / path).read_text())]
    assert scaling == ["stages/autoencoder/data/pixels.py"]
