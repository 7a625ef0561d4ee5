"""`python -m tests.stress.fuzz [KIND ...] --cases 10000`: give the pipeline bad input.

Kinds: params (params.yaml), downloads (the files of MNIST, EMNIST, CIFAR-10 and SVHN), images (a user's folder), model
(the model file), codes (tables that tools.model decodes), arrays (the other safetensors files).
The library hypothesis generates the cases. Most are a good file with one fault, so that they pass the first check;
the others are empty files, noise, other formats and programs.
A case passes if the stage's own code takes it, or refuses it in one line (UserError) and leaves earlier outputs
unchanged. It may use 5 s of CPU time and 1 GiB of memory, and no code from the input may run.
Results: docs/reliability.md. The suite tries a few cases of each kind.
"""

import gzip
import json
import logging
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import load as tensors_from_bytes

from stages import check, download, split
from stages.autoencoder.classifier import classifier_file, fitting, network
from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.params.base.loader import load
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.sources.dataset import Masks, in_memory
from stages.autoencoder.training import checkpoint
from stages.autoencoder.training.loop import Training
from stages.autoencoder.training.preparation import prepare
from stages.autoencoder.use import load_model
from stages.runtime.command import run_main
from tests.stress.bad_input import code_tables, downloads, image_folders
from tests.stress.damage import PICKLE, damaged_copies, zip_bytes
from tests.support import model_files
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params

MAX_CASE_SECONDS = 5
MAX_PROCESS_BYTES = 2**30
CASES_PER_PROCESS = 1000
EARLIER_OUTPUT = b"what an earlier run wrote"
PLANTED = Path("pwned")  # the code in the input makes this file if anything runs it


class Target(NamedTuple):
    """The code that receives bad input of one kind."""

    cases: SearchStrategy[Any]
    accept: Callable[[Any], None]  # raises UserError for a case that it refuses
    outputs: Sequence[str]  # files that a refused case must leave unchanged


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tests.stress.fuzz",
        description="Give the pipeline bad input, which it must take or refuse in one line.",
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(TARGETS)} (default: all)")
    parser.add_argument("--cases", type=int, default=10_000, help="of each kind, 1,000 in a process (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first process; each process adds 1 (default: 0)")
    options = parser.parse_args()
    if options.cases < 1:
        raise UserError(f"fuzz: --cases must be at least 1; got {options.cases}")
    if unknown := [kind for kind in options.kinds if kind not in TARGETS]:
        raise UserError(f"fuzz: a kind must be one of {', '.join(TARGETS)}; got {unknown[0]}")
    counts = split_count(options.cases)
    batches = [(kind, n, options.seed + i) for kind in options.kinds or TARGETS for i, n in enumerate(counts)]
    if len(batches) == 1:
        fuzz(*batches[0])
        return
    failed = []
    for kind, count, random_seed in batches:
        command = ["tests.stress.fuzz", kind, "--cases", str(count), "--seed", str(random_seed)]
        if subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode:
            failed.append(f"{kind} --seed {random_seed}")
    if failed:
        raise UserError(f"fuzz: every case must be taken or refused in one line; not so for {', '.join(failed)}")


def split_count(cases: int) -> list[int]:
    """The number of cases for each process; hypothesis remembers its cases, so one process would use more and more."""
    full, rest = divmod(cases, CASES_PER_PROCESS)
    return [CASES_PER_PROCESS] * full + [rest] * bool(rest)


def fuzz(kind: str, count: int, random_seed: int) -> None:
    """Try `count` random cases of a kind. Raises AssertionError if one breaks a promise."""
    logging.disable(logging.INFO)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        target = make_target(kind)
        initial_memory, start = peak_memory(), time.perf_counter()

        @seed(random_seed)
        @settings(
            max_examples=count, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        )  # fmt: skip
        @given(target.cases)
        def try_each(case: object) -> None:
            nonlocal slowest
            case_start = time.process_time()
            outcomes["taken" if try_case(target, case) is None else "refused"] += 1
            slowest = max(slowest, time.process_time() - case_start)
            assert peak_memory() < MAX_PROCESS_BYTES, f"{peak_memory()} bytes of memory"

        try_each()
        os.chdir("/")
    print(
        f"{kind}, seed {random_seed}: {outcomes.total():,} cases, {outcomes['refused']:,} refused in one line,"
        f" {outcomes['taken']:,} taken; slowest {slowest:.2f} s, memory {initial_memory / 2**20:.0f} MiB at first,"
        f" {peak_memory() / 2**20:.0f} MiB at most; {time.perf_counter() - start:.0f} s in all"
    )


