"""The model that a command line means: a file, or the model of an experiment, tag or commit."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.workspace.revisions import copy_files

MODEL = Path("data/model.safetensors")


@contextmanager
def open_model(path: Path | None, rev: str | None) -> Iterator[Path]:
    """The file of the model, which is kept until the block ends.

    rev: an experiment, tag, branch or commit whose model DVC has in its cache or its remote. Raises UserError if it
    has none.
    """
    if rev is None:
        yield path or MODEL
        return
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        copy_files(rev, [MODEL], Path(folder))
        yield Path(folder, MODEL)
