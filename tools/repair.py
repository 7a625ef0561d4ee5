"""`python -m tools.repair`: removes what a loss of power or a kill has damaged: objects in DVC's cache, DVC's locks.

DVC names each cached file by its MD5 and trusts the name of a file that is write-protected. It does not flush its
files to disk, so a loss of power can leave empty ones, which it would check out; and it stops at an empty dvc.lock.
It rewrites its list of running commands, .dvc/tmp/rwlock, in place: a kill at that moment leaves an empty one, and DVC
stops at it. Once they are removed, the next `dvc repro` makes them again. Prints each path that it removes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.workspace.arguments import ArgumentParser

# Folders of the cache: files named by their MD5; for each command and inputs, which outs they gave
OBJECTS, RUN_CACHE = "files/md5", "runs"


def main() -> None:
    """Remove the damaged files and print them. Raises UserError outside a DVC repository."""
    parser = ArgumentParser(
        prog="python -m tools.repair",
        description="Remove what a loss of power or a kill has damaged: files in DVC's cache whose content does not"
        " match their name, empty entries of its run cache, and a dvc.lock or .dvc/tmp/rwlock that DVC cannot read."
        " The next dvc repro makes them again. Run it while no dvc command runs. Takes no options.",
    )
    parser.parse_args()
    try:
        repo = Repo()
    except NotDvcRepoError:
        raise UserError("repair: must be run in a DVC repository; this folder is in none; change to yours") from None
    cache = Path(repo.cache.local.path).parents[1]
    removed = 0
    for path in [*damaged_cache_files(cache), *damaged_locks(Path(repo.root_dir))]:
        path.unlink()
        removed += 1
        print(f"repair: removed {path}")
    for folder in empty_run_folders(cache):
        folder.rmdir()
    print(f"repair: {removed or 'no'} damaged files removed" + ("; dvc repro makes them again" if removed else ""))


def damaged_cache_files(cache: Path) -> Iterator[Path]:
    """Objects whose name is not the MD5 of their content, and empty entries of the run cache."""
    for path in sorted((cache / OBJECTS).glob("??/*")):
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != path.parent.name + path.name.removesuffix(".dir"):
            yield path
    yield from (path for path in sorted((cache / RUN_CACHE).glob("??/*/*")) if not path.stat().st_size)


def empty_run_folders(cache: Path) -> Iterator[Path]:
    """Folders of the run cache without an entry: DVC wants the newest entry of a folder and stops if there is none."""
    yield from (path for path in sorted((cache / RUN_CACHE).glob("??/*")) if path.is_dir() and not any(path.iterdir()))


def damaged_locks(root: Path) -> Iterator[Path]:
    """dvc.lock and .dvc/tmp/rwlock below a folder, if they are not mappings as DVC writes them (JSON is YAML too)."""
    for lock in (root / "dvc.lock", root / ".dvc/tmp/rwlock"):
        try:
            if lock.exists() and not isinstance(YAML(typ="safe").load(lock.read_text(encoding="utf-8")), dict):
                yield lock
        except (YAMLError, UnicodeDecodeError):
            yield lock


if __name__ == "__main__":
    run_main(main)
