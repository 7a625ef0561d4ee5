"""Damage for any kind of file: what the fuzz tests do to good content, and what they put in its place."""

import io
import zipfile

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."  # Python's own format, which runs this command when it is loaded


def damaged_copies(content: bytes) -> SearchStrategy[bytes]:
    """The content cut, lengthened, or with bits flipped, bytes replaced or a piece repeated."""
    place = st.integers(0, max(len(content) - 1, 0))

    def flip_bits(places: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for at, bit in places:
            changed[at] ^= 1 << bit
        return bytes(changed)

    return st.one_of(
        place.map(lambda at: content[:at]),
        place.map(lambda at: content[at:]),
        st.binary(min_size=1, max_size=50).map(lambda more: content + more),
        st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4).map(flip_bits),
        st.tuples(place, st.binary(max_size=9)).map(lambda x: content[: x[0]] + x[1] + content[x[0] + len(x[1]) :]),
        st.tuples(place, place).map(lambda x: content[: max(x)] + content[min(x) :]),
    )


def zip_bytes(name: str, content: bytes) -> bytes:
    """A zip archive with one member of that name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()
