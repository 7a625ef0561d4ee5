"""docs/own-images.md against the code: its commands, what it shows of their output, layouts, formats, names, links."""

import io
import os
import re
import shlex
import sys
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.cli import parse_args
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from stages.autoencoder.params.all_sections import Params
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.base.loader import read_yaml
from stages.autoencoder.sources.folder.decoding import FORMATS, MAX_PIXELS
from stages.autoencoder.sources.folder.layout import recognise
from stages.autoencoder.sources.folder.open_folder import LISTED
from stages.autoencoder.sources.folder.walk import IMAGE_ENDINGS
from tools import example
from tools.sweeps import grid

PAGE = ROOT / "docs/own-images.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = PAGE.read_text()
PROSE = FENCE.sub("", TEXT)
PROGRAMS = {"dvc", "git", "python", "head"}


def find_commands():
    """Every command of the page as words, in order: in blocks, after `$ ` where output follows, and in sentences."""
    for block in (match[2] for match in FENCE.finditer(TEXT) if match[1] == "console"):
        shown = re.findall(r"^\$ (.+)$", block, re.MULTILINE)
        lines = (re.sub(r"\$\(realpath ([^)]+)\)", r"/\1", line) for line in shown or block.splitlines())
        yield from (shlex.split(line, comments=True) for line in lines)
    for span in re.findall(r"`([^`\n]+)`", PROSE):
        if span.split()[0] in PROGRAMS and (len(span.split()) > 2 or span.startswith("dvc repro")):
            yield shlex.split(span)


def read_overrides(words):
    return [value.replace("$HOME", "/home/me") for key, value in pairwise(words) if key == "-S"]


def rows(heading):
    """The cells of the first table below a heading."""
    section = TEXT.partition(f"# {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|--")][1:]


@pytest.mark.parametrize("words", list(find_commands()), ids=" ".join)
def test_every_command_fits_its_program_and_its_parameters_follow_the_schema(words, tmp_path):
    match words:
        case ["dvc", *rest]:
            parse_args(rest)
            path = tmp_path / "params.yaml"
            path.write_bytes((ROOT / "params.yaml").read_bytes())
            if overrides := read_overrides(words):
                is_folder = any("=folder" in override for override in overrides)
                own = [] if is_folder or "download." not in " ".join(words) else ["download.dataset=folder"]
                apply_overrides(path, own + overrides)
                loader.validate(Params, read_yaml(path), path)
        case ["python", "-m", "tools.example", kind, _]:
            assert kind in example.NAMES
        case ["python", "-m", "tools.sweep", *arguments]:
            assert not [one.problem for one in grid.expand(arguments[: arguments.index("--name")], "s") if one.problem]
        case ["python", "-m", module]:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        case ["git", "checkout" | "add" | "commit" | "clone", *_] | ["cd", "copy"] | ["head", "-3", *_]:
            pass
        case ["npm", "pack", *_] | ["mkdir", _, "&&", "tar", "xzf", *_]:
            pass
        case _:
            pytest.fail(f"no test for {words}")


def test_what_the_example_prints_is_shown(tmp_path, monkeypatch):
    (block,) = [match[2] for match in FENCE.finditer(TEXT) if match[2].startswith("$ python -m tools.example")]
    command, _, output = block.partition("\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example", *command.split()[4:]])
    with redirect_stdout(io.StringIO()) as printed:
        example.main()
    assert printed.getvalue() == output


def test_every_layout_is_recognised_as_the_table_says():
    (flat, classes, _, mvtec) = [re.findall(r"`([^`]+\.(?:png|jpg))`", cells[1]) for cells in rows("Layouts")]
    for paths, names, normal in [
        (flat, (), ()),
        (classes, ("cat", "dog"), ()),
        ([f"{part}/{path}" for part in ("train", "valid", "test") for path in flat], (), ()),
        ([f"{part}/{path}" for part in ("train", "valid", "test") for path in classes], ("cat", "dog"), ()),
        (mvtec, ("good", "scratch"), ("good",)),
        (mvtec[:-1], ("good", "scratch"), ("good",)),
    ]:
        layout = recognise("photos", sorted(paths))
        assert (layout.class_names, layout.normal_classes) == (names, normal)
    assert len(recognise("photos", sorted(mvtec)).mask_rows) == 1


def test_what_is_read_is_what_the_code_reads():
    table = dict(rows("What is read, and what is refused"))
    assert tuple(name.upper() for name in table["formats"].partition(";")[0].split(", ")) == FORMATS
    assert set(re.findall(r"\.\w+", table["names"])) == IMAGE_ENDINGS
    assert f"{MAX_PIXELS // 10**6} million pixels" in table["refused"]
    assert f"the first {LISTED} of those" in PROSE


def test_dvc_says_what_the_page_says_of_a_folder_that_is_no_text(tmp_path):
    repo = Repo.init(str(tmp_path), no_scm=True)
    said = [cells[0] for cells in rows("Messages of DVC that do not help")]
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: 'true', deps: ['${folder}'], outs: [b]}}")
    for value, text in [("null", ""), ("''", ""), ("~", ""), ("5", "'int' object has no attribute 'decode'")]:
        (tmp_path / "params.yaml").write_text(f"folder: {value}")
        with pytest.raises((AssertionError, AttributeError)) as error:
            Repo(str(tmp_path)).index  # noqa: B018
        assert str(error.value) == text
        assert any(text in message for message in said)
    repo.close()


def test_every_parameter_exists():
    params = read_yaml(ROOT / "params.yaml")
    keys = set(re.findall(r"\b((?:download|split|train|embed)\.[a-z_.]*[a-z])\b", TEXT)) - {"train.png"}
    assert len(keys) > 10
    for key in keys:
        section = params
        for name in key.split("."):
            assert name in section, key
            section = section[name]


def test_every_link_and_picture_leads_somewhere():
    anchors = {
        path: {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
        }
        for path in (ROOT / "docs").glob("*.md")
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", PROSE):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = Path(os.path.normpath(PAGE.parent / file)) if file else PAGE
        assert path.is_file(), target
        assert not anchor or anchor in anchors[path], target
    for picture in (ROOT / "docs/own-images").iterdir():
        assert f"own-images/{picture.name}" in TEXT, picture
        assert picture.stat().st_size < 500_000
