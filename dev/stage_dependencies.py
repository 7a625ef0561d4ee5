"""The code dependencies of each stage in dvc.yaml, computed from the imports without running anything.

DVC hashes files and folders and does not follow imports, so a stage must list every module that it imports, directly
or not. Where these are all modules of a package, sub-packages included, the package's folder stands for them.
`__init__.py` files hold a docstring alone and are no dependencies of their own.
"""

import ast
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
DVC_YAML = Path("dvc.yaml")
CODE_FOLDER = "stages"  # dependencies below this folder are code, all others are data


def closure(module: str, root: Path = ROOT) -> set[str]:
    """The project's modules that importing `module` needs, itself included, as posix paths of files below root.

    Imports inside functions count: they run too. `__init__.py` files are left out.
    """
    needed: set[str] = set()
    waiting = [module]
    while waiting:
        path = module_path(waiting.pop(), root)
        if path is None or path.as_posix() in needed:
            continue
        needed.add(path.as_posix())
        waiting += imported_names(root / path)
    return {path for path in needed if not path.endswith("__init__.py")}


def imported_names(path: Path) -> Iterator[str]:
    """Every name that a file may import: `from a.b import c` gives a, a.b and a.b.c."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            steps = name.split(".")
            yield from (".".join(steps[:length]) for length in range(1, len(steps) + 1))


def module_path(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module of this project, below root; None for other packages and for names in a module."""
    base = Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if (root / path).is_file():
            return path
    return None


def modules_in(folder: str, root: Path = ROOT) -> set[str]:
    """The modules of a package and its sub-packages, `__init__.py` files left out, as posix paths below root."""
    paths = (path.relative_to(root).as_posix() for path in (root / folder).rglob("*.py"))
    return {path for path in paths if not path.endswith("__init__.py")}


def fold(modules: Iterable[str], root: Path = ROOT) -> list[str]:
    """Sorted dependencies that stand for exactly these modules: the largest folders that they fill, and the rest."""
    left, folded = set(modules), set()
    folders = {parent.as_posix() for module in left for parent in Path(module).parents[:-1]}
    for folder in sorted(folders, key=len):  # a package comes before its sub-packages
        inside = modules_in(folder, root)
        if inside <= left:
            folded.add(folder)
            left -= inside
    return sorted(folded | left)


def code_dependencies(stage: str, root: Path = ROOT) -> list[str]:
    """The code that a stage depends on: files, and folders that it imports whole."""
    return fold(closure(f"{CODE_FOLDER}.{stage}", root), root)


def dvc_yaml(root: Path = ROOT) -> str:
    """dvc.yaml with the code dependencies of every stage recomputed and placed after its data; the rest unchanged."""
    yaml = YAML()  # keeps comments, quotes, flow style and the order of keys
    yaml.width = 4096  # never breaks a line
    yaml.preserve_quotes = True
    pipeline = yaml.load((root / DVC_YAML).read_text(encoding="utf-8"))
    for name, stage in pipeline["stages"].items():
        data = [dep for dep in stage.get("deps", []) if not dep.startswith(f"{CODE_FOLDER}/")]
        stage["deps"] = data + code_dependencies(name, root)
    text = io.StringIO()
    yaml.dump(pipeline, text)
    return text.getvalue()
