"""The files in a folder after a run, and how they differ from those of another run, byte for byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def read_files(folder: Path, without: Sequence[str] = ()) -> dict[str, bytes]:
    """{name: content} of every file below a folder; names are relative to the folder.

    without: files whose names begin with one of these, such as ".git/", are left out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(tuple(without))}


def list_differences(expected: Mapping[str, bytes], actual: Mapping[str, bytes]) -> list[str]:
    """The names of files that differ, or that only one side has."""
    return sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
