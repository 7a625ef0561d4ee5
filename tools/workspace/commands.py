"""Running git, DVC and Python as child processes: the output, or one line that says what failed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.autoencoder.core.errors import UserError


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    place: str = "",
    new_session: bool = False,
) -> str:
    """Run a command to its end and return its stdout.

    cwd, env: those of this process by default. place: begins the error message, by default the program's name and
    its first argument. new_session: Ctrl-C does not reach the command.
    Raises UserError with the last line of its stderr where the exit status is not 0 or the program is not found.
    """
    place = place or " ".join([Path(command[0]).name, *map(str, command[1:2])])
    try:
        ended = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            start_new_session=new_session,
        )
    except FileNotFoundError as error:
        raise UserError(f"{place}: {error.filename} not found") from None
    if ended.returncode:
        raise UserError(f"{place}: {last_line(ended.stderr, f'exit status {ended.returncode}')}")
    return ended.stdout


def git(*arguments: str, cwd: Path | None = None) -> str:
    """The stdout of a git command, which Ctrl-C does not reach. Raises UserError as `run` does."""
    return run(["git", *arguments], cwd=cwd, new_session=True)


def last_line(text: str, default: str) -> str:
    """The last line that is not blank, or `default` where all are."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else default


def worker_environment() -> dict[str, str]:
    """The environment for DVC, whose stages call `dvc` and `python`: PATH begins with the folder of this Python.

    Raises UserError where one of these words is not found, or `python` is not the one that runs this.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    for word in ("dvc", "python"):
        if not shutil.which(word, path=path):
            raise UserError(f"{word} is not on PATH, and DVC's workers call it by that name; . .venv/bin/activate")
    python = shutil.which("python", path=path) or "python"
    prefix = run([python, "-c", "import sys; print(sys.prefix)"]).strip()
    if prefix != sys.prefix:
        raise UserError(f"python on PATH is {python}, not {sys.executable}, which runs this; . .venv/bin/activate")
    return {**os.environ, "PATH": path}
