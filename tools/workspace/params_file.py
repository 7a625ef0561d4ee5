"""params.yaml with some values changed, its comments kept."""

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.base.loader import RENAMED_KEYS, read_yaml


def write_params(path: Path, changes: Mapping[str, Any], source: Path = Path("params.yaml")) -> None:
    """Write the parameters of `source` with `changes` to `path`, which may be the same file.

    changes: nested sections ({"train": {"epochs": 1}}), dotted keys ({"train.epochs": 1}) or both.
    Raises UserError for a key that `source` lacks, and where `source` is not a YAML mapping.
    """
    read_yaml(source)  # one line says what is wrong with the file
    yaml = YAML()  # keeps comments and the order of keys
    yaml.width, yaml.preserve_quotes = 120, True
    text = io.StringIO()
    yaml.dump(merge(yaml.load(source), changes), text)
    files.write(path, text.getvalue().encode())


def merge(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `values` with `changes` laid over it, section by section; a list is replaced as a whole.

    changes: nested or dotted, as for `write_params`. Raises UserError for a key that `values` lacks.
    """
    merged = copy.deepcopy(values)  # with its comments, where it has some
    _overlay(merged, changes, "")
    return merged


def _overlay(section: dict[str, Any], changes: Mapping[str, Any], prefix: str) -> None:
    for name, change in changes.items():
        key, _, rest = name.partition(".")
        if not isinstance(section, Mapping) or key not in section:
            known = ", ".join(section) if isinstance(section, Mapping) else "none"
            new_name = RENAMED_KEYS.get(f"{prefix}{key}")
            hint = f"it is now {new_name}" if new_name else f"known: {known}"
            raise UserError(f"params.yaml: unknown key {prefix}{key}; {hint}")
        if rest:
            _overlay(section[key], {rest: change}, f"{prefix}{key}.")
        elif isinstance(change, Mapping) and isinstance(section[key], Mapping):
            _overlay(section[key], change, f"{prefix}{key}.")
        else:
            section[key] = change
