"""Whether download.folder is there. The stage check asks too, so this module imports neither NumPy nor Pillow."""

import os
from pathlib import Path

from stages.autoencoder.core.errors import UserError

QUEUE = Path(".dvc", "tmp", "exps")  # where DVC keeps the copies in which queued experiments run


def check_folder(folder: str) -> None:
    """Raises UserError unless it is a folder that can be listed. folder: absolute, or relative to the current one."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        fault = getattr(error, "strerror", None) or str(error)
        place = Path.cwd() / folder
        raise UserError(
            f"params.yaml: download.folder must be a folder that exists; got {_short(place)}: {fault};"
            f" {next_step(folder) or 'correct it, or make the folder and put your images there'}"
        ) from None


def next_step(folder: str) -> str | None:
    """What to do if the folder lacks images because this is a queued experiment's copy; None where it is not.

    DVC copies files that git or DVC tracks, and no others.
    """
    parents = Path.cwd().parents
    checkout = next((parent.parents[2] for parent in parents if parent.parts[-3:] == QUEUE.parts), None)
    if checkout is None or Path(folder).is_absolute():
        return None
    return (
        "a queued experiment's copy has only the files that git or DVC tracks: run dvc add on the folder and commit,"
        f" or set download.folder={_short(checkout / folder)}"
    )


def _short(path: Path) -> str:
    """The path on one line of a message, its middle left out if it is very long."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 300 else f"{text[:150]}...{text[-147:]}"
