"""environment.json: what the committed results were computed with. dvc.lock beside it says what they are.

It holds only what may change a number or a picture: no host name, no path, no date. The MD5 in it says for which
dvc.lock it was recorded.
"""

import ast
import hashlib
import json
import platform
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.core.files import write_json
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.base.section import Numerics, Section, Threads
from tools.workspace.copies import ROOT

ENVIRONMENT_FILE, LOCK_FILE = Path("environment.json"), Path("dvc.lock")
LOCKED_PACKAGES = ROOT / "requirements/cpu.txt"
# Packages that only draw. They and what they alone require change pictures and no number.
DRAWING_PACKAGES = frozenset({"matplotlib"})
UNASKED_PACKAGES = frozenset({"pyarrow"})  # pandas keeps texts in it wherever it is installed
INSTRUCTION_SETS = {"x86-64-v4": ("avx512f", "avx512bw", "avx512dq", "avx512vl"), "x86-64-v3": ("avx2", "fma", "bmi2")}


class ThreadParams(Section):
    """The keys of params.yaml that decide the number of threads."""

    numerics: Numerics
    threads: Threads


def current(folder: Path = Path()) -> dict[str, Any]:
    """The environment of a stage that runs on this machine with the params.yaml in `folder`."""
    cpu = _first_processor()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpu": cpu.get("model name") or platform.processor() or "unknown",
        "instructions": _instruction_set(cpu.get("flags", "").split()),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "threads": _threads(folder / loader.PARAMS),
        "packages": {name: version(name) for name in sorted(stage_packages())},
    }


def write() -> None:
    """Record the current environment for the dvc.lock in the current folder."""
    write_json(ENVIRONMENT_FILE, {LOCK_FILE.name: lock_md5(LOCK_FILE.read_bytes()), **current()})


def parse(text: str) -> dict[str, Any]:
    """The content of an environment.json. Raises ValueError where the text is none."""
    recorded = json.loads(text)
    if not isinstance(recorded, dict) or not isinstance(recorded.get("packages"), dict):
        raise ValueError("not a mapping with packages")
    return recorded


def lock_md5(content: bytes) -> str:
    """The MD5 that ties a record to its dvc.lock."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """{item: its two values, and whether it may explain other numbers or only other pictures} where they differ."""
    before, now = _flatten(recorded), _flatten(here)
    drawing = drawing_packages()
    return {
        item: f"{item}: {before.get(item, 'nothing')} recorded, {now.get(item, 'nothing')} here;"
        f" may explain other {'pictures' if item in drawing else 'numbers'}"
        for item in now | before
        if before.get(item) != now.get(item) and item != LOCK_FILE.name
    }


def stage_packages() -> set[str]:
    """Names of the locked packages that a stage imports, directly or through the packages that those import."""
    return required_packages(_direct_packages() | UNASKED_PACKAGES) & set(_locked_packages())


def drawing_packages() -> set[str]:
    """Those of the stages' packages that are there only for the drawing ones."""
    direct = _direct_packages()
    return (required_packages(direct) | DRAWING_PACKAGES) - required_packages(
        direct - DRAWING_PACKAGES, without=DRAWING_PACKAGES
    )


def required_packages(names: Iterable[str], without: Collection[str] = ()) -> set[str]:
    """The installed packages that these require on this machine, directly or not, and the packages themselves.

    Names are canonical (lower case, hyphens). Extras count where a package asks for them. The packages `without`
    are left out, and so is what is required through them alone.
    """
    visited: set[tuple[str, str]] = set()  # name and extra
    waiting = [(name, "") for name in names]
    installed = set()
    while waiting:
        name, extra = waiting.pop()
        if name in without or (name, extra) in visited:
            continue
        visited.add((name, extra))
        try:
            requirements = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        installed.add(name)
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), other) for other in ("", *requirement.extras)]
    return installed


def _direct_packages() -> set[str]:
    """Names of the installed packages that the code in stages/ names."""
    modules = {name for path in (ROOT / "stages").rglob("*.py") for name in _imported_modules(path)}
    packages = packages_distributions()
    return {canonicalize_name(package) for module in modules for package in packages.get(module, ())}


def _imported_modules(path: Path) -> Iterator[str]:
    """The modules at the top level that a file imports, also inside functions, or whose data files it opens."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module.partition(".")[0]
            case ast.Call(func=ast.Attribute(attr="files"), args=[ast.Constant(value=str(module))]):
                yield module.partition(".")[0]  # importlib.resources.files("mlxtend")


def _locked_packages() -> list[str]:
    """Names of the packages in the lock."""
    return [
        canonicalize_name(name)
        for name in re.findall(r"^([\w.-]+)==", LOCKED_PACKAGES.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def _flatten(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in environment.items() if key != "packages"}, **environment["packages"]}


def _threads(params_file: Path) -> int:
    """CPU threads of a stage's torch, by the rule of stages/runtime/numerics.py, which would pin this process."""
    try:
        params = loader.load(ThreadParams, params_file)
    except UserError:
        params = ThreadParams(numerics="portable", threads=2)
    return params.threads if params.numerics == "portable" else torch.get_num_threads()


def _first_processor() -> dict[str, str]:
    """What Linux says about the first processor; nothing on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _instruction_set(flags: Collection[str]) -> str:
    """The widest level of the x86-64 instruction set that these CPU flags make up."""
    levels = (level for level, needed in INSTRUCTION_SETS.items() if set(needed) <= set(flags))
    return next(levels, platform.machine())
