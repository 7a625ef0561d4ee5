"""Codes in a table: CSV or Parquet with columns z0, z1, ... and, if it has one, path; or an NPY file."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder.core.errors import UserError
from tools.models.pictures import number_pictures


def read_codes(path: Path, latent_dim: int) -> tuple[list[str], np.ndarray]:
    """A name for each code, and the codes, float32 (N, latent_dim).

    Raises UserError for a file that does not hold such codes.
    """
    names: list[str] | None = None
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                codes = np.lib.format.read_array(file)  # numbers alone, by default
        else:
            table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path)
            columns = [f"z{number}" for number in range(latent_dim)]
            if missing := [name for name in columns if name not in table]:
                raise ValueError(f"it has no column {missing[0]}")
            codes = table[columns].to_numpy()
            names = list(map(str, table["path"])) if "path" in table else None
        with np.errstate(over="ignore"):
            codes = codes.astype(np.float32)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; name a file that encode wrote") from None
    except Exception as error:  # the parsers of three formats, each with exceptions of its own
        text = f"must be a CSV, Parquet or NPY file with {latent_dim} numbers a code"
        raise UserError(f"{path}: {text}; {str(error)[:200]}") from None
    if codes.ndim != 2 or codes.shape[1] != latent_dim or not len(codes) or not np.isfinite(codes).all():
        raise UserError(f"{path}: must hold finite numbers (N, {latent_dim}), N at least 1; got {codes.shape}")
    return names or number_pictures(len(codes)), codes
