"""Codes in a table: a CSV file with columns z0, z1, ... and, if it has one, path; or an NPY file."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder.core.errors import UserError


def read_codes(path: Path, latent_dim: int) -> tuple[list[str], np.ndarray]:
    """A name for each code, and the codes, float32 (N, latent_dim).

    Raises UserError for a file that does not hold such codes.
    """
    wanted = [f"z{number}" for number in range(latent_dim)]
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                codes = np.lib.format.read_array(file)  # numbers alone, by default
            names = [f"{number:06d}.png" for number in range(len(codes))]
        else:
            table = pd.read_csv(path)
            codes = table[wanted].to_numpy()
            names = list(map(str, table.get("path", [f"{number:06d}.png" for number in range(len(table))])))
        codes = codes.astype(np.float32)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; name a file that encode wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: must be a CSV or NPY file with {latent_dim} numbers a code; {error}") from None
    if codes.ndim != 2 or codes.shape[1] != latent_dim or not len(codes) or not np.isfinite(codes).all():
        raise UserError(f"{path}: must hold finite numbers (N, {latent_dim}), N at least 1; got {codes.shape}")
    return names, codes