def make_target(kind: str) -> Target:
    """The target of a kind. Writes the files that it needs to the current folder, which must be empty."""
    Path("data").mkdir()
    return TARGETS[kind]()


def try_case(target: Target, case: object) -> str | None:
    """Give one case to its target. Returns the line that refuses it, or None if it is taken.

    Raises AssertionError if the case breaks a promise.
    """
    for name in target.outputs:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(EARLIER_OUTPUT)
    start = time.process_time()  # CPU time: other processes may run meanwhile
    message = None
    try:
        target.accept(case)
    except UserError as error:
        message = check_message(error)
        unchanged = all(Path(name).read_bytes() == EARLIER_OUTPUT for name in target.outputs)
        assert unchanged, f"refused, yet written: {message}"
    seconds = time.process_time() - start
    assert seconds < MAX_CASE_SECONDS, f"took {seconds:.1f} s: {(message or 'taken')[:200]}"
    assert not PLANTED.exists(), "code of the input was run"
    return message


def check_message(error: UserError) -> str:
    """The error's message. Raises AssertionError unless it is one printable line of fewer than 1,000 characters."""
    message = str(error)
    assert message.isprintable(), f"not one printable line: {message[:200]!r}"
    assert len(message) < 1000, f"a line of {len(message)} characters: {message[:200]}"
    return message


