"""`python -m tools.fuzz params --cases 10000`: the pipeline is given bad input of one kind; one line each or success.

Kinds: params (params.yaml), idx (MNIST's files), model (the model file), arrays (the other safetensors files).
A case passes where the stage's own code takes it or refuses it by one line (UserError), within 5 s of the CPU and
1 GiB, and runs no code that the input brought; where it is refused, the earlier output stays as it was. The
figures stand in docs/reliability.md; a few cases of each kind are among the tests.
"""

import argparse
import hashlib
import logging
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from safetensors.torch import load as from_torch

from stages import check, download, split, train
from stages.autoencoder import arrays, checkpoint, inference, model, parts
from stages.autoencoder.errors import UserError, run
from stages.autoencoder.params.reading import read
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.torchvision_import import datasets as torchvision
from tools import bad_input

SECONDS, MEMORY = 5, 2**30  # of a case; of the process, at its highest
BEFORE = b"what an earlier run wrote"
PWNED = Path("pwned")  # made by whatever runs code that a case brings


def try_params(case: bytes | int) -> None:
    """The stage check on a params.yaml; its output is data/checked."""
    path = Path("params.yaml")
    if isinstance(case, int):
        path.write_bytes(b"")
        os.truncate(path, case)
    else:
        path.write_bytes(case)
    check.main()


ON_DISK: dict[str, bytes] = {}  # what the last case left in the folder of downloads


def try_idx(case: dict[str, bytes]) -> None:
    """The stage download with these four files as the published MNIST; its output is data/raw.safetensors."""
    folder = Path("data/downloads/mnist")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in case.items():
        if ON_DISK.get(name) != content:
            (folder / name).write_bytes(content)
            ON_DISK[name] = content
    sums = [(name, hashlib.md5(case[name], usedforsecurity=False).hexdigest()) for name in bad_input.NAMES]
    kept, torchvision.MNIST.resources = torchvision.MNIST.resources, sums
    try:
        download.main()
    finally:
        torchvision.MNIST.resources = kept


def models() -> list[bytes]:
    """Whole model files of every bottleneck, with and without convolutions."""
    made = []
    for bottleneck, channels in (("linear", ()), ("gaussian", (3,)), ("top_k", ()), ("relu", (2, 2))):
        torch.manual_seed(0)
        spec = model.Spec((1, 8, 8), 4, channels, (5,), bottleneck, k=2 if bottleneck == "top_k" else 0)
        noise = {"corruption": "masking", "level": 0.3} if channels else None
        model.save(Path("model"), model.Autoencoder(spec), {"corruption": noise, "valid": 1.0})
        made.append(Path("model").read_bytes())
    return made


def try_model(case: bytes) -> None:
    """A model file: loaded, and used on two images where it is taken."""
    path = Path("data/model.safetensors")
    path.write_bytes(case)
    found, _ = model.load(path)
    images = np.zeros((2, *found.spec.shape), np.uint8)
    if images.size < 10**6:
        codes = inference.apply(found.encode, images, torch.device("cpu"))
        inference.apply(found.decode, codes, torch.device("cpu"))


def sets() -> list[bytes]:
    """Whole files of images: all of them, a part, and the state of a training on them."""
    rng = np.random.default_rng(0)
    held = {"images": rng.integers(0, 256, (60, 1, 8, 8), np.uint8), "labels": np.arange(60) % 3}
    about = {"dataset": "digits", "class_names": ["a", "b", "c"], "published_test": 0, "normal_classes": []}
    arrays.save(Path("raw"), held, about)
    arrays.save(Path("part"), held | {"index": np.arange(60)}, about)
    training = prepared()
    list(training.epochs())
    checkpoint.save(Path("state"), "mark", training, held["images"][:1])
    return [Path(name).read_bytes() for name in ("raw", "part", "state")]


def prepared() -> train.Training:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8)
    return train.prepare(read(TrainParams), images, images)


