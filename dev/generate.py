"""`python -m dev.generate`: writes every generated file; `--check` writes nothing and names the stale ones.

Generated are the code dependencies in dvc.yaml, docs/params.schema.json and the page of `dvc plots show`.
"""

import logging
from pathlib import Path

from dev import json_schema, plots_page, stage_dependencies
from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.workspace.arguments import ArgumentParser

ROOT = Path(__file__).parents[1]
GENERATORS = {
    stage_dependencies.DVC_YAML: stage_dependencies.dvc_yaml,
    json_schema.SCHEMA: json_schema.json_schema,
    plots_page.TEMPLATE: plots_page.page,
}
log = logging.getLogger(__name__)


def stale_files(root: Path) -> dict[Path, str]:
    """The generated files, below root, whose text is not what it should be, each with the right text."""
    texts = {path: generate() for path, generate in GENERATORS.items()}
    return {path: text for path, text in texts.items() if read_text(root / path) != text}


def read_text(path: Path) -> str | None:
    """The text of a file, line ends as they are; None where there is no file."""
    return path.read_bytes().decode() if path.is_file() else None


def main() -> None:
    parser = ArgumentParser(prog="python -m dev.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    check = parser.parse_args().check
    stale = stale_files(ROOT)
    if check and stale:
        names = ", ".join(path.as_posix() for path in stale)
        raise UserError(f"dev.generate: generated files must be up to date; out of date: {names}; run make generate")
    for path, text in stale.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_bytes(text.encode())
        log.info("%s: written", path.as_posix())
    if not stale:
        log.info("dev.generate: all files are up to date")


if __name__ == "__main__":
    run_main(main)
