"""What tests of the layout read in the source: modules of the project, and what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

from dev.stage_dependencies import imported_names, module_path

# each top folder, and the top folders that its modules may import
TOP = {
    "stages": {"stages"},
    "tools": {"stages", "tools"},
    "benchmarks": {"stages", "tools", "benchmarks"},
    "dev": {"stages", "tools", "dev"},
}


def tree(path: Path | str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports(path: Path | str) -> Iterator[str]:
    """The modules that a file imports, by their whole names; of `from a import b`, a."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def modules(*folders: str) -> list[Path]:
    """The Python files below these folders of the checkout, as paths below its root."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> set[Path]:
    """The project's own modules that a file imports itself, packages' `__init__.py` left out."""
    found = {module_path(name, ROOT) for name in imported_names(ROOT / path)}
    return {module for module in found if module and module.name != "__init__.py"}
