"""tools.workspace: commands, edited parameters, copies of the working tree; and `python -m tools`."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from stages.autoencoder.core.errors import UserError
from tools.workspace import commands, copies, params_file
from tools.workspace.arguments import ArgumentParser
from tools.workspace.command_list import find_commands

PARAMS = """\
# all parameters
latent_dim: 16  # numbers in a code
train:
  # hidden layers
  mlp: {widths: [1024, 512]}
  epochs: 50    # passes
mirror: null
"""


def python(code):
    return [sys.executable, "-c", code]


def test_a_command_returns_its_stdout_in_its_folder_and_environment(tmp_path):
    code = "import os, sys; print(os.getcwd(), os.environ.get('A')); print('a warning', file=sys.stderr)"
    assert commands.run(python(code), cwd=tmp_path, env={"A": "b"}) == f"{tmp_path} b\n"


def test_a_failed_command_is_one_line_with_the_end_of_its_stderr():
    failing = python("import sys; print('first\\nlast \\n\\n', file=sys.stderr); sys.exit(3)")
    with pytest.raises(UserError, match=r"^here: last$"):
        commands.run(failing, place="here")
    with pytest.raises(UserError, match=rf"^{Path(sys.executable).name} -c: exit status 3$"):
        commands.run(python("import sys; sys.exit(3)"))
    with pytest.raises(UserError, match=r"^git rev-parse: fatal: Needed a single revision$"):
        commands.git("rev-parse", "--verify", "nothing", cwd=ROOT)
    with pytest.raises(UserError, match=r"^no-such-program --help: no-such-program not found$"):
        commands.run(["no-such-program", "--help"])


def test_the_workers_python_is_this_one():
    environment = commands.worker_environment()
    assert commands.run(["python", "-c", "import sys; print(sys.prefix)"], env=environment).strip() == sys.prefix


@pytest.mark.parametrize("missing", ["dvc", "python"])
def test_workers_without_dvc_or_python_on_path_are_refused(missing, tmp_path, monkeypatch):
    for name in {"dvc", "python"} - {missing}:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(UserError, match=f"^{missing} is not on PATH"):
        commands.worker_environment()


def test_workers_with_another_python_are_refused(tmp_path, monkeypatch):
    for name in ("dvc", "python"):
        (tmp_path / name).write_text("#!/bin/sh\necho /elsewhere\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(UserError, match=rf"^python on PATH is {tmp_path}/python, not {tmp_path}/python3, which"):
        commands.worker_environment()


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"mlp": {"widths": [8]}, "epochs": 1}, "mirror": "x"},
        {"train.mlp.widths": [8], "train.epochs": 1, "mirror": "x"},
        {"train": {"mlp.widths": [8]}, "train.epochs": 1, "mirror": "x"},
    ],
)
def test_changed_parameters_keep_the_others_and_every_comment(tmp_path, changes):
    source, target = tmp_path / "params.yaml", tmp_path / "other/params.yaml"
    source.write_text(PARAMS)
    params_file.write_params(target, changes, source)
    written = target.read_text()
    expected = {"latent_dim": 16, "train": {"mlp": {"widths": [8]}, "epochs": 1}, "mirror": "x"}
    assert YAML(typ="safe").load(written) == expected
    assert [line.partition("#")[2] for line in written.splitlines() if "#" in line] == [
        *(" all parameters", " numbers in a code", " hidden layers", " passes"),
    ]
    assert source.read_text() == PARAMS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epoch": 1}}, "unknown key train.epoch; known: mlp, epochs"),
        ({"train.mlp.depth": 1}, "unknown key train.mlp.depth; known: widths"),
        ({"latent_dim.x": 1}, "unknown key latent_dim.x; known: none"),
        ({"train.rate": 1}, "unknown key train.rate; it is now train.learning_rate"),
    ],
)
def test_a_change_of_an_unknown_key_is_refused(tmp_path, changes, message):
    (tmp_path / "params.yaml").write_text(PARAMS)
    with pytest.raises(UserError, match=f"^params.yaml: {message}$"):
        params_file.write_params(tmp_path / "new.yaml", changes, tmp_path / "params.yaml")
    assert not (tmp_path / "new.yaml").exists()


def test_merging_leaves_its_arguments_as_they_were():
    values = {"a": {"b": [1], "c": 2}}
    assert params_file.merge(values, {"a": {"b": [3]}}) == {"a": {"b": [3], "c": 2}}
    assert values == {"a": {"b": [1], "c": 2}}


def test_a_copy_has_the_working_trees_files_and_not_the_ignored_ones(tmp_path):
    source = tmp_path / "source"
    for name in (".gitignore", "tracked", "deleted", "ignored", "docs/page", "docs2/page"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("/ignored\n" if name == ".gitignore" else "committed")
    (source / "tracked").chmod(0o755)
    copies.commit_all(source, "first")
    (source / "tracked").write_text("edited")
    (source / "deleted").unlink()
    (source / "untracked ö").touch()
    folder = copies.copy_working_tree(tmp_path / "copy", root=source, without=["docs/"])
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {".gitignore", "tracked", "untracked ö", "docs2/page"}
    assert (folder / "tracked").read_text() == "edited"
    assert (folder / "tracked").stat().st_mode & 0o100
    copies.commit_all(folder)
    copies.commit_all(source, "second")
    assert commands.git("log", "--format=%s", cwd=folder) == "state\n"
    assert commands.git("log", "--format=%s", cwd=source) == "second\nfirst\n"
    assert commands.git("status", "--porcelain", cwd=source) == ""


def list_commands(package, *arguments):
    command = [sys.executable, "-m", package, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["tools", "dev", "benchmarks"])
def test_each_command_is_listed_in_a_line_with_what_it_does(package):
    ended = list_commands(package)
    assert (ended.returncode, ended.stderr) == (0, "")
    runnable = [path for path in (ROOT / package).glob("*.py") if "\nif __name__ ==" in path.read_text()]
    names = sorted(path.stem for path in runnable if path.stem != "__main__")
    lines = ended.stdout.splitlines()
    assert [line.split()[2] for line in lines] == [f"{package}.{name}" for name in names]
    assert all(len(line.split()) > 5 and len(line) <= 120 for line in lines), lines
    assert list_commands(package, "--help").stdout == ended.stdout


def test_a_new_command_is_listed_and_a_module_that_cannot_be_run_is_not(tmp_path):
    guard = 'if __name__ == "__main__":\n    raise SystemExit\n'
    (tmp_path / "new.py").write_text(f'"""`python -m tools.new`: does\nthis. And that.\n\nMore."""\n{guard}')
    (tmp_path / "noun.py").write_text('"""A noun."""\n')
    (tmp_path / "__main__.py").write_text(guard)
    assert list(find_commands(tmp_path)) == [("new", "does this")]


def test_tools_refuses_arguments_in_one_line():
    ended = list_commands("tools", "sweeep")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("tools: takes no arguments; got sweeep; run python -m tools.NAME: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: value"),
        (["x"], "argument value: invalid int value: 'x'"),
        (["1", "--nosuch"], "unrecognized arguments: --nosuch"),
        (["1", "--kind", "c"], r"argument --kind: invalid choice: 'c' \(choose from '?a'?, '?b'?\)"),
    ],
)
def test_an_unusable_command_line_is_one_line_with_the_next_step(arguments, message, capsys):
    parser = ArgumentParser(prog="python -m tools.new", epilog="example: python -m tools.new 1")
    parser.add_argument("value", type=int)
    parser.add_argument("--kind", choices=["a", "b"])
    with pytest.raises(UserError, match=rf"^python -m tools.new: {message}; example: .* 1; see --help$"):
        parser.parse_args(arguments)
    assert capsys.readouterr() == ("", "")


def test_a_sub_commands_unusable_command_line_is_one_line_too():
    parser = ArgumentParser(prog="python -m tools.new")
    parser.add_subparsers(required=True).add_parser("sub").add_argument("--count", type=int)
    with pytest.raises(UserError, match=r"^python -m tools.new sub: argument --count: .*; see --help$"):
        parser.parse_args(["sub", "--count", "x"])


def test_every_command_uses_the_parser_with_one_line_errors():
    paths = [
        path for folder in ("tools", "dev", "benchmarks", "tests/stress") for path in (ROOT / folder).rglob("*.py")
    ]
    users = [path.relative_to(ROOT).as_posix() for path in paths if "argparse.ArgumentParser" in path.read_text()]
    assert users == ["tools/workspace/arguments.py"]


def test_installation_and_its_imports_need_the_standard_library_only():
    ended = subprocess.run(  # -S: without site-packages
        [sys.executable, "-S", "-m", "dev.install", "nosuch"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("python -m dev.install: argument lock: invalid choice: 'nosuch'")
    assert ended.stderr.count("\n") == 1


def test_a_sweep_without_arguments_gives_an_example():
    ended = list_commands("tools.sweep")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "python -m tools.sweep: the following arguments are required: KEY=VALUES;"
        " example: python -m tools.sweep latent_dim=2,4,8 seed=0,1 --name size; see --help\n"
    )
