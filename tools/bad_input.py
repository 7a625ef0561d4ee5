"""Bad input for tools.fuzz, made by hypothesis: parameter files, MNIST's files, safetensors files.

A strategy gives whole files as bytes. Most are a good file with one thing wrong, so that a case gets past the
first check; the rest are what such files are not: nothing, noise, other formats, programs.
"""

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

PARAMS = (Path(__file__).resolve().parent.parent / "params.yaml").read_text(encoding="utf-8")
PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."  # Python's own format, which runs this command when it is read

# values of a key, as they stand behind its colon
ODD = [
    *("", "~", "null", "yes", "true", "0", "-1", "-0.0", "1e-400", "1e999", ".nan", "-.inf", "0o17", "1_000", "1.0"),
    *("18446744073709551616", "65536", "65537", "4294967295", "1e308", "5e-324", "1" * 5000, "0x" + "f" * 5000),
    *(
        "'",
        '"',
        '""',
        "'" + "x" * 3000 + "'",
        "|",
        ">",
        "'\\0'",
        '"\\ud800"',
        '"\\0"',
        "%",
        "@",
        "`",
        "- 1",
        "? a",
        "---",
    ),
    *("...", "# x", "a: b: c", "\t", "1:30", "\u2028", "\u202e", "\U0001f600", "\ufeff", "\u00e9"),
    *("&a [*a]", "*nowhere", "&a {b: *a}", "{<<: {a: 1}}", "{<<: 3}", "[]", "{}", "[[[[]]]]", "{a: {b: {c: 1}}}"),
    *("{[1]: 2}", "{? {a: 1} : 2}", "{1: 2}", "{null: 1}", "[" * 300, "[" * 300 + "]" * 300, "[65536, 65536, 65536]"),
    *(str(list(range(1, 18))), "{latent_dim: 3}", "!!binary aGk=", "!!binary ?", "!!set {a, b}", "!!omap [a: 1]"),
    *("!!timestamp 2001-99-99", "2001-12-14t21:59:43.10-05:00", "!!int x", "!!float x", "!x y", "!!str 5"),
    *("!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!!python/module:os"),
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch pwned']",
    *("cuda:3", "cuda:999", "/dev/zero", "../../x", "$(touch pwned)", "; touch pwned", "`touch pwned`"),
    *("file:///dev/zero", "http://[x", "overcomplete", "variational", "bce", "digits", "umap"),
]
# "billion laughs": 9 ** 30 leaves for whoever follows every alias
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
BOMB += "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 31))
WHOLE = [  # whole files
    *(b"", b" ", b"\t", b"\n\n", b"# nothing", b"\xff\xfe", b"\x00" * 100, b"- 1", b"3", b"~", b"'x", b"---\n---\n"),
    *(b"[" * 60_000, b"{" * 60_000, b"- " * 30_000, b"a: " * 20_000, b"? " * 30_000, b"&a " * 20_000, b"!" * 65_000),
    *(b"'" * 65_001, b"x" * 65_000, b"%YAML 9.9\n---\na: 1", PICKLE, BOMB.encode(), (PARAMS + BOMB).encode()),
    b"%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system ['touch pwned']",
    *(b"\xef\xbb\xbf" + PARAMS.encode(), PARAMS.encode("utf-16"), PARAMS.encode("utf-32"), PARAMS.encode() * 2),
    *(PARAMS.replace("\n", end).encode() for end in ("\r\n", "\r", "\u2028")),
    *(PARAMS.replace("  ", "\t").encode(), (PARAMS + "---\n" + PARAMS).encode(), (PARAMS + "...\n").encode()),
]
LINES = PARAMS.splitlines()
KEYED = [number for number, line in enumerate(LINES) if re.match(r" *\w+:", line)]


@st.composite
def params(draw: st.DrawFn) -> bytes | int:
    """A file's bytes, or its size where it is that large a file of zeros."""
    kind = draw(st.sampled_from(["value"] * 5 + ["line", "bytes", "whole", "text", "size"]))
    if kind == "size":
        return draw(st.sampled_from([65_535, 65_536, 65_537, 10**6, 10**8, 10**12]))
    if kind == "whole":
        return draw(st.sampled_from(WHOLE))
    if kind == "text":
        return draw(
            st.one_of(st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=200))
        )
    if kind == "bytes":
        return draw(damaged(PARAMS.encode()))
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.sampled_from(KEYED))
        if kind == "value":
            odd = draw(
                st.one_of(st.sampled_from(ODD), st.text(max_size=20), st.integers().map(str), st.floats().map(repr))
            )
            lines[number] = lines[number].partition(":")[0] + ": " + odd
        else:
            other = draw(st.sampled_from(LINES))
            change = draw(st.sampled_from(["drop", "double", "other", "indent", "tab", "key", "swap"]))
            line = lines[number]
            lines[number] = {
                "drop": "", "double": f"{line}\n{line}", "other": other, "indent": " " * draw(st.integers(1, 9)) + line,
                "tab": "\t" + line, "key": draw(st.text(max_size=300)) + line.lstrip(), "swap": f"{other}\n{line}",
            }[change]  # fmt: skip
    return "\n".join(lines).encode("utf-8", "replace")


