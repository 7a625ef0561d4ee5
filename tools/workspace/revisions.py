"""Files of a revision (an experiment, tag, branch or commit), from git and from DVC's cache or remote."""

import gc
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from stages.autoencoder.core.errors import UserError


def copy_files(rev: str, names: Iterable[Path], folder: Path) -> None:
    """Copy files of a revision, named from the top of the checkout, to the same places below `folder`.

    Raises UserError if there is no such revision, or a file is in neither DVC's cache nor its remote.
    """
    if problem := _try_to_copy(rev, names, folder):
        gc.collect()  # what DVC has left open: at the end of Python it would print tracebacks
        raise UserError(f"--rev {rev}: {problem}")


def _try_to_copy(rev: str, names: Iterable[Path], folder: Path) -> str | None:
    """Copy the files, or say in a line why that is impossible."""
    import dvc.api  # takes a second
    from dvc.exceptions import DvcException

    name = None
    try:
        with closing(dvc.api.DVCFileSystem(rev=rev)) as files:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                files.get_file(name.as_posix(), str(folder / name))
    except FileNotFoundError:
        return f"its {name} must be in DVC's cache or remote; it is not; run dvc fetch or dvc exp pull"
    except DvcException as error:
        return f"must be an experiment, tag or commit; {error}; see dvc exp show -A"
    return None
