"""`python -m tools.mend`: removes from DVC's cache what is not what its name says, as after a loss of power.

DVC names what it caches by its MD5 sum and believes the name of a file that is write-protected; it does not flush
its files to the disk, so that a loss of power leaves empty ones, which it would check out. Without them the next
`dvc repro` makes them anew. Prints what was removed.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo

from stages.autoencoder.errors import UserError, run

OBJECTS, RUNS = "files/md5", "runs"  # in the cache: files by their sum, and which files a stage made from which


def main() -> None:
    try:
        cache = Path(Repo().cache.local.path).parents[1]
    except NotDvcRepoError:
        raise UserError("mend: must be run in a DVC repository; got none here; change to its folder") from None
    count = 0
    for path in damaged(cache):
        path.unlink()
        count += 1
        print(f"mend: removed {path}")
    print(f"mend: {count or 'nothing'} removed" + ("; dvc repro makes it anew" if count else ""))


def damaged(cache: Path) -> Iterator[Path]:
    """Files of the cache whose content is not what their name is the MD5 sum of, and empty entries of runs."""
    for path in sorted((cache / OBJECTS).glob("??/*")):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != path.parent.name + path.name.removesuffix(".dir"):
            yield path
    yield from (path for path in sorted((cache / RUNS).glob("??/*/*")) if not path.stat().st_size)


if __name__ == "__main__":
    run(main)
