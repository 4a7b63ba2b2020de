"""What a keyword takes, in words, and what pydantic found wrong with it, on one line."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from runners.options import nearest, suggest

WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def explain(error: ValidationError, target: Any, values: Mapping[str, Any], key: str) -> str:
    """The first thing that pydantic found wrong with `target(**values)`; `key` is the section's place."""
    fields = pydantic_fields(target) or {}
    first = error.errors(include_url=False)[0]
    place, kind = first["loc"], first["type"]
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if not place:
        return f"{key}: {message}" if key else message
    name = str(place[0])
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_key(key, name, values.get(name), list(fields))
    if kind.startswith("missing") and len(place) == 1:
        return no_value(key, name)
    shown = f"{join(key, name)}={show(values.get(name))}"
    if name not in fields or kind in ("value_error", "assertion_error"):
        return f"{shown}: {message}"
    allowed = describe(fields[name])
    if kind == "finite_number":  # inf and nan are numbers, too
        allowed = allowed.replace("a number", "a finite number", 1)
    return f"{shown}: must be {allowed}{_did_you_mean(values.get(name), fields[name].annotation)}"


def unknown_key(section: str, name: str, value: Any, allowed: list[str]) -> str:
    """The line for a keyword that does not exist in a section."""
    full = [join(section, other) for other in allowed]
    return f"{join(section, name)}={show(value)}: unknown key{suggest(join(section, name), full)}"


def no_value(section: str, name: str) -> str:
    """The line for a keyword that must be given."""
    return f"{join(section, name)}: has no value; give {join(section, name)}=..."


def describe(field: Any) -> str:
    """What a pydantic field takes, with its range and its meaning: `a number >= 0 (gain of ...)`."""
    words = type_words(field.annotation, field.metadata)
    return f"{words} ({field.description})" if field.description else words


def type_words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in a user's words: `a whole number >= 1 or null`, `one of none, stdp`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0], (*metadata, *annotation.__metadata__))
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(a, metadata if a is not type(None) else ()) for a in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(show, arguments))}"
    if origin is tuple and ... not in arguments:
        return f"a list of {len(arguments)} values, each {type_words(arguments[0])}"
    if origin in (list, tuple):
        return f"a list, each {type_words(arguments[0])}"
    if origin is dict:
        return "a mapping {key: value}"
    return f"{WORDS.get(annotation, getattr(annotation, '__name__', str(annotation)))}{_range(metadata)}"


def show(value: Any) -> str:
    """A value as the user would type it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(show, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{k}:{show(v)}' for k, v in value.items())}}}"
    return str(value)


def pydantic_fields(target: Any) -> dict[str, Any] | None:
    """Fields by name of a pydantic dataclass or model; None for anything else."""
    return getattr(target, "__pydantic_fields__", None)


def join(section: str, name: str) -> str:
    """The dotted key of a name in a section."""
    return f"{section}.{name}" if section else name


def _range(metadata: Iterable[Any]) -> str:
    limits: dict[str, Any] = {}
    for item in metadata:
        nested = getattr(item, "metadata", None) or [item]
        for limit in nested:
            limits |= {a: getattr(limit, a) for a in SIGNS if getattr(limit, a, None) is not None}
    bounds = " and ".join(f"{sign} {limits[a]}" for a, sign in SIGNS.items() if a in limits)
    return f" {bounds}" if bounds else ""


def _did_you_mean(value: Any, annotation: Any) -> str:
    names = [str(a) for a in get_args(annotation)] if get_origin(annotation) is Literal else []
    best = nearest(value, names) if isinstance(value, str) else None
    return f"; did you mean {best}?" if best else ""
