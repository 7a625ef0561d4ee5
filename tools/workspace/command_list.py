"""The commands of a package, such as tools: `python -m tools` lists them, a line each."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.autoencoder.core.errors import UserError


def print_commands(folder: Path) -> None:
    """Print each command of the package in `folder` with the first sentence of its docstring.

    Raises UserError for any argument but --help.
    """
    package, commands = folder.name, dict(find_commands(folder))
    unknown = [argument for argument in sys.argv[1:] if argument not in ("-h", "--help")]
    if unknown:
        names = ", ".join(commands)
        raise UserError(f"{package}: takes no arguments; got {unknown[0]}; run python -m {package}.NAME: {names}")
    width = max(map(len, commands), default=0)
    for name, summary in commands.items():
        print(f"python -m {package}.{name:<{width}}  {summary}")


def find_commands(folder: Path) -> Iterator[tuple[str, str]]:
    """The name and the summary of each module in `folder` that can be run, by name; no module is imported."""
    for path in sorted(folder.glob("[!_]*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in module.body):
            yield path.stem, _summarise(ast.get_docstring(module) or "")


def _summarise(docstring: str) -> str:
    """The first sentence, without the command in backquotes that it may begin with."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = paragraph.partition(". ")[0].rstrip(".")
    return sentence.partition("`: ")[2] if sentence.startswith("`python -m ") else sentence