def damaged(content: bytes) -> SearchStrategy[bytes]:
    """The content cut, lengthened, with bits flipped, bytes replaced or a piece repeated."""
    place = st.integers(0, max(len(content) - 1, 0))

    def flip(places: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for at, bit in places:
            changed[at] ^= 1 << bit
        return bytes(changed)

    return st.one_of(
        place.map(lambda at: content[:at]),
        place.map(lambda at: content[at:]),
        st.binary(min_size=1, max_size=50).map(lambda more: content + more),
        st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4).map(flip),
        st.tuples(place, st.binary(max_size=9)).map(lambda x: content[: x[0]] + x[1] + content[x[0] + len(x[1]) :]),
        st.tuples(place, place).map(lambda x: content[: max(x)] + content[min(x) :]),
    )


COUNT = 4  # images in the whole files
NAMES = (  # training images and labels, test images and labels
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def idx_bytes(code: int, sizes: tuple[int, ...], body: bytes) -> bytes:
    """An IDX file, not packed."""
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes) + body


IMAGES = idx_bytes(8, (COUNT, 28, 28), bytes(range(196)) * 4 * COUNT)
LABELS = idx_bytes(8, (COUNT,), bytes(range(COUNT)))


def zipped(name: str, content: bytes) -> bytes:
    """A zip archive with one member of that name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


WHOLE_IDX = {name: IMAGES if "images" in name else LABELS for name in NAMES}
ZEROS = {size: gzip.compress(bytes(size), 1) for size in (10**6, 10**8)}  # gzip takes members one after another
SIZES = st.sampled_from([0, 1, COUNT, 28, 29, 255, 60_000, 10**8, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
KINDS = ["header", "count", "unpacked", "packed", "form", "binary"] * 40 + ["bomb"] * 9 + ["huge"]


@st.composite
def idx(draw: st.DrawFn) -> dict[str, bytes]:
    """The four files by name, one of them or two odd."""
    files = {name: gzip.compress(whole, mtime=0) for name, whole in WHOLE_IDX.items()}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2)):
        files[name] = draw(odd_idx(name))
    return files


@st.composite
def odd_idx(draw: st.DrawFn, name: str) -> bytes:
    """What may stand in the place of the file of that name."""
    whole = WHOLE_IDX[name]
    packed = gzip.compress(whole, mtime=0)
    match draw(st.sampled_from(KINDS)):
        case "header":
            sizes = tuple(draw(st.lists(SIZES, max_size=5)))
            sizes = draw(st.sampled_from([sizes, (*sizes[:1], 28, 28)]))
            body = draw(st.sampled_from([b"", b"\0", bytes(784), IMAGES[16:], LABELS[8:], bytes(10**6)]))
            return gzip.compress(idx_bytes(draw(st.sampled_from([8, 8, 9, 12, 13, 0, 255])), sizes, body), 1)
        case "count":
            count = draw(st.integers(0, 2 * COUNT))
            item, size = ((28, 28), 784) if "images" in name else ((), 1)
            pixel = draw(st.integers(0, 255))
            return gzip.compress(idx_bytes(8, (count, *item), bytes([pixel]) * count * size), 1)
        case "unpacked":
            return gzip.compress(draw(damaged(whole)), 1)
        case "packed":
            return draw(damaged(packed))
        case "form":
            others = [whole, zlib.compress(whole), zipped("../../pwned", whole), gzip.compress(packed), packed * 2]
            others += [packed + gzip.compress(b""), packed[:10], packed + bytes(1000), PICKLE, gzip.compress(PICKLE)]
            return draw(st.sampled_from(others))
        case "bomb":
            claimed = draw(st.sampled_from([COUNT, 85_598, 85_599, 340_000, 2**32 - 1]))
            zeros = draw(st.sampled_from(list(ZEROS.values()))) * draw(st.integers(1, 3))
            return gzip.compress(idx_bytes(8, (claimed, 28, 28), b"")) + zeros
        case "huge":
            return bytes(draw(st.sampled_from([2**26, 2**26 + 1])))
    return draw(st.binary(max_size=100))


VALUES = st.recursive(  # of JSON
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 65536, 10**9, 2**63]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NUMBERS = "F64 F32 F16 BF16 I64 I32 I8 U8 BOOL C64 F8_E4M3 F8_E5M2 U64 F4 x".split()  # noqa: SIM905  a list of such short words is easier to read so
FOREIGN = [b"", b"\0" * 8, b"\xff" * 8, b"\xff" * 100, PICKLE, zipped("../../pwned", b"x"), gzip.compress(b"x")]
FOREIGN += [zipped("archive/data.pkl", PICKLE), b"\x89HDF\r\n", struct.pack("<Q", 2**63) + b"{}"]
FOREIGN += [struct.pack("<Q", length) + b"[" * length for length in (2, 50_000)]


@st.composite
def tensors(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """One of the whole safetensors files, damaged or with something else in it; sometimes another format."""
    whole = draw(st.sampled_from(wholes))
    match draw(st.sampled_from(["bytes", "bytes", "header", "header", "about", "about", "array", "length", "foreign"])):
        case "bytes":
            return draw(damaged(whole))
        case "header":
            return draw(odd_header(whole))
        case "about":
            return draw(odd_description(whole))
        case "array":
            return draw(odd_array(whole))
        case "length":
            return struct.pack("<Q", draw(st.integers(0, 2**64 - 1))) + whole[8:]
    return draw(st.sampled_from(FOREIGN) | st.binary(max_size=100))


def taken_apart(content: bytes) -> tuple[dict, dict, bytes]:
    """The header of a safetensors file, the description in it, and the bytes behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["json"]), content[8 + length :]


