"""Tables of codes, most with a fault, for `python -m tools.model decode`: CSV, Parquet and NPY files."""

import argparse
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.use import load_model
from tests.stress.damage import PICKLE, damaged_copies, zip_bytes
from tests.support import model_files
from tools.models import verbs

LATENT_DIM = 3
MODEL = Path("data/model.safetensors")
OUT = Path("out")
ODD_CELLS = ["", "nan", "inf", "-1e309", "1e38", "1e39", "x", "0x10", "1,5", '"', "\0", "\n", "True", "2020-01-01"]
ODD_NAMES = ["", "..", "../../x", "/etc/x", "a" * 300, "a/" * 200, "\0", "\x1b[31m", "\u202e", ".", "a\nb", "CON", "~"]
ODD_FILES = [b"", b"\0" * 9, b"\xff\xfe", b"PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1", b"\x93NUMPY", PICKLE]
ODD_FILES += [zip_bytes("a.npy", PICKLE), b"z0,z1,z2", b"z0,z1,z2\n" * 1000, b"path\n", b"," * 10_000]
SHAPES = ["(4, 3)", "(1, 3)", "(3,)", "()", "(-1, 3)", "(10**12, 3)", "(1000000000000, 3)", "(4, 3", "None"]
NPY_HEADERS = ["__import__('os').system('touch pwned')", "{" * 200, "", "[]", "{'descr': '<f4'}"]
NPY_HEADERS += [f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}" for shape in SHAPES]
NPY_HEADERS += [
    f"{{'descr': {kind!r}, 'fortran_order': True, 'shape': (1, 3)}}" for kind in ("|O", "<U9", "<c8", "<M8[s]", "x", 3)
]


class CodeTable(NamedTuple):
    """One case."""

    ending: str
    content: bytes


def write_model() -> None:
    """Write the model whose codes the tables hold."""
    torch.manual_seed(0)
    model_files.save(MODEL, Autoencoder(Spec((1, 8, 8), LATENT_DIM, (), (5,), Bottleneck.LINEAR)))


def decode_table(case: CodeTable) -> None:
    """Run the verb decode on the table."""
    shutil.rmtree(OUT, ignore_errors=True)
    path = Path(f"codes{case.ending}")
    path.write_bytes(case.content)
    try:
        verbs.decode(argparse.Namespace(codes=path, out=OUT, grid=None), load_model(MODEL, "cpu"), MODEL)
    finally:
        path.unlink()
        outside = [name for name in (".out", "x.png", "../x.png") if Path(name).exists()]
        assert not outside, f"written outside the folder: {outside}"


@st.composite
def code_tables(draw: st.DrawFn) -> CodeTable:
    """A table of codes of each kind."""
    ending = draw(st.sampled_from([".csv", ".parquet", ".npy"]))
    fault = draw(st.sampled_from(["damage", "damage", "content", "file"]))
    if fault == "file":
        return CodeTable(ending, draw(st.sampled_from(ODD_FILES) | st.binary(max_size=200)))
    if fault == "damage":
        return CodeTable(ending, draw(damaged_copies(GOOD[ending]())))
    if ending == ".npy":
        header = draw(st.sampled_from(NPY_HEADERS)).encode() + b"\n"
        return CodeTable(ending, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 48)
    columns = ["path", "z0", "z1", "z2"]
    for _ in range(draw(st.integers(0, 2))):
        columns[draw(st.integers(0, 3))] = draw(st.sampled_from(["z0", "z3", "", "path", "z00", "Z1", "z-1"]))
    rows = draw(st.integers(0, 4))
    cells = st.floats().map(repr) | st.integers().map(str) | st.sampled_from(ODD_CELLS)
    names = st.sampled_from(ODD_NAMES) | st.text(max_size=20)
    values = [[draw(names), *(draw(cells) for _ in range(3))] for _ in range(rows)]
    if ending == ".csv":
        return CodeTable(ending, "\n".join(",".join(row) for row in [columns, *values]).encode("utf-8", "replace"))
    numbers = draw(st.sampled_from([float, str, object, np.float16, np.int8]))
    frame = pd.DataFrame({name: [row[place] for row in values] for place, name in enumerate(columns)})
    for name in frame.columns[1:]:
        try:
            with np.errstate(over="ignore"):
                frame[name] = frame[name].astype(numbers)
        except (ValueError, OverflowError):
            frame[name] = 0
    return CodeTable(ending, _to_parquet(frame))


def _good_frame() -> pd.DataFrame:
    codes = np.random.default_rng(0).normal(size=(4, LATENT_DIM)).astype(np.float32)
    frame = pd.DataFrame(codes, columns=[f"z{number}" for number in range(LATENT_DIM)])
    frame.insert(0, "path", ["a.png", "b/c.png", "b/d.jpg", "test/4"])
    return frame


def _to_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def _to_npy() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, _good_frame().iloc[:, 1:].to_numpy())
    return buffer.getvalue()


GOOD: dict[str, Callable[[], bytes]] = {
    ".csv": lambda: _good_frame().to_csv(index=False).encode(),
    ".parquet": lambda: _to_parquet(_good_frame()),
    ".npy": _to_npy,
}
