"""docs/guide.md, held against the code: its commands and lines run, and whatever it names exists.

`dvc exp run` is taken apart by DVC's own parser, its parameters are checked against the schema, and the stages that
it would repeat run on the tiny configuration: in this process, since test_pipeline.py runs them through DVC.
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
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, merged, stage_names, yaml
from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stages.autoencoder import arrays
from stages.autoencoder.params import reading, schema
from tools import combinations

GUIDE = ROOT / "docs/guide.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE, LINK = re.compile(r"`([^`\n]+)`"), re.compile(r"\[([^]]*)\]\(([^)\s]+)\)")
PROGRAMS = {"dvc", "git", "make", "python", "python3", "."}
OUTPUTS = ("data/", "metrics/", "plots/")
NEAR = {"download": {"dataset": "digits", "mirror": None}, "device": "auto", "train": {"epochs": 2}}

text = GUIDE.read_text()
prose = FENCE.sub("", text)
spans = sorted(set(CODE.findall(prose)))


def blocks(language):
    """(name of the test, source) of each block."""
    for number, found in enumerate(FENCE.finditer(text), 1):
        if found[1] == language:
            heading = re.findall(r"^#+ (.+)$", text[: found.start()], re.MULTILINE)[-1]
            yield pytest.param(found[2], id=f"{heading.lower().replace(' ', '-')}-{number}")


def commands():
    """Every command as a list of words: those in blocks in their order, then those that stand in sentences alone."""
    lines = [line for block in blocks("console") for line in block.values[0].splitlines()]
    found = [shlex.split(line, comments=True) for line in lines]
    inline = [shlex.split(span) for span in spans if span.split()[0] in PROGRAMS and " " in span]
    return found + [words for words in inline if words not in found]


def parameters(words):
    """What stands after each -S."""
    return tuple(value for key, value in pairwise(words) if key == "-S")


def experiments():
    """Each set of parameters that the guide changes, lists of values taken apart."""
    given = [parameters(words) for words in (*commands(), *(shlex.split(span) for span in spans if "-S" in span))]
    for several in filter(None, given):
        for one in get_hydra_sweeps(to_path_overrides(several)):
            yield tuple(one["params.yaml"])


EXPERIMENTS = sorted(set(experiments()))


@pytest.fixture(autouse=True)
def arithmetic_as_before():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def changed(before, after):
    """The keys of `after` whose values are others than in `before`, section by section."""
    for key, value in after.items():
        if isinstance(value, dict):
            if inner := dict(changed(before[key], value)):
                yield key, inner
        elif value != before[key]:
            yield key, value


@pytest.fixture(scope="module")
def few(finished, tmp_path_factory):
    """A copy of `finished` with an eighth of the images."""
    folder = tmp_path_factory.mktemp("few") / "few"
    shutil.copytree(finished, folder)
    for path in (folder / "data/split").iterdir():
        part, about = arrays.load(path)
        arrays.save(path, {name: values[::8] for name, values in part.items()}, about)
    return folder


@pytest.fixture(scope="module")
def experiment(few, tmp_path_factory):
    """A function: parameters as after -S -> a folder in which the stages that read them have run, with TINY.

    They are laid over params.yaml to be checked, over TINY to be run. Pictures are left empty.
    """
    committed = reading.read_yaml(ROOT / "params.yaml")

    def draw_nothing(path, *_, **__):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    @functools.cache
    def run(changes, stages=("train", "reconstruct")):
        folder = tmp_path_factory.mktemp("experiment") / "run"
        shutil.copytree(few, folder)
        path = folder / "params.yaml"
        shutil.copyfile(ROOT / "params.yaml", path)
        apply_overrides(path, list(changes))
        values = reading.read_yaml(path)
        schema.check(reading.validate(schema.Params, values, Path("params.yaml")))
        tiny = merged(deepcopy(committed), TINY)
        path.write_text(json.dumps(merged(merged(tiny, dict(changed(committed, values))), NEAR)))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr("stages.autoencoder.pictures.save_rows", draw_nothing)
            for name in ("split", *stages) if "split" in dict(changed(committed, values)) else stages:
                importlib.import_module(f"stages.{name}").main()
        return folder

    return run


@pytest.fixture(scope="module")
def clone(finished, tmp_path_factory):
    """A function that runs a command in a repository in which every stage has run with TINY, all committed."""
    folder = tmp_path_factory.mktemp("clone")
    wanted = ("stages", "dvc.yaml", ".dvc", ".dvcignore", ".gitignore")
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", *wanted)
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(finished, folder, dirs_exist_ok=True)

    def run(*words):
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run.folder = folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "t")
            patch.setenv(f"GIT_{who}_EMAIL", "t@example.com")
        run("git", "init", "-q")
        run("git", "add", "-A")
        run("git", "commit", "-qm", "code")
        run("dvc", "commit", "-fq")
        run("git", "add", "-A")
        run("git", "commit", "-qm", "results")
        yield run


def test_the_guide_has_only_blocks_that_are_tested():
    assert {found[1] for found in FENCE.finditer(text)} == {"console", "python"}
    assert "```" not in prose


@pytest.mark.parametrize("source", list(blocks("python")))
def test_python_lines_run_after_dvc_repro(source, copy):
    (copy / "lines.py").write_text(source)
    runpy.run_path("lines.py", run_name="guide")


@pytest.mark.parametrize("changes", EXPERIMENTS, ids=" ".join)
def test_parameters_follow_the_schema_and_their_stages_run(changes, experiment):
    assert (experiment(changes) / "data/reconstructions.safetensors").exists()


def test_dvc_and_git_commands_run_one_after_the_other(clone, experiment):
    behind = tuple(stage_names()[stage_names().index("train") :])
    output = {}
    for words in commands():
        match words:
            case ["dvc", "exp", "run", "-S", "latent_dim=2"]:  # its outputs, as if DVC had run the stages
                shutil.copytree(experiment(("latent_dim=2",), behind), clone.folder, dirs_exist_ok=True)
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


def test_commands_that_need_a_network_or_minutes_are_as_their_programs_take_them(monkeypatch):
    class Parsed(Exception):  # noqa: N818
        pass

    def only_parse(parser, *given):
        raise Parsed(parse(parser, *given))

    parse = argparse.ArgumentParser.parse_args
    pinned = {line.split()[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    for words in commands():
        match words:
            case ["dvc", *rest]:
                parse_args(rest)
            case ["git", *_] | [".", ".venv/bin/activate"] | ["python3", "-m", "venv", ".venv"]:
                pass
            case ["make", target]:
                subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
            case ["python", "-m", "pip", "install", "-r", file]:
                assert (ROOT / file).exists()
            case ["python", "-m", "pip", "install", package, "--index-url", address]:
                assert package in pinned
                assert address.startswith("https://download.pytorch.org/")
            case ["python", "-m", module] if module.startswith("stages."):
                assert module.removeprefix("stages.") in stage_names()
            case ["python", "-m", module, *rest] if module.startswith("tools."):
                with monkeypatch.context() as patch:
                    patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
                    patch.setattr(sys, "argv", [module, *rest])
                    with pytest.raises(Parsed) as parsed:
                        importlib.import_module(module).main()
                if grid := getattr(parsed.value.args[0], "parameters", None):
                    expanded = combinations.expand(grid, "guide", ROOT / "params.yaml")
                    assert [c.problem for c in expanded if c.problem] == []
            case _:
                pytest.fail(f"no test for {words}")


def resolve(name):
    """The object `module.name...` of the project or of an installed package, the class's `name` included."""
    head, *rest = name.split(".")
    if head == "torchvision":
        importlib.import_module("stages.autoencoder.torchvision_import")
    places = [f"stages.autoencoder.{head}", f"stages.{head}", head]
    for place in places:
        if place == head or (ROOT / (place.replace(".", "/") + ".py")).exists():
            found = importlib.import_module(place)
            for part in rest:
                found = getattr(found, part, None) or importlib.import_module(f"{place}.{part}")
            return found
    raise AssertionError(name)


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
    listed = re.findall(r'"enum": \[(.*?)\]', (ROOT / "docs/params.schema.json").read_text(), re.DOTALL)
    return {value for some in listed for value in json.loads(f"[{some}]")}


def test_every_name_in_the_guide_is_one_of_the_code(finished, experiment):
    params = yaml.load((ROOT / "params.yaml").read_text())
    known = {*keys(params), *values_of_the_schema(), *words_of_the_code(), *stage_names()}
    ignored = (ROOT / ".gitignore").read_text().split()
    written = [finished, *map(experiment, EXPERIMENTS)]
    for span in spans:
        if span.split()[0] in PROGRAMS or span.startswith("-S "):
            continue  # a command, tested above
        if pair := re.fullmatch(r"([\w.]+): (\w+)", span):
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


def test_every_link_leads_to_what_it_says():
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
            assert resolve(name) is not None
            assert name.split(".")[0] == path.stem, (label, target)
            defined = {getattr(node, "name", None) for node in ast.walk(ast.parse(path.read_text()))}
            defined |= {node.target.id for node in ast.parse(path.read_text()).body if isinstance(node, ast.AnnAssign)}
            assert name.rpartition(".")[2] in defined, (label, target)
