"""`python -m tools.mend`: removes what a loss of power has spoilt for DVC: objects of its cache, an empty dvc.lock.

DVC names what it caches by its MD5 sum and believes the name of a file that is write-protected; it does not flush
its files to the disk, so that a loss of power leaves empty ones, which it would check out, and it stops at a
dvc.lock that is empty. Without them the next `dvc repro` makes them anew. Prints what was removed.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.autoencoder.errors import UserError, run

OBJECTS, RUNS = "files/md5", "runs"  # in the cache: files by their sum, and which files a stage made from which


def main() -> None:
    try:
        repo = Repo()
    except NotDvcRepoError:
        raise UserError("mend: must be run in a DVC repository; got none here; change to its folder") from None
    cache, count = Path(repo.cache.local.path).parents[1], 0
    for path in [*damaged(cache), *unreadable(Path(repo.root_dir))]:
        path.unlink()
        count += 1
        print(f"mend: removed {path}")
    for folder in hollow(cache):
        folder.rmdir()
    print(f"mend: {count or 'nothing'} removed" + ("; dvc repro makes it anew" if count else ""))


def damaged(cache: Path) -> Iterator[Path]:
    """Files of the cache whose content is not what their name is the MD5 sum of, and empty entries of runs."""
    for path in sorted((cache / OBJECTS).glob("??/*")):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != path.parent.name + path.name.removesuffix(".dir"):
            yield path
    yield from (path for path in sorted((cache / RUNS).glob("??/*/*")) if not path.stat().st_size)


def hollow(cache: Path) -> Iterator[Path]:
    """Folders of runs without an entry: DVC takes the newest entry of a folder and stops where there is none."""
    yield from (path for path in sorted((cache / RUNS).glob("??/*")) if path.is_dir() and not any(path.iterdir()))


def unreadable(root: Path) -> Iterator[Path]:
    """dvc.lock, where it is not the mapping that DVC writes."""
    lock = root / "dvc.lock"
    try:
        if lock.exists() and not isinstance(YAML(typ="safe").load(lock.read_text()), dict):
            yield lock
    except (YAMLError, UnicodeDecodeError):
        yield lock


if __name__ == "__main__":
    run(main)
