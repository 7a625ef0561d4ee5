"""params.yaml -> the keys that one stage reads, checked; every mistake is one line.

One function checks parameters: `load` with a view, a Section whose fields are the keys wanted. A stage calls it
with the view of its own sections, the stage `check` with the view of everything. Rules between keys are pydantic
validators of the view, so they are checked wherever the keys are.
"""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.autoencoder.core.errors import UserError

PARAMS = Path("params.yaml")
MAX_BYTES = 65_536  # twenty times the committed file: a larger one is a mistake, and slow to parse
RENAMED_KEYS = {"train.rate": "train.learning_rate", "train.clip": "train.max_grad_norm"}  # old name -> new name
View = TypeVar("View", bound=BaseModel)


def load(view: type[View], path: Path = PARAMS, *, whole_file: bool = False) -> View:
    """The keys of params.yaml that `view` has as fields, as an instance of it.

    whole_file: refuse other keys at the top level too, which only the stage `check` does.
    Raises UserError (place, rule, value) for a file that can't be read, a key that is missing or unknown, a wrong
    type, a value out of range and keys that contradict each other.
    """
    values = read_yaml(path)
    if not whole_file:
        misspelt = _find_misspelt(view, values)
        values = {key: value for key, value in values.items() if key in view.model_fields or key in misspelt}
    return validate(view, values, path)


def validate(view: type[View], values: dict[str, Any], path: Path) -> View:
    """`values` as an instance of `view`. Raises UserError with the first mistake and the number of others.

    Unknown keys come first: a misspelt key also makes the right one missing.
    """
    try:
        return view.model_validate(values)
    except ValidationError as error:
        unknown = ("extra_forbidden", "invalid_key")
        schema = view.model_json_schema()
        first, *others = _one_per_place(sorted(error.errors(), key=lambda e: e["type"] not in unknown), schema)
        if first["type"] in unknown:  # a misspelt key also makes the right one missing: that is no second mistake
            others = [mistake for mistake in others if not _is_misspelt_as(mistake, first)]
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{path}: {_describe_mistake(first, schema)}{more}") from None


def _one_per_place(mistakes: Sequence[Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The mistakes, each with its place as params.yaml has it, and one for each place.

    Where a value may be of several types, pydantic reports one mistake for each and adds the type to the place.
    """
    found: dict[tuple[int | str, ...], dict[str, Any]] = {}
    for mistake in mistakes:
        place, node = [], schema
        for part in mistake["loc"]:
            if "anyOf" in _resolve(node, schema) and isinstance(part, str):
                break
            place.append(part)
            node = _child(node, part, schema)
        found.setdefault(tuple(place), {**mistake, "loc": tuple(place)})
    return list(found.values())


def _find_misspelt(view: type[BaseModel], values: Mapping[Any, Any]) -> set[str]:
    """The keys in `values` that look like a key of `view` that is missing: their mistake is named, not its effect."""
    others = [key for key in values if isinstance(key, str) and key not in view.model_fields]
    missing = [key for key in view.model_fields if key not in values]
    return {other for key in missing for other in difflib.get_close_matches(key, others, n=1, cutoff=0.8)}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file, parsed in Python by the package that DVC uses.

    Raises UserError for anything else, also for a key given twice.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise UserError(f"{path}: must be a file; got a folder, a pipe or a device")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: must be smaller than {MAX_BYTES} bytes; got {path.stat().st_size}")
        values = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found in {Path.cwd()}; run from the top of the checkout") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text; {error.reason} at byte {error.start}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise UserError(f"{path}:{place} is not valid YAML; {_shorten(str(problem), 200)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of keys to values; got {_display(values)}")
    return values


def _describe_mistake(error: Any, schema: dict[str, Any]) -> str:
    """One pydantic error as one line, its rule taken from the JSON Schema of the field."""
    location = error["loc"]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    name = _shorten(name, 80)
    if error["type"] == "extra_forbidden":
        return f"unknown key {name}; {_suggest_key(location, name, schema)}"
    if error["type"] == "missing":
        return f"{name} is missing; add it: {_rule(_subschema(schema, location))}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])  # a rule's message names its key itself
    return f"{name} must be {_rule(_subschema(schema, location))}; got {_display(error['input'])}"


def _is_misspelt_as(missing: Any, unknown: Any) -> bool:
    """Whether a missing key may be what an unknown key of the same section was meant to be."""
    if missing["type"] != "missing" or missing["loc"][:-1] != unknown["loc"][:-1]:
        return False
    old_name = ".".join(map(str, unknown["loc"]))
    right_name = ".".join(map(str, missing["loc"]))
    similar = difflib.get_close_matches(str(unknown["loc"][-1]), [str(missing["loc"][-1])], n=1)
    return RENAMED_KEYS.get(old_name) == right_name or bool(similar)


def _suggest_key(location: tuple[int | str, ...], name: str, schema: dict[str, Any]) -> str:
    """What may have been meant by an unknown key: its new name, a similar key, or the keys there are."""
    if name in RENAMED_KEYS:
        return f"it is now {RENAMED_KEYS[name]}"
    known = sorted(_subschema(schema, location[:-1]).get("properties", {}))
    parent = name.rpartition(".")[0]
    similar = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {f'{parent}.{similar[0]}'.lstrip('.')}?" if similar else f"known: {', '.join(known)}"


def _subschema(schema: dict[str, Any], location: tuple[int | str, ...]) -> dict[str, Any]:
    """The JSON Schema of the value at a location."""
    node = schema
    for part in location:
        node = _child(node, part, schema)
    return _resolve(node, schema)


def _child(node: dict[str, Any], part: int | str, schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a key of a section or an item of a list; {} if the node's schema does not say."""
    node = _resolve(node, schema)
    child: dict[str, Any] = {}
    if isinstance(part, int):
        choices = [node, *node.get("anyOf", [])]
        child = next((choice["items"] for choice in choices if "items" in choice), child)
    else:
        child = node.get("properties", {}).get(part, child)
    return child


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The node that a reference leads to."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _rule(node: dict[str, Any]) -> str:
    """A JSON Schema node in words: `an integer >= 1`, `one of mlp, conv`."""
    if "rule" in node:
        return str(node["rule"])
    if "enum" in node or "const" in node:
        return "one of " + ", ".join(map(str, node.get("enum", [node.get("const")])))
    if "anyOf" in node:
        return " or ".join(_rule(choice) for choice in node["anyOf"])
    kinds = {"integer": "an integer", "number": "a number", "string": "text", "boolean": "true or false"}
    kinds |= {"array": "a list", "object": "a section of keys", "null": "null"}
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {node[key]}" for key, sign in bounds.items() if key in node]
    of = f" of {_rule(node['items'])} each" if node.get("items") else ""
    length = f", {node['minItems']} or more" if node.get("minItems") else ""
    return f"{kinds.get(node.get('type', ''), 'a value')} {' and '.join(limits)}".strip() + of + length


def _display(value: object) -> str:
    """The value as Python writes it, in at most 60 characters; of a long or deep one only the beginning is built."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 3, 60, 60
    short.maxlist = short.maxdict = short.maxset = 20
    try:
        return _shorten(short.repr(value), 60)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _shorten(text: str, length: int) -> str:
    """One printable line of at most `length` characters."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."
