"""Checks of the user's input, before any work starts: every error is one line with key, value and what is allowed."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, get_args, get_origin

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from runners.explain import explain, no_value, pydantic_fields, unknown_key
from runners.options import suggest

STRICT = ConfigDict(extra="forbid", strict=True)


class UserError(ValueError):
    """Something that the user can put right: one line, exit status 2, no traceback."""


@dataclass(frozen=True, config=STRICT)
class PathOptions:
    """Where data are read and runs are written, unless LSMRUN_DATA and LSMRUN_HOME say otherwise."""

    data: str
    home: str


@dataclass(frozen=True, config=STRICT)
class TrackingOptions:
    """How MLflow files the run; `parent` and `varied` are filled in by a sweep."""

    experiment: str | None = None
    name: str | None = None
    tags: dict[str, str | int | float | bool] = field(default_factory=dict)
    uri: str | None = None
    parent: str | None = None
    varied: list[str] = field(default_factory=list)


@dataclass(frozen=True, config=STRICT)
class Options:
    """The keys at the top of every configuration."""

    paths: PathOptions
    tracking: TrackingOptions
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="one seed for everything random")] = 0
    threads: Annotated[int, Field(ge=1, description="CPU threads")] | None = None
    debug: bool = False
    resume: bool = True
    checkpoint: Annotated[str | list[str] | None, Field(description="file, MLflow run id or name; or a list")] = None

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """What `checkpoint=` names, one or several."""
        named = self.checkpoint or []
        return (named,) if isinstance(named, str) else tuple(named)


def read_options(config: Mapping[str, Any], sections: Iterable[str]) -> Options:
    """The top-level keys of a resolved configuration beside its `sections`; raises `UserError` on a bad one."""
    values = {name: value for name, value in config.items() if name not in set(sections)}
    values["paths"] = construct(PathOptions, dict(values.get("paths") or {}), "paths")
    values["tracking"] = construct(TrackingOptions, dict(values.get("tracking") or {}), "tracking")
    options: Options = construct(Options, values, "")
    return options


def build(section: Any, key: str) -> Any:
    """The object that a section's `_target_` and keywords describe, nested ones included.

    `key` is the section's place in the configuration, for messages. Raises `UserError`.
    """
    if isinstance(section, Mapping):
        values = {name: build(value, f"{key}.{name}") for name, value in section.items() if name != "_target_"}
        return construct(find_target(section["_target_"], key), values, key) if "_target_" in section else values
    if isinstance(section, list):
        return [build(value, f"{key}.{i}") for i, value in enumerate(section)]
    if section == "???":
        raise UserError(no_value(*key.rsplit(".", 1)))
    return section


def find_target(path: Any, key: str) -> Callable[..., Any]:
    """The class or function at a dotted path such as `lsm.parameters.LiquidParameters`; raises `UserError`."""
    module_name, _, name = str(path).rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}._target_={path}: cannot be imported ({one_line(error)})") from error
    target = getattr(module, name, None)
    if not callable(target):
        public = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise UserError(f"{key}._target_={path}: {module_name} has no class {name}{suggest(name, public)}")
    return target


def construct(target: Callable[..., Any], values: dict[str, Any], key: str) -> Any:
    """`target(**values)`, with whatever is wrong with the values told in one line; raises `UserError`."""
    fields = pydantic_fields(target)
    if fields is None:
        _check_signature(target, values, key)
    else:
        values = {k: _declared(v, fields[k].annotation, f"{key}.{k}") if k in fields else v for k, v in values.items()}
    try:
        return target(**values)
    except ValidationError as error:
        raise UserError(explain(error, target, values, key)) from error
    except UserError:
        raise
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{key}: {one_line(error)}") from error


def _declared(value: Any, annotation: Any, key: str) -> Any:
    """Plain mappings as objects of the class that a field is declared with: they need no `_target_`."""
    if isinstance(value, list) and get_origin(annotation) is list:
        (each,) = get_args(annotation)
        return [_declared(one, each, f"{key}.{i}") for i, one in enumerate(value)]
    if isinstance(value, Mapping) and pydantic_fields(annotation) is not None:
        return construct(annotation, dict(value), key)
    return value


def check_kinds(model: Any, data: Any, choices: Mapping[str, str], targets: Callable[[], Mapping[str, str]]) -> None:
    """Raise `UserError` if the model does not take data of this kind; `targets` finds the class of each data option."""
    kinds, kind = getattr(model, "kinds", None), getattr(data, "kind", None)
    if not kinds or not kind or _fits(kind, kinds):
        return
    classes = {name: find_target(path, f"data={name}") for name, path in targets().items()}
    fit = [name for name, found in classes.items() if _fits(getattr(found, "kind", ""), kinds)]
    model_name, data_name = choices.get("model", "the model"), choices.get("data", "the data")
    raise UserError(
        f"model={model_name} data={data_name}: {model_name} takes {' or '.join(kinds)} and {data_name} has {kind}; "
        f"data that fit: {', '.join(sorted(fit)) or 'none'}"
    )


def _fits(kind: Any, kinds: Iterable[str]) -> bool:
    """Whether data of this kind, which may be `images or events`, can be of one of these kinds."""
    return isinstance(kind, str) and not set(kind.split(" or ")).isdisjoint(kinds)


def one_line(error: BaseException) -> str:
    """The message of any exception on one line; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _check_signature(target: Callable[..., Any], values: Mapping[str, Any], key: str) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
        return
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name, value in values.items():
        if name not in named and not takes_any:
            raise UserError(unknown_key(key, name, value, list(named)))
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in values:
            raise UserError(no_value(key, name))
