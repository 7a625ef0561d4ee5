"""`python -m tools.dependencies`: writes each stage's code dependencies into dvc.yaml.

DVC hashes whole files and does not follow imports, so a stage must list every module that it imports, directly
or not. This computes that closure from the source, without running it; a test holds dvc.yaml against it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

DVC_YAML = Path("dvc.yaml")


def closure(module: str, root: Path = Path()) -> set[str]:
    """The project's files, as posix paths below root, that importing `module` needs; itself and packages included.

    Imports inside functions count: they run too.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        path = _file(waiting.pop(), root)
        if path is None or path.as_posix() in found:
            continue
        found.add(path.as_posix())
        waiting += _imports(root / path)
    return found


def _imports(path: Path) -> Iterator[str]:
    """Every name that a file may import: `from a.b import c` gives a, a.b and a.b.c."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _file(module: str, root: Path) -> Path | None:
    """The file of a module of this project, below root; None for other packages and for names in a module."""
    base = Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if (root / path).is_file():
            return path
    return None


def main() -> None:
    round_trip = YAML()  # keeps comments and the order of keys
    round_trip.width = 120
    pipeline = round_trip.load(DVC_YAML)
    for stage in pipeline["stages"].values():
        module = stage["cmd"].split()[-1]
        data = [dep for dep in stage.get("deps", []) if not dep.endswith(".py")]
        stage["deps"] = sorted(closure(module) | closure("stages")) + data
    with DVC_YAML.open("w", encoding="utf-8") as file:
        round_trip.dump(pipeline, file)


if __name__ == "__main__":
    main()
