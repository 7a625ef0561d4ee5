"""A grid of parameters -> its combinations, each named and checked. The syntax is that of `dvc exp run -S`.

In: arguments such as `latent_dim=2,4,8` or `seed=range(0,3)`. Out: one Combination each, with all of params.yaml
as that experiment will read it, or the reason why it can't run. DVC's own parser reads the arguments.
"""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps, to_hydra_overrides
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.all_sections import Params
from stages.autoencoder.params.base import loader
from tools.sweeps.engines.worker import NAME

MAX_NAME_LENGTH = 150  # characters; git stores a name as a file with a suffix of its own, and 255 is the limit


@dataclass(frozen=True)
class Combination:
    """One experiment of a grid.

    overrides: `key=value` each, as after -S. params: all of params.yaml with these values.
    problem: why the experiment can't run; empty if it can.
    """

    name: str
    overrides: tuple[str, ...]
    params: dict[str, Any]
    problem: str = ""


def expand(arguments: Sequence[str], sweep: str, path: Path = loader.PARAMS) -> list[Combination]:
    """Every combination of the values in `arguments`, in their order, without repetitions.

    sweep: the sweep's name, with which the experiments' names begin.
    Raises UserError for an argument that DVC can't parse, for a key given twice and for a key not in params.yaml.
    """
    if not NAME.fullmatch(sweep):
        raise UserError(f"--name must be letters and digits, with - + _ . between them; got {sweep!r}")
    keys = [_parse_key(argument) for argument in arguments]
    for key, count in Counter(keys).items():
        if count > 1:
            raise UserError(f"{key} is given {count} times; separate its values with commas: {key}=1,2")
    loader.read_yaml(path)
    try:
        grid = [tuple(overrides[path.name]) for overrides in get_hydra_sweeps(to_path_overrides(arguments))]
    except (HydraException, DvcException) as error:
        raise UserError(
            f"{' '.join(arguments)} is not a list of values as in dvc exp run -S; {_first_line(error)}"
        ) from None
    names = _name_experiments(sweep, dict.fromkeys(grid))
    return [_build_combination(name, overrides, path) for overrides, name in names.items()]


def _parse_key(argument: str) -> str:
    """The key of `key=values`. Raises UserError for any other form."""
    try:
        override = to_hydra_overrides([argument])[0]
    except HydraException as error:
        if re.fullmatch(r"[\w.]+", argument):
            example = "latent_dim=2,4" if argument == "latent_dim" else f"{argument}=VALUE,VALUE, as in latent_dim=2,4"
            raise UserError(f"{argument} has no value; write {example}") from None
        raise UserError(f"{argument} is not key=value,value... as in dvc exp run -S; {_first_line(error)}") from None
    if override.type is not OverrideType.CHANGE or ":" in override.key_or_group:
        raise UserError(f"{argument} must be key=value,value... with a key of params.yaml")
    return str(override.key_or_group)


def _first_line(error: Exception) -> str:
    """The first line of a parser's message, without the list of tokens that it expected."""
    return str(error).splitlines()[0].partition(" expecting {")[0]


def _name_experiments(sweep: str, grid: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """{overrides: readable name}, such as size-latent_dim-4-seed-1. A number tells equal names apart.

    A name leaves out what all combinations share; a combination that is alone keeps its keys if they fit.
    Raises UserError for a name longer than MAX_NAME_LENGTH.
    """
    grid = list(grid)
    shared = set.intersection(*map(set, grid))
    names = {
        overrides: "-".join([sweep, *(_readable(part) for part in overrides if part not in shared)])
        for overrides in grid
    }
    if len(grid) == 1:
        with_keys = "-".join([sweep, *map(_readable, grid[0])])
        names = {grid[0]: with_keys if len(with_keys) <= MAX_NAME_LENGTH else sweep}
    if len(longest := max(names.values(), key=len)) > MAX_NAME_LENGTH:
        raise UserError(
            f"names of experiments must have at most {MAX_NAME_LENGTH} characters; got {len(longest)} in"
            f" {longest[:40]}...; vary fewer keys at once"
        )
    uses: Counter[str] = Counter()
    for overrides, name in names.items():
        uses[name] += 1
        if uses[name] > 1:
            names[overrides] = f"{name}-no{uses[name]}"
    return names


def _readable(override: str) -> str:
    """train.mlp.widths=[64,32] -> train.mlp.widths-64_32, which git, DVC and every file system accept in a name."""
    key, _, value = override.partition("=")
    value = re.sub(r"[^A-Za-z0-9_.+-]+", "_", value).strip("_.") or "empty"
    return f"{key}-{re.sub(r'[.]{2,}', '.', value)}"


def _build_combination(name: str, overrides: tuple[str, ...], path: Path) -> Combination:
    """The combination with all of params.yaml, checked as the stage `check` checks it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        try:
            apply_overrides(copy, list(overrides))
        except DvcException:  # an unknown key: with ++ it is added, so that our own check says which key was meant
            apply_overrides(copy, [f"++{override}" for override in overrides])
            loader.validate(Params, loader.read_yaml(copy), path)
            raise UserError(f"{path}: can't be changed by {' '.join(overrides)}") from None
        params = loader.read_yaml(copy)
    try:
        loader.validate(Params, params, path)
    except UserError as error:
        return Combination(name, overrides, params, str(error))
    return Combination(name, overrides, params)
