"""docs/guide.md against the code: its commands and its Python code run, and everything that it names exists.

DVC's own parser reads each `dvc exp run`, its parameters are checked against the schema, and the stages that it would
rerun run with the tiny configuration: in this process, since test_pipeline.py runs them through DVC.
"""

import argparse
import ast
import functools
import importlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, merged, yaml
from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from dev.install import TORCH_INDEX, parse_lock
from stages.autoencoder.core import arrays
from stages.autoencoder.params.all_sections import Params
from stages.autoencoder.params.base import loader
from tools.sweeps import grid
from tools.workspace import copies
from tools.workspace.pipeline_file import stage_names

GUIDE = ROOT / "docs/guide.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN, LINK = re.compile(r"`([^`\n]+)`"), re.compile(r"\[([^]]*)\]\(([^)\s]+)\)")
PROGRAMS = {"dvc", "git", "make", "python", "python3", "."}
OUTPUTS = ("data/", "metrics/", "plots/")
OFFLINE = {"download": {"dataset": "digits", "mirror": None}, "device": "auto", "train": {"epochs": 2}}

text = GUIDE.read_text()
prose = FENCE.sub("", text)
spans = sorted(set(CODE_SPAN.findall(prose)))


def find_blocks(language):
    """The source of each block in a language, as a test parameter with a name."""
    for number, match in enumerate(FENCE.finditer(text), 1):
        if match[1] == language:
            heading = re.findall(r"^#+ (.+)$", text[: match.start()], re.MULTILINE)[-1]
            yield pytest.param(match[2], id=f"{heading.lower().replace(' ', '-')}-{number}")


def find_commands():
    """Every command as a list of words: those in blocks in their order, then those that stand in sentences only."""
    lines = [line for block in find_blocks("console") for line in block.values[0].splitlines()]
    in_blocks = [shlex.split(line, comments=True) for line in lines]
    in_sentences = [shlex.split(span) for span in spans if span.split()[0] in PROGRAMS and " " in span]
    return in_blocks + [words for words in in_sentences if words not in in_blocks]


def read_overrides(words):
    """What stands after each -S."""
    return tuple(value for key, value in pairwise(words) if key == "-S")


def find_experiments():
    """Each set of parameters that the guide changes; of a list of values each one."""
    spans_with_values = (shlex.split(span) for span in spans if "-S" in span)
    for overrides in filter(None, map(read_overrides, (*find_commands(), *spans_with_values))):
        for combination in get_hydra_sweeps(to_path_overrides(overrides)):
            yield tuple(combination["params.yaml"])


EXPERIMENTS = sorted(set(find_experiments()))


@pytest.fixture(autouse=True)
def restore_torch_settings():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def find_changes(before, after):
    """The keys of `after` whose values differ from those in `before`, section by section."""
    for key, value in after.items():
        if isinstance(value, dict):
            if inner := dict(find_changes(before[key], value)):
                yield key, inner
        elif value != before[key]:
            yield key, value


@pytest.fixture(scope="module")
def with_fewer_images(finished, tmp_path_factory):
    """A copy of `finished` with an eighth of the images."""
    folder = tmp_path_factory.mktemp("fewer") / "copy"
    shutil.copytree(finished, folder)
    for path in (folder / "data/split").iterdir():
        part, about = arrays.load(path)
        arrays.save(path, {name: values[::8] for name, values in part.items()}, about)
    return folder


@pytest.fixture(scope="module")
def experiment(with_fewer_images, tmp_path_factory):
    """A function: parameters as after -S -> a folder in which the stages that read them have run, with TINY.

    The parameters are checked together with params.yaml, and run together with TINY. Pictures are left empty.
    """
    committed = loader.read_yaml(ROOT / "params.yaml")

    def draw_nothing(path, *_, **__):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    @functools.cache
    def run(overrides, stages=("train", "reconstruct")):
        folder = tmp_path_factory.mktemp("experiment") / "run"
        shutil.copytree(with_fewer_images, folder)
        path = folder / "params.yaml"
        shutil.copyfile(ROOT / "params.yaml", path)
        apply_overrides(path, list(overrides))
        values = loader.read_yaml(path)
        loader.validate(Params, values, Path("params.yaml"))
        changes = dict(find_changes(committed, values))
        tiny = merged(deepcopy(committed), TINY)
        path.write_text(json.dumps(merged(merged(tiny, changes), OFFLINE)))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr("stages.autoencoder.figures.base.image_grids.save_rows", draw_nothing)
            for name in ("split", *stages) if "split" in changes else stages:
                importlib.import_module(f"stages.{name}").main()
        return folder

    return run


@pytest.fixture(scope="module")
def clone(finished, tmp_path_factory):
    """A function that runs a command in a repository in which every stage has run with TINY, all committed."""
    folder = copies.copy_working_tree(tmp_path_factory.mktemp("clone"), without=("dvc.lock", "metrics/", "plots/"))
    shutil.copytree(finished, folder, dirs_exist_ok=True)

    def run(*words):
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run.folder = folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        copies.commit_all(folder, "code")
        run("dvc", "commit", "-fq")
        copies.commit_all(folder, "results")
        yield run


def test_all_blocks_are_tested():
    assert {match[1] for match in FENCE.finditer(text)} == {"console", "python"}
    assert "```" not in prose