def peak_memory() -> int:
    """The peak memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# params: the stage check is given a params.yaml

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
PARAMS_LINES = PARAMS.splitlines()
LINES_WITH_KEY = [number for number, line in enumerate(PARAMS_LINES) if re.match(r" *\w+:", line)]
ODD_VALUES = [  # written behind the colon of a key
    *("", "~", "null", "yes", "true", "0", "-1", "-0.0", "1e-400", "1e999", ".nan", "-.inf", "0o17", "1_000", "1.0"),
    *("18446744073709551616", "65536", "65537", "4294967295", "1e308", "5e-324", "1" * 5000, "0x" + "f" * 5000),
    *("'", '"', '""', "'" + "x" * 3000 + "'", "|", ">", "'\\0'", '"\\ud800"', '"\\0"', "%", "@", "`", "- 1", "? a"),
    *("---", "...", "# x", "a: b: c", "\t", "1:30", "\u2028", "\u202e", "\U0001f600", "\ufeff", "\u00e9"),
    *("&a [*a]", "*nowhere", "&a {b: *a}", "{<<: {a: 1}}", "{<<: 3}", "[]", "{}", "[[[[]]]]", "{a: {b: {c: 1}}}"),
    *("{[1]: 2}", "{? {a: 1} : 2}", "{1: 2}", "{null: 1}", "[" * 300, "[" * 300 + "]" * 300, "[65536, 65536, 65536]"),
    *(str(list(range(1, 18))), "{latent_dim: 3}", "!!binary aGk=", "!!binary ?", "!!set {a, b}", "!!omap [a: 1]"),
    *("!!timestamp 2001-99-99", "2001-12-14t21:59:43.10-05:00", "!!int x", "!!float x", "!x y", "!!str 5"),
    *("!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!!python/module:os"),
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch pwned']",
    *("cuda:3", "cuda:999", "/dev/zero", "../../x", "$(touch pwned)", "; touch pwned", "`touch pwned`"),
    *("file:///dev/zero", "http://[x", "overcomplete", "variational", "bce", "digits", "umap"),
]
# "billion laughs": 9 ** 30 leaves if every alias is followed
ALIAS_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
ALIAS_BOMB += "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 31))
ODD_PARAMS_FILES = [
    *(b"", b" ", b"\t", b"\n\n", b"# nothing", b"\xff\xfe", b"\x00" * 100, b"- 1", b"3", b"~", b"'x", b"---\n---\n"),
    *(b"[" * 60_000, b"{" * 60_000, b"- " * 30_000, b"a: " * 20_000, b"? " * 30_000, b"&a " * 20_000, b"!" * 65_000),
    *(b"'" * 65_001, b"x" * 65_000, b"%YAML 9.9\n---\na: 1", PICKLE, ALIAS_BOMB.encode()),
    (PARAMS + ALIAS_BOMB).encode(),
    b"%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system ['touch pwned']",
    *(b"\xef\xbb\xbf" + PARAMS.encode(), PARAMS.encode("utf-16"), PARAMS.encode("utf-32"), PARAMS.encode() * 2),
    *(PARAMS.replace("\n", end).encode() for end in ("\r\n", "\r", "\u2028")),
    *(PARAMS.replace("  ", "\t").encode(), (PARAMS + "---\n" + PARAMS).encode(), (PARAMS + "...\n").encode()),
]


def make_params_target() -> Target:
    """The stage check; its output is data/checked."""
    return Target(params_files(), check_params, ["data/checked"])


def check_params(case: bytes | int) -> None:
    """Run the stage check on a params.yaml: its content, or the size of a file of zeros."""
    path = Path("params.yaml")
    if isinstance(case, int):
        path.write_bytes(b"")
        os.truncate(path, case)
    else:
        path.write_bytes(case)
    check.main()


@st.composite
def params_files(draw: st.DrawFn) -> bytes | int:
    """The content of a file, or the size of a file of zeros."""
    fault = draw(st.sampled_from(["value"] * 5 + ["line", "bytes", "file", "text", "size"]))
    if fault == "size":
        return draw(st.sampled_from([65_535, 65_536, 65_537, 10**6, 10**8, 10**12]))
    if fault == "file":
        return draw(st.sampled_from(ODD_PARAMS_FILES))
    if fault == "text":
        text = st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
        return draw(st.one_of(text, st.binary(max_size=200)))
    if fault == "bytes":
        return draw(damaged_copies(PARAMS.encode()))
    lines = list(PARAMS_LINES)
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.sampled_from(LINES_WITH_KEY))
        if fault == "value":
            values = st.sampled_from(ODD_VALUES), st.text(max_size=20), st.integers().map(str), st.floats().map(repr)
            lines[number] = lines[number].partition(":")[0] + ": " + draw(st.one_of(*values))
        else:
            lines[number] = draw(odd_lines(lines[number]))
    return "\n".join(lines).encode("utf-8", "replace")


@st.composite
def odd_lines(draw: st.DrawFn, line: str) -> str:
    """Replacements for a line of params.yaml."""
    other = draw(st.sampled_from(PARAMS_LINES))
    match draw(st.sampled_from(["drop", "double", "other", "indent", "tab", "key", "swap"])):
        case "drop":
            return ""
        case "double":
            return f"{line}\n{line}"
        case "other":
            return other
        case "indent":
            return " " * draw(st.integers(1, 9)) + line
        case "tab":
            return "\t" + line
        case "key":
            return draw(st.text(max_size=300)) + line.lstrip()
    return f"{other}\n{line}"


# downloads: the stage download is given the files of a dataset as the published ones


def make_downloads_target() -> Target:
    """The stage download; its output is data/raw.safetensors."""
    return Target(downloads.downloads(), partial(downloads.run_download, {}), ["data/raw.safetensors"])


# images: the stage download is given a folder of images


def make_images_target() -> Target:
    """The stage download with dataset folder; its output is data/raw.safetensors."""
    return Target(image_folders.image_folders(), image_folders.read_folder, ["data/raw.safetensors"])


# model, arrays: safetensors files

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 65536, 10**9, 2**63]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NUMBER_TYPES = "F64 F32 F16 BF16 I64 I32 I8 U8 BOOL C64 F8_E4M3 F8_E5M2 U64 F4 x".split()  # noqa: SIM905  readable
FOREIGN_FILES = [
    b"",
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff" * 100,
    PICKLE,
    zip_bytes("../../pwned", b"x"),
    gzip.compress(b"x"),
]
FOREIGN_FILES += [zip_bytes("archive/data.pkl", PICKLE), b"\x89HDF\r\n", struct.pack("<Q", 2**63) + b"{}"]
FOREIGN_FILES += [struct.pack("<Q", length) + b"[" * length for length in (2, 50_000)]


def make_model_target() -> Target:
    """The model file, which is loaded and applied to two images."""
    return Target(safetensors_files(make_model_files()), use_model, [])


def make_model_files() -> list[bytes]:
    """Model files without a fault: every bottleneck, with and without convolutions."""
    contents = []
    for bottleneck, channels in (("linear", ()), ("gaussian", (3,)), ("top_k", ()), ("relu", (2, 2))):
        torch.manual_seed(0)
        kept = {"k": 2, "encode_k": 3} if bottleneck == "top_k" else {}
        spec = Spec((1, 8, 8), 4, channels, (5,), Bottleneck(bottleneck), **kept)
        model_files.save(Path("model"), Autoencoder(spec), "masking" if channels else None)
        contents.append(Path("model").read_bytes())
    return contents


def use_model(case: bytes) -> None:
    """Load a model file, and encode two images, decode them and generate two unless they are large."""
    path = Path("data/model.safetensors")
    path.write_bytes(case)
    model = load_model(path, "cpu")
    images = np.zeros((2, *model.shape), np.uint8)
    if images.size < 10**6:
        model.decode(model.encode(images))
        model.generate(2)


def make_codes_target() -> Target:
    """A table of codes, of which tools.model makes pictures."""
    code_tables.write_model()
    return Target(code_tables.code_tables(), code_tables.decode_table, [])


GOOD_RAW, GOOD_PART, GOOD_CLASSIFIER = Path("good_raw"), Path("good_part"), Path("good_classifier")


def make_arrays_target() -> Target:
    """One file as data/raw (for the stage split), as a file of the split, as a classifier, as a training's state."""
    write_arrays_params()
    contents = make_array_files()
    outputs = [f"data/split/{name}.safetensors" for name in ("train", "valid", "test")]
    return Target(safetensors_files(contents), partial(read_arrays, contents[-1]), outputs)