def try_arrays(case: bytes) -> None:
    """A file in the place of data/raw (to the stage split), of a part, and of an unfinished training.

    The last is never refused: it is taken where it is whole, and else passed over.
    """
    for path in (split.RAW, Path("part"), Path("state")):
        path.write_bytes(case)
    training = prepared()
    state = checkpoint.load(Path("state"), "mark", training)
    assert (state is None) == (not training.history), "a damaged state was taken up in part"
    if state is not None:
        wanted = from_torch(STATE)
        found = training.state()[0] | {"film": torch.from_numpy(state)}
        assert all(torch.equal(found[name], wanted[name]) for name in wanted | found), "damage was taken up"
    try:
        parts.load(Path("part"), "images", "labels")
    except UserError as error:
        one_line(error)
    split.main()


STATE = b""  # the whole state of a training, for try_arrays
CONFIG = {
    "idx": "download: {dataset: mnist, mirror: null}\n",
    "arrays": bad_input.PARAMS.replace("channels: ", "channels: [2] #").replace("epochs: 50", "epochs: 1 "),
}
OUTPUTS = {
    "params": ["data/checked"],
    "idx": ["data/raw.safetensors"],
    "model": [],
    "arrays": [f"data/split/{name}.safetensors" for name in ("train", "valid", "test")],
}


def prepare(kind: str) -> tuple[SearchStrategy, Callable]:
    """The cases of a kind and how one is tried, in the current folder, which is laid out for it."""
    global STATE
    Path("data").mkdir()
    Path("params.yaml").write_text(CONFIG.get(kind, bad_input.PARAMS), encoding="utf-8")
    if kind == "params":
        return bad_input.params(), try_params
    if kind == "idx":
        return bad_input.idx(), try_idx
    if kind == "model":
        return bad_input.tensors(models()), try_model
    wholes = sets()
    STATE = wholes[-1]
    return bad_input.tensors(wholes), try_arrays


def attempt(kind: str, trial: Callable, case: object) -> str:
    """One case: `taken`, or the line that refuses it. Raises AssertionError where it breaks a promise."""
    for name in OUTPUTS[kind]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(BEFORE)
    begun = time.process_time()  # not the clock: other processes may take turns
    try:
        trial(case)
        outcome = "taken"
    except UserError as error:
        outcome = one_line(error)
        assert all(Path(name).read_bytes() == BEFORE for name in OUTPUTS[kind]), f"refused, yet written: {outcome}"
    took = time.process_time() - begun
    assert took < SECONDS, f"took {took:.1f} s: {outcome[:200]}"
    assert not PWNED.exists(), "code of the input was run"
    return outcome


def one_line(error: UserError) -> str:
    """What the error says. Raises AssertionError where that is not one line of a length to be read."""
    text = str(error)
    assert text.isprintable(), f"not one printable line: {text[:200]!r}"
    assert len(text) < 1000, f"a line of {len(text)} characters: {text[:200]}"
    return text


def peak() -> int:
    """The most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=OUTPUTS)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    seen: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        cases, trial = prepare(options.kind)
        start_memory = peak()

        @seed(options.seed)
        @settings(
            max_examples=options.cases, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        )  # fmt: skip
        @given(cases)
        def each(case: object) -> None:
            nonlocal slowest
            start = time.process_time()
            seen["taken" if attempt(options.kind, trial, case) == "taken" else "refused"] += 1
            slowest = max(slowest, time.process_time() - start)
            assert peak() < MEMORY, f"{peak()} bytes of memory"

        begun = time.perf_counter()
        each()
        os.chdir("/")
    print(
        f"{options.kind}, seed {options.seed}: {seen.total():,} cases, {seen['refused']:,} refused in one line,"
        f" {seen['taken']:,} taken; slowest {slowest:.2f} s, memory {start_memory / 2**20:.0f} MiB at first,"
        f" {peak() / 2**20:.0f} MiB at most; {time.perf_counter() - begun:.0f} s in all"
    )


if __name__ == "__main__":
    run(main)
