"""params.yaml -> the part of it that one stage reads, checked; every mistake is one line."""

import difflib
import reprlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.autoencoder.errors import UserError

PARAMS = Path("params.yaml")
LARGEST = 65_536  # bytes, twenty times the committed file: a larger one is a mistake, and slow to parse
View = TypeVar("View", bound=BaseModel)


def read(view: type[View], path: Path = PARAMS) -> View:
    """The keys of params.yaml that `view` has as fields, as an instance of it.

    Raises UserError (place, rule, value) for a file that can't be read, a key that is missing or unknown,
    a wrong type and a value out of range. Other top-level keys are the affair of the stage `check`.
    """
    found = read_yaml(path)
    return validate(view, {key: found[key] for key in view.model_fields if key in found}, path)


def validate(view: type[View], found: dict[str, Any], path: Path) -> View:
    """`found` as an instance of `view`. Raises UserError with the first mistake and the count of others."""
    try:
        return view.model_validate(found)
    except ValidationError as error:
        first, *others = error.errors()
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{path}: {_line(first, view.model_json_schema())}{more}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file, by DVC's package, in Python. Raises UserError, also for a key given twice."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path}: must be a file; got a folder, a pipe or a device")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"{path}: must be smaller than {LARGEST} bytes; got {path.stat().st_size}")
        found = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found in {Path.cwd()}; run from the top of the checkout") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text; {error.reason} at byte {error.start}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise UserError(f"{path}:{place} is not valid YAML; {_cut(str(problem), 200)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be a mapping of keys to values; got {_shown(found)}")
    return found


def _line(error: Any, schema: dict[str, Any]) -> str:
    """One pydantic error as one line, its rule taken from the JSON Schema of the field."""
    location = error["loc"]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    name = _cut(name, 80)
    if error["type"] == "extra_forbidden":
        known = sorted(_at(schema, location[:-1]).get("properties", {}))
        parent = name.rpartition(".")[0]
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        near = f"did you mean {f'{parent}.{close[0]}'.lstrip('.')}?" if close else f"known: {', '.join(known)}"
        return f"unknown key {name}; {near}"
    if error["type"] == "missing":
        return f"{name} is missing; add it: {_rule(_at(schema, location))}"
    if error["type"] == "value_error":
        return f"{name + ' ' if name else ''}{error['ctx']['error']}"
    return f"{name} must be {_rule(_at(schema, location))}; got {_shown(error['input'])}"


def _at(schema: dict[str, Any], location: tuple[int | str, ...]) -> dict[str, Any]:
    """The JSON Schema of the value at a location."""
    node = schema
    for part in (*location, None):
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if part is None:
            break
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return node


def _rule(node: dict[str, Any]) -> str:
    """A JSON Schema node in words: `an integer >= 1`, `one of mlp, conv`."""
    if "rule" in node:
        return node["rule"]
    if "enum" in node or "const" in node:
        return "one of " + ", ".join(map(str, node.get("enum", [node.get("const")])))
    if "anyOf" in node:
        return " or ".join(_rule(choice) for choice in node["anyOf"])
    kinds = {"integer": "an integer", "number": "a number", "string": "text", "boolean": "true or false"}
    kinds |= {"array": "a list", "object": "a section of keys", "null": "null"}
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    words = [f"{sign} {node[key]}" for key, sign in bounds.items() if key in node]
    of = f" of {_rule(node['items'])} each" if node.get("items") else ""
    length = f", {node['minItems']} or more" if node.get("minItems") else ""
    return f"{kinds.get(node.get('type', ''), 'a value')} {' and '.join(words)}".strip() + of + length


def _shown(value: object) -> str:
    """The value as Python writes it, in 60 characters: of a long or deep one the beginning, and no more is built."""
    shown = reprlib.Repr()
    shown.maxlevel, shown.maxstring, shown.maxother = 3, 60, 60
    shown.maxlist = shown.maxdict = shown.maxset = 20
    try:
        return _cut(shown.repr(value), 60)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _cut(text: str, length: int) -> str:
    """One printable line of at most so many characters."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."