@pytest.mark.parametrize("source", list(find_blocks("python")))
def test_python_blocks_run_after_dvc_repro(source, copy):
    (copy / "lines.py").write_text(source)
    runpy.run_path("lines.py", run_name="guide")


@pytest.mark.parametrize("overrides", EXPERIMENTS, ids=" ".join)
def test_parameters_follow_the_schema_and_their_stages_run(overrides, experiment):
    assert (experiment(overrides) / "data/reconstructions.safetensors").exists()


def test_dvc_and_git_commands_run_one_after_the_other(clone, experiment):
    downstream = tuple(stage_names()[stage_names().index("train") :])
    output = {}
    for words in find_commands():
        match words:
            case ["dvc", "exp", "run", "-S", "latent_dim=2"]:  # its outputs, as if DVC had run the stages
                shutil.copytree(experiment(("latent_dim=2",), downstream), clone.folder, dirs_exist_ok=True)
                clone("dvc", "commit", "-fq")
            case ["dvc", "exp", "run", *_] | ["dvc", "queue", *_]:
                pass  # tested above and below
            case ["dvc" | "git", *_]:
                output[" ".join(words)] = clone(*words)
            case _:
                continue
        if words == ["dvc", "plots", "diff"]:
            page = (clone.folder / "dvc_plots/index.html").read_text()
            for revision in ("HEAD", "workspace"):
                assert f"static/{revision}_plots_reconstruct_reconstructions.png" in page
    assert re.search(r"^metrics/evaluate.json +mse .*\d", output["dvc metrics diff"], re.MULTILINE)
    # the way back leads to what was committed, from the cache
    assert "is cached" in output["dvc repro"]
    assert "Running stage" not in output["dvc repro"]
    assert clone("git", "status", "--porcelain") == ""


def test_commands_that_need_a_network_or_minutes_fit_their_programs(monkeypatch):
    class Parsed(Exception):  # noqa: N818
        pass

    def only_parse(parser, *given):
        raise Parsed(parse(parser, *given))

    parse = argparse.ArgumentParser.parse_args
    for words in find_commands():
        match words:
            case ["dvc", *rest]:
                parse_args(rest)
            case ["git", *_] | [".", ".venv/bin/activate"] | ["python3", "-m", "venv", ".venv"]:
                pass
            case ["make", target, *variables]:
                done = subprocess.run(
                    ["make", "-n", "-B", target, *variables], cwd=ROOT, check=True, capture_output=True
                )
                for variable in variables:
                    assert variable.partition("=")[2] in done.stdout.decode()
            case ["python", "-m", module, *rest] if module.startswith("stages."):
                assert module.removeprefix("stages.") in stage_names()
                assert rest in ([], ["--help"])
            case ["python", "-m", module, *rest] if module.startswith(("tools.", "dev.")):
                with monkeypatch.context() as patch:
                    patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
                    patch.setattr(sys, "argv", [module, *rest])
                    with pytest.raises(Parsed) as parsed:
                        importlib.import_module(module).main()
                options = parsed.value.args[0]
                if parameters := getattr(options, "parameters", None):
                    expanded = grid.expand(parameters, "guide", ROOT / "params.yaml")
                    assert [c.problem for c in expanded if c.problem] == []
                if lock := getattr(options, "lock", None):
                    assert "torch" in parse_lock(ROOT / f"requirements/{lock}.txt")
                    assert TORCH_INDEX.startswith("https://download.pytorch.org/")
            case _:
                pytest.fail(f"no test for {words}")


