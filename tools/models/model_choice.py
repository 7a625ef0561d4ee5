"""The model that a command line means: a file, or the model of an experiment, tag or commit."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from stages.autoencoder.core.errors import UserError

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
    import dvc.api  # takes a second
    from dvc.exceptions import DvcException

    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        copy = Path(folder, MODEL.name)
        try:
            with closing(dvc.api.DVCFileSystem(rev=rev)) as cache:
                copy.write_bytes(cache.read_bytes(MODEL.as_posix()))
        except FileNotFoundError:
            raise UserError(
                f"--rev {rev}: its {MODEL} must be in DVC's cache or remote; it is not; run dvc fetch or dvc exp pull"
            ) from None
        except DvcException as error:
            raise UserError(
                f"--rev {rev}: must be an experiment, tag or commit; {error}; see dvc exp show -A"
            ) from None
        yield copy