def put_together(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@st.composite
def odd_header(draw: st.DrawFn, whole: bytes) -> bytes:
    """Another number type, shape, place or name of one array; one array less or more; other metadata."""
    header, _, body = taken_apart(whole)
    name = draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
    entry, large = header[name], st.integers(0, 2**63)
    match draw(st.sampled_from(["dtype", "shape", "offsets", "name", "drop", "double", "metadata"])):
        case "dtype":
            entry["dtype"] = draw(st.sampled_from(NUMBERS) | VALUES)
        case "shape":
            shapes = st.permutations(entry["shape"]) | st.lists(large, max_size=6) | st.just([2**32, 2**32]) | VALUES
            entry["shape"] = draw(shapes)
        case "offsets":
            entry["data_offsets"] = draw(st.lists(large, min_size=2, max_size=2) | st.just([0, len(body)]))
        case "name":
            header[draw(st.text(max_size=99))] = header.pop(name)
        case "drop":
            del header[name]
        case "double":
            header[f"{name}2"] = entry
        case "metadata":
            header["__metadata__"] = draw(VALUES)
    return put_together(header, body)


@st.composite
def odd_description(draw: st.DrawFn, whole: bytes) -> bytes:
    """Another value of one key of the description, down to two levels; or another description."""
    header, about, body = taken_apart(whole)
    place = about
    for _ in range(draw(st.integers(0, 2))):
        inner = [key for key, value in place.items() if isinstance(value, dict) and value]
        if inner:
            place = place[draw(st.sampled_from(inner))]
    key = draw(st.sampled_from(sorted(place)))
    place[key] = draw(VALUES)
    change = draw(st.sampled_from(["value"] * 4 + ["drop", "deep", "whole", "large"]))
    if change == "drop":
        del place[key]
    text = json.dumps(about)
    others = {"deep": "[" * 10_000, "whole": json.dumps(place.get(key)), "large": text + " " * 2**21}
    header["__metadata__"]["json"] = others.get(change, text)
    return put_together(header, body)


@st.composite
def odd_array(draw: st.DrawFn, whole: bytes) -> bytes:
    """A whole file again, with another array in the place of one."""
    _, about, _ = taken_apart(whole)
    held = from_bytes(whole)
    name = draw(st.sampled_from(sorted(held)))
    kinds = [held[name].dtype, "uint8", "int8", "int64", "float16", "float32", "float64", "bool", "complex64"]
    shape = draw(st.just(held[name].shape) | st.lists(st.integers(0, 5), max_size=5).map(tuple))
    fill = draw(st.sampled_from([0, 1, -1, 255, np.nan, np.inf, 3e38]))
    with np.errstate(all="ignore"):
        held[name] = np.full(shape, fill).astype(draw(st.sampled_from(kinds)))
    return to_bytes(held, {"json": json.dumps(about)})
