"""What is wrong with a body in JSON, in the words of this program: msgspec knows, and says it in those of Python. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

from .tomllines import suggest

_WHERE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_ABSENT = re.compile(r"Object missing required field `(.*)`")
_KIND = re.compile(r"Expected `(.*)`, got `(.*)`")
_BOUND = re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+?)(?:\.0)?")
_LENGTH = re.compile(r"Expected `(\w+)` of length (>=|<=) (\d+)")
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_KINDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
}
_SHOWN = 80
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def explain(error: Exception, shape: type) -> str:
    """Return why a body is no ``shape``, given what decoding it as one raised."""
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not isinstance(error, msgspec.ValidationError):
        return "it is no JSON: " + str(error).removeprefix("JSON is malformed: ").replace(
            "Input data was truncated", "its end is missing"
        )
    found = _WHERE.fullmatch(str(error))
    assert found is not None  # noqa: S101 - it matches all there is
    return _explain(found["what"], found["where"] or "", shape)


def _explain(what: str, where: str, shape: type) -> str:
    inside, form = _look(shape, where)
    if unknown := _UNKNOWN.fullmatch(what):
        remedy = suggest(unknown[1], inside, '"{}"'.format)
        return f'unknown key "{unknown[1][:_SHOWN]}"; {remedy}'
    if absent := _ABSENT.fullmatch(what):
        return f'"{absent[1]}" is missing'
    return f"{_name(where)} must {_demand(what, form)}"


def _demand(what: str, form: str) -> str:
    """Return what a value must do, to be read after "must"."""
    if kind := _KIND.fullmatch(what):
        return f"be {_name_kinds(kind[1])}, not {_name_kinds(kind[2])}"
    if length := _LENGTH.fullmatch(what):
        unit = "character" if length[1] == "str" else "item"
        return f"have {_BOUNDS[length[2]]} {length[3]} {unit}{'s' * (length[3] != '1')}"
    if bound := _BOUND.fullmatch(what):
        return f"be {_BOUNDS[bound[1]]} {bound[2]}"
    return f"be {form}" if form else f"be otherwise: {what}"


def _name(where: str) -> str:
    """Return a place as its last key names it: which of many it is, is not known."""
    if where.endswith("[...]"):
        return f"each of {_name(where.removesuffix('[...]'))}"
    return where.rpartition(".")[2] or "it"


def _name_kinds(names: str) -> str:
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | "))


def _look(shape: type, where: str) -> tuple[list[str], str]:
    """Return the keys of the object at a place of ``shape``, and what its description asks for; both may be empty."""
    node: Any = inspect.type_info(shape)
    form = ""
    for step in ("", *_STEP.findall(where)):
        node = _go(node, step) if step else node
        while isinstance(node, inspect.Metadata):
            form, node = (node.extra_json_schema or {}).get("description", ""), node.type
    keys = [field.encode_name for field in node.fields] if isinstance(node, inspect.StructType) else []
    return keys, form


def _go(node: Any, step: str) -> Any:
    """Return what is inside ``node``: the value of a key, or an item."""
    if isinstance(node, inspect.StructType):
        return next((field.type for field in node.fields if field.encode_name == step), None)
    if isinstance(node, inspect.DictType):
        return node.value_type
    return getattr(node, "item_type", None)
