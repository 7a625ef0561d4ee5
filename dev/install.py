"""`python -m dev.install [cpu|cuda]`, or `make install`: installs a lock, each package checked against its hashes.

pip finds packages where this machine's own configuration says, on PyPI by default. A local build such as
torch==2.13.0+cpu is not on PyPI: where pip does not find it, PyTorch's public index is asked, for that package alone.
This runs in a new environment, so it and the modules that it imports use the standard library only.
"""

import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.workspace.arguments import ArgumentParser

FOLDER = Path("requirements")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def main() -> None:
    parser = ArgumentParser(prog="python -m dev.install", description="Install a lock, hashes checked.")
    parser.add_argument("lock", nargs="?", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    lock = FOLDER / f"{parser.parse_args().lock}.txt"
    for entry in parse_lock(lock).values():
        if is_local_build(entry):
            install_local_build(entry)
    if pip("install", "-qq", "--require-hashes", "-r", str(lock)).returncode:
        raise UserError(f"{lock}: every package must be installed; pip failed, see above; run make install again")


def parse_lock(path: Path) -> dict[str, str]:
    """The entries of a lock: {name: `name==version`, its condition and its hashes, as pip and uv read them}."""
    entries = re.findall(r"^\w(?:.*\\\n)*.*$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries}


def is_local_build(entry: str) -> bool:
    """Whether an entry pins a build such as torch==2.13.0+cpu, which no public index but its maker's has."""
    return "+" in entry.split()[0]


def install_local_build(entry: str) -> None:
    """Install a package that PyPI lacks, from this machine's own sources or from PyTorch's index.

    Raises UserError where neither has a file that fits this Python, this system and the hashes.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text(entry, encoding="utf-8")
        command = ["install", "-qq", "--no-deps", "--require-hashes", "-r", str(path)]
        if not pip(*command, show_errors=False).returncode:
            return
        if pip(*command, "--extra-index-url", TORCH_INDEX).returncode:
            raise UserError(
                f"{FOLDER}: {entry.split()[0]} must have a file for Python {platform.python_version()} on"
                f" {platform.system()} {platform.machine()} with a hash in the lock; pip found none, see above; set"
                " PYTHON to another version, or LOCK=cuda for PyPI's build"
            )


def pip(*arguments: str, show_errors: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run pip of this Python to its end; its messages appear unless `show_errors` is false."""
    return subprocess.run([*PIP, *arguments], stderr=None if show_errors else subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    run_main(main)
