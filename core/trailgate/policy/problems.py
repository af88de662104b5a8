"""What is wrong with a policy: every error of it, each with path, got and expected.

``msgspec`` stops at the first error; whoever writes a policy wants all of them. So
this walks the plain value beside the struct's type before the value is converted.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from trailgate.model.errors import MalformedError

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a policy."""

    path: str
    """Such as ``spec.rules[0].images[1]``."""
    got: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: got {self.got}, expected {self.expected}"


class PolicyError(MalformedError):
    """A policy that cannot be used; the text has one line per problem."""

    def __init__(self, problems: Sequence[Problem], name: str | None = None) -> None:
        self.problems = tuple(problems)
        self.name = name
        """The policy's name, where it could be read."""
        super().__init__("\n".join(str(problem) for problem in self.problems))


def find(value: Any, kind: inspect.Type, path: str) -> Iterator[Problem]:
    """Yield every error of ``value`` against a type as ``msgspec.inspect`` describes it."""
    match kind:
        case inspect.Metadata():
            yield from _described(value, kind, path)
        case inspect.StructType():
            yield from _struct(value, kind, path)
        case inspect.ListType():
            yield from _list(value, kind, path)
        case _:
            yield from _scalar(value, kind, path)


def show(value: Any) -> str:  # noqa: PLR0911
    """Name a value in an error: short, one line, and never a whole key or object."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            text = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
            return repr(text) if text else "an empty string"
        case int() | float():
            return str(value)
        case Mapping():
            return "an object"
        case list():
            return "a list" if value else "an empty list"
        case _:
            return f"a {type(value).__name__}"


def _described(value: Any, kind: inspect.Metadata, path: str) -> Iterator[Problem]:
    before = list(find(value, kind.type, path))
    yield from before
    extra = kind.extra or {}
    check: Callable[[str], str | None] | None = extra.get("check")
    if check is not None and not before and (expected := check(value)) is not None:
        yield Problem(path, _length(value) if extra.get("quiet") else show(value), expected)
    unique: str | None = extra.get("unique")
    if unique is not None and isinstance(value, list):
        yield from _repeated(value, unique, path)


def _struct(value: Any, kind: inspect.StructType, path: str) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(path, show(value), "an object")
        return
    fields = {item.encode_name: item for item in kind.fields}
    if kind.forbid_unknown_fields:
        for name in value:
            if name not in fields:
                yield Problem(f"{path}.{name}", "an unknown field", _suggest(str(name), fields))
    for name, item in fields.items():
        if name in value:
            yield from find(value[name], item.type, f"{path}.{name}")
        elif item.required:
            yield Problem(f"{path}.{name}", "nothing", _words(item.type))


def _list(value: Any, kind: inspect.ListType, path: str) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield Problem(path, show(value), "a list")
        return
    if kind.min_length and len(value) < kind.min_length:
        yield Problem(path, show(value), f"at least {kind.min_length}")
    if kind.max_length and len(value) > kind.max_length:
        yield Problem(path, f"{len(value)} items", f"at most {kind.max_length}")
        return
    for index, item in enumerate(value):
        yield from find(item, kind.item_type, f"{path}[{index}]")


def _scalar(value: Any, kind: inspect.Type, path: str) -> Iterator[Problem]:
    """Let msgspec judge a single value by its own rules; say it in our words."""
    try:
        msgspec.convert(value, _annotation(kind))
    except msgspec.ValidationError:
        long = isinstance(kind, inspect.StrType) and isinstance(value, str) and value
        yield Problem(path, _length(value) if long else show(value), _words(kind))


def _length(value: str) -> str:
    return f"{len(value)} characters"


def _annotation(kind: inspect.Type) -> Any:
    match kind:
        case inspect.StrType():
            limits = msgspec.Meta(min_length=kind.min_length, max_length=kind.max_length)
            return Annotated[str, limits]
        case inspect.IntType():
            return Annotated[int, msgspec.Meta(ge=kind.ge, le=kind.le)]
        case inspect.DateTimeType():
            return Annotated[datetime, msgspec.Meta(tz=kind.tz)]
        case inspect.EnumType():
            return kind.cls
        case inspect.BoolType():
            return bool
        case _:
            return object


def _words(kind: inspect.Type) -> str:  # noqa: PLR0911
    match kind:
        case inspect.Metadata():
            return _words(kind.type)
        case inspect.StrType():
            return (
                f"a string of 1 to {kind.max_length} characters" if kind.max_length else "a string"
            )
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.BoolType():
            return "true or false"
        case inspect.EnumType():
            return "one of " + ", ".join(str(member.value) for member in kind.cls)
        case inspect.DateTimeType():
            return "a time such as 2027-01-31T00:00:00Z"
        case inspect.ListType():
            return f"a list of at least {kind.min_length}" if kind.min_length else "a list"
        case _:
            return "an object"


def _suggest(name: str, fields: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, fields, n=1)
    return close[0] if close else "one of " + ", ".join(fields)


def _repeated(items: list[Any], key: str, path: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        value = item.get(key) if key and isinstance(item, Mapping) else item
        if not isinstance(value, str):
            continue
        if value in seen:
            where = f"{path}[{index}]" + (f".{key}" if key else "")
            yield Problem(where, f"{show(value)} again", "each only once")
        seen.add(value)
