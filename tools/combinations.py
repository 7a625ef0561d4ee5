"""A grid of parameters -> its combinations, each named and checked. Syntax: that of `dvc exp run -S`.

In: texts such as `latent_dim=2,4,8` or `seed=range(0,3)`. Out: one Combination for each, with the whole of
params.yaml as it would be, or the reason why it can't run. DVC's own parser takes the texts apart.
"""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps, to_hydra_overrides
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException

from stages.autoencoder.errors import UserError
from stages.autoencoder.params import reading, schema

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*")  # no part of it may trouble git or a path

LONGEST = 150  # characters of a name: git makes a file of it, with an ending of its own, and 255 is the limit


@dataclass(frozen=True)
class Combination:
    """One experiment: its name, what it overrides, all of params.yaml with that; `problem`: why it can't run."""

    name: str
    overrides: tuple[str, ...]  # key=value, as after -S
    params: dict[str, Any]
    problem: str = ""


def expand(texts: Sequence[str], name: str, path: Path = reading.PARAMS) -> list[Combination]:
    """Every combination of the values in `texts`, in their order, each once.

    Raises UserError for a text that DVC does not understand, a key given twice or not in params.yaml.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"--name must be letters, digits, and - + _ . between them; got {name!r}")
    keys = [_key(text) for text in texts]
    for key, count in Counter(keys).items():
        if count > 1:
            raise UserError(f"{key} is given {count} times; list its values with commas: {key}=1,2")
    reading.read_yaml(path)
    try:
        grid = [tuple(choice[path.name]) for choice in get_hydra_sweeps(to_path_overrides(texts))]
    except (HydraException, DvcException) as error:
        raise UserError(f"{' '.join(texts)} is no list of values as in dvc exp run -S; {_brief(error)}") from None
    grid = list(dict.fromkeys(grid))
    names = _names(name, grid)
    return [_combination(names[overrides], overrides, path) for overrides in grid]


def _key(text: str) -> str:
    """The key of `key=values`; UserError where the text is something else."""
    try:
        override = to_hydra_overrides([text])[0]
    except HydraException as error:
        raise UserError(
            f"{text} is not key=value,value... as in dvc exp run -S; {str(error).splitlines()[0]}"
        ) from None
    if override.type is not OverrideType.CHANGE or ":" in override.key_or_group:
        raise UserError(f"{text} must be key=value,value... with a key of params.yaml")
    return override.key_or_group


def _brief(error: Exception) -> str:
    """The first line of a parser's complaint, without all that it would have taken."""
    return str(error).splitlines()[0].partition(" expecting {")[0]


def _names(prefix: str, grid: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A readable name for each combination: sweep-latent_dim-4-seed-1. Alike ones are told apart by a number.

    Where one would be longer than LONGEST, keys with the same value everywhere are left out of all of them.
    Raises UserError where that does not help.
    """
    names = {overrides: "-".join([prefix, *map(_readable, overrides)]) for overrides in grid}
    if max(map(len, names.values())) > LONGEST:
        same = set.intersection(*map(set, grid))
        names = {key: "-".join([prefix, *(_readable(part) for part in key if part not in same)]) for key in grid}
    if len(longest := max(names.values(), key=len)) > LONGEST:
        raise UserError(
            f"names of experiments must have at most {LONGEST} characters; got {len(longest)} in {longest[:40]}...;"
            " vary fewer keys at once"
        )
    seen: Counter[str] = Counter()
    for overrides, name in names.items():
        seen[name] += 1
        if seen[name] > 1:
            names[overrides] = f"{name}-no{seen[name]}"
    return names


def _readable(override: str) -> str:
    """train.widths=[64,32] -> train.widths-64_32: what git, DVC and every file system take in a name."""
    key, _, value = override.partition("=")
    value = re.sub(r"[^A-Za-z0-9_.+-]+", "_", value).strip("_.") or "empty"
    return f"{key}-{re.sub(r'[.]{2,}', '.', value)}"


def _combination(name: str, overrides: tuple[str, ...], path: Path) -> Combination:
    """The combination with all of params.yaml, checked as the stage `check` does it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        try:
            apply_overrides(copy, list(overrides))
        except DvcException:  # an unknown key: added, so that the schema says which one was meant
            apply_overrides(copy, [f"++{override}" for override in overrides])
            reading.validate(schema.Params, reading.read_yaml(copy), path)
            raise UserError(f"{path}: does not take {' '.join(overrides)}") from None
        params = reading.read_yaml(copy)
    try:
        schema.check(reading.validate(schema.Params, params, path))
    except UserError as error:
        return Combination(name, overrides, params, str(error))
    return Combination(name, overrides, params)