def module_files(stem) -> Iterator[Path]:
    """The modules of the stages, and what they share, that have this name."""
    yield from (path.relative_to(ROOT) for path in sorted((ROOT / "stages").rglob(f"{stem}.py")))


def resolve(name, path=None):
    """The object `module.name...` in a module of the project, or of a package; None if there is no such object.

    path: the file of the module, below ROOT. Without it, every module of that name is tried.
    """
    head, *rest = name.split(".")
    if head == "torchvision":
        importlib.import_module("stages.autoencoder.sources.torchvision_datasets")
    files = [path] if path else module_files(head)
    places = [".".join(file.with_suffix("").parts) for file in files]
    for place in places or [head]:
        found = importlib.import_module(place)
        for part in rest:
            try:
                found = getattr(found, part, None) or importlib.import_module(f"{place}.{part}")
            except ModuleNotFoundError:
                found = None
                break
        if found is not None:
            return found
    return None


def keys(section, prefix=""):
    for key, value in section.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")


def words_of_the_code():
    """Every name and every short text in the stages: metrics, columns, functions, arguments."""
    for path in (ROOT / "stages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            for field in ("id", "attr", "name", "arg"):
                yield getattr(node, field, None)


def values_of_the_schema():
    enums = re.findall(r'"enum": \[(.*?)\]', (ROOT / "docs/params.schema.json").read_text(), re.DOTALL)
    return {value for enum in enums for value in json.loads(f"[{enum}]")}


def test_every_name_occurs_in_the_code(finished, experiment):
    params = yaml.load((ROOT / "params.yaml").read_text())
    known = {*keys(params), *values_of_the_schema(), *words_of_the_code(), *stage_names()}
    ignored = (ROOT / ".gitignore").read_text().split()
    written = [finished, *map(experiment, EXPERIMENTS)]
    for span in spans:
        if span.split()[0] in PROGRAMS or span.startswith("-S "):
            continue  # a command, tested above
        if span.startswith("import "):
            importlib.import_module(span.removeprefix("import "))
        elif pair := re.fullmatch(r"([\w.]+): (\w+)", span):
            key, value = pair.groups()
            assert key in keys(params), span
            assert value in values_of_the_schema() | {"auto", "cpu", "cuda", "mps"}, span
        elif re.search(r"/|\.(md|yaml|txt|json|csv|png|safetensors)$", span):
            places = written if span.startswith(OUTPUTS) else [ROOT]
            assert any((place / span).exists() for place in places) or f"/{span}" in ignored, span
        elif re.fullmatch(r"[a-z_]+\.[\w.]+", span):
            assert span in known or resolve(span) is not None, span
        else:
            assert span in known, span


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_what_its_label_names():
    for label, target in LINK.findall(prose):
        file, _, anchor = target.partition("#")
        if file.startswith("https://arxiv.org/abs/"):
            assert label == f"arXiv:{file.rpartition('/')[2]}"
            continue
        path = (GUIDE.parent / file).resolve() if file else GUIDE
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path), target
        if path.suffix == ".py":
            name = label.strip("`")
            assert resolve(name, path.relative_to(ROOT)) is not None, (label, target)
            assert name.split(".")[0] == path.stem, (label, target)
            defined = {getattr(node, "name", None) for node in ast.walk(ast.parse(path.read_text()))}
            defined |= {node.target.id for node in ast.parse(path.read_text()).body if isinstance(node, ast.AnnAssign)}
            assert name.rpartition(".")[2] in defined, (label, target)
