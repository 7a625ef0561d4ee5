"""What stands in a folder after a run, to be compared with another run byte by byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def read_files(folder: Path, without: Sequence[str] = ()) -> dict[str, bytes]:
    """The content of every file below a folder by its name there.

    without: beginnings of names, such as ".git/", that are left out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(tuple(without))}


def list_differences(expected: Mapping[str, bytes], actual: Mapping[str, bytes]) -> list[str]:
    """The names of files that are absent from one side or differ."""
    return sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