def write_arrays_params() -> None:
    """Write the params.yaml of a training that takes a moment."""
    changes = {"train.conv.channels": [2], "train.epochs": 1}
    write_params(Path("params.yaml"), changes, source=ROOT / "params.yaml")


def make_array_files() -> list[bytes]:
    """Array files without a fault: data/raw, a file of the split, a classifier and the state of a training."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 1, 8, 8), np.uint8), np.arange(60) % 3
    dataset = replace(
        in_memory(images, labels, "abc", 0),
        names=[f"{number}.png" for number in range(60)],
        masks=Masks(np.arange(30), [np.ones((30, 8, 8), np.uint8)]),
    )
    about = download.describe(dataset, "folder")
    download.save(GOOD_RAW, dataset, about)
    digest = packed_file.read_digest(GOOD_RAW)
    arrays.save(GOOD_PART, {"labels": labels, "index": np.arange(60)}, about | {"images": digest})
    labelled = fitting.LabelledImages(images, labels)
    fitted = fitting.fit(labelled, labelled, np.unique(labels), torch.device("cpu"))
    classifier_file.save(GOOD_CLASSIFIER, fitted, digest)
    training = prepare_training()
    list(training.epochs())
    checkpoint.save(Path("state"), "fingerprint", training, images[:1])
    return [path.read_bytes() for path in (GOOD_RAW, GOOD_PART, GOOD_CLASSIFIER, Path("state"))]


def prepare_training() -> Training:
    """A training on 20 images that has not begun, with the params.yaml in the current folder."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8)
    return prepare(load(TrainParams), images, images)


def read_arrays(good_state: bytes, case: bytes) -> None:
    """Use a file as the state of a training, as a file of the split, as a classifier, and as data/raw.

    A damaged state is ignored, never refused.
    """
    for path in (packed_file.RAW, Path("split"), Path("classifier"), Path("state")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(case)
    training = prepare_training()
    previews = checkpoint.load(Path("state"), "fingerprint", training)
    assert (previews is None) == (not training.history), "a damaged state was used in part"
    if previews is not None:
        expected = tensors_from_bytes(good_state)
        restored = training.state()[0] | {"previews": torch.from_numpy(previews)}
        assert all(torch.equal(restored[name], expected[name]) for name in expected | restored), "damage was used"
    for part_file, raw in ((Path("split"), GOOD_RAW), (GOOD_PART, packed_file.RAW)):
        try:
            part = split_files.load(part_file, raw)
            assert part.images[:].shape == (len(part.labels), *part.images.shape[1:])
            part.read_names()
            part.read_masks()
        except UserError as error:
            check_message(error)
    try:
        classifier = classifier_file.load(Path("classifier"), packed_file.read_digest(GOOD_RAW), torch.device("cpu"))
        if not isinstance(classifier, str) and np.prod(classifier.spec.shape) < 10**6:
            network.classify(classifier, np.zeros((2, *classifier.spec.shape), np.uint8), torch.device("cpu"))
    except UserError as error:
        check_message(error)
    split.main()


@st.composite
def safetensors_files(draw: st.DrawFn, good_files: list[bytes]) -> bytes:
    """One of the good files with a fault; sometimes a file of another format."""
    good = draw(st.sampled_from(good_files))
    faults = ["bytes", "bytes", "header", "header", "description", "description", "array", "length", "format"]
    match draw(st.sampled_from(faults)):
        case "bytes":
            return draw(damaged_copies(good))
        case "header":
            return draw(odd_headers(good))
        case "description":
            return draw(odd_descriptions(good))
        case "array":
            return draw(odd_arrays(good))
        case "length":
            return struct.pack("<Q", draw(st.integers(0, 2**64 - 1))) + good[8:]
    return draw(st.sampled_from(FOREIGN_FILES) | st.binary(max_size=100))


def take_apart(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The parts of a safetensors file: its header, the description inside it, and the bytes after it."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["json"]), content[8 + length :]


def put_together(header: dict[str, Any], body: bytes) -> bytes:
    """The safetensors file with this header and the bytes after it."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@st.composite
def odd_headers(draw: st.DrawFn, good: bytes) -> bytes:
    """The file with a fault in its header: in one array's entry, in the number of arrays, or in the metadata."""
    header, _, body = take_apart(good)
    name = draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
    entry, large = header[name], st.integers(0, 2**63)
    match draw(st.sampled_from(["dtype", "shape", "offsets", "name", "drop", "double", "metadata"])):
        case "dtype":
            entry["dtype"] = draw(st.sampled_from(NUMBER_TYPES) | JSON_VALUES)
        case "shape":
            shapes = st.permutations(entry["shape"]) | st.lists(large, max_size=6) | st.just([2**32, 2**32])
            entry["shape"] = draw(shapes | JSON_VALUES)
        case "offsets":
            entry["data_offsets"] = draw(st.lists(large, min_size=2, max_size=2) | st.just([0, len(body)]))
        case "name":
            header[draw(st.text(max_size=99))] = header.pop(name)
        case "drop":
            del header[name]
        case "double":
            header[f"{name}2"] = entry
        case "metadata":
            header["__metadata__"] = draw(JSON_VALUES)
    return put_together(header, body)


@st.composite
def odd_descriptions(draw: st.DrawFn, good: bytes) -> bytes:
    """The file with another value of one key of its description, at most two levels down; or another description."""
    header, about, body = take_apart(good)
    place = about
    for _ in range(draw(st.integers(0, 2))):
        sections = [key for key, value in place.items() if isinstance(value, dict) and value]
        if sections:
            place = place[draw(st.sampled_from(sections))]
    key = draw(st.sampled_from(sorted(place)))
    place[key] = draw(JSON_VALUES)
    fault = draw(st.sampled_from(["value"] * 4 + ["drop", "deep", "section", "large"]))
    if fault == "drop":
        del place[key]
    text = json.dumps(about)
    others = {"deep": "[" * 10_000, "section": json.dumps(place.get(key)), "large": text + " " * 2**21}
    header["__metadata__"]["json"] = others.get(fault, text)
    return put_together(header, body)


@st.composite
def odd_arrays(draw: st.DrawFn, good: bytes) -> bytes:
    """The file with one array replaced, otherwise whole."""
    _, about, _ = take_apart(good)
    named_arrays = arrays_from_bytes(good)
    name = draw(st.sampled_from(sorted(named_arrays)))
    kinds = [
        str(named_arrays[name].dtype),
        "uint8",
        "int8",
        "int64",
        "float16",
        "float32",
        "float64",
        "bool",
        "complex64",
    ]
    shape = draw(st.just(named_arrays[name].shape) | st.lists(st.integers(0, 5), max_size=5).map(tuple))
    fill = draw(st.sampled_from([0, 1, -1, 255, np.nan, np.inf, 3e38]))
    with np.errstate(all="ignore"):
        named_arrays[name] = np.full(shape, fill).astype(draw(st.sampled_from(kinds)))
    return arrays_to_bytes(named_arrays, {"json": json.dumps(about)})


TARGETS = {
    "params": make_params_target,
    "downloads": make_downloads_target,
    "images": make_images_target,
    "model": make_model_target,
    "codes": make_codes_target,
    "arrays": make_arrays_target,
}

if __name__ == "__main__":
    run_main(main)
