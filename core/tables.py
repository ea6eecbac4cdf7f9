"""TOML files into frozen dataclasses, strictly: a table is a nested dataclass, and what nobody asked for an error."""

import difflib
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .optional import need

T = TypeVar("T")
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def read_table(path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The TOML file as nested dicts, after ``changes`` such as ``run.steps=100`` (see `changed`).

    Raises ValueError for what is no TOML, FileNotFoundError, and ImportError naming tomli on Python 3.10.
    """
    toml, path = _toml(), Path(path)
    try:
        table = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    for change in changes:
        table = changed(table, change)
    return table


def changed(table: dict[str, Any], change: str) -> dict[str, Any]:
    """A copy of ``table`` with ``a.b=value``: the value is TOML, and what is no TOML is text (shells eat quotes)."""
    name, equals, text = change.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ValueError(f"a change reads table.key=value, for example run.learning_rate=1e-4; got {change!r}")
    toml = _toml()
    try:
        value = toml.loads(f"value = {text}")["value"]
    except toml.TOMLDecodeError:
        value = text.strip()
    return _put(table, keys, value)


def fill(kind: type[T], table: Mapping[str, Any], where: str, path: str = "", beside: Sequence[str] = ()) -> T:
    """The dataclass ``kind`` from a table: its fields are the keys, its defaults theirs, its dataclasses tables.

    Fields may be bool, int, float, str, ``tuple[X, ...]``, ``dict[str, X]``, dataclasses, ``X | None`` (absent: None),
    unions (of dataclasses: the one with most of the table's keys) and ``object``, anything. ``where`` is the file and
    ``path`` the table in it, for errors; ``beside``: keys of the same table that are read elsewhere.

    Raises ValueError naming both for a key that is unknown (and the nearest one), missing or of another type, and for
    whatever ``kind`` itself refuses.
    """
    place = f"{where}, table [{path}]" if path else where
    hints, known = get_type_hints(kind), [field.name for field in fields(kind) if field.init]
    for key in table:
        if key not in known:
            raise ValueError(f"{place}: {unknown('key', key, [*beside, *known])}")
    for field in fields(kind):
        if field.init and field.name not in table and field.default is field.default_factory is MISSING:
            raise ValueError(f"{place}: the key {field.name!r} is missing; there are {', '.join([*beside, *known])}")
    inside = f"{path}." if path else ""
    values = {key: _value(hints[key], value, where, inside + key) for key, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """For errors: that there is no such name, the nearest one, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    guess = f", did you mean {near[0]!r}?" if near else "."
    return f"there is no {what} {name!r}{guess} There are {', '.join(known)}"


def _value(hint: Any, value: Any, where: str, path: str) -> Any:
    """``value`` as ``hint`` wants it; ``path`` names it in errors."""
    origin, inner = get_origin(hint), [option for option in get_args(hint) if option is not type(None)]
    if origin in (Union, types.UnionType):
        return _value(_option(inner, value), value, where, path)
    if is_dataclass(hint):
        return fill(hint, _of(dict, value, "a table", where, path), where, path)
    if origin is tuple:
        values = _of(list, value, "a list", where, path)
        return tuple(_value(inner[0], one, where, f"{path}[{n}]") for n, one in enumerate(values))
    if origin is dict:
        table = _of(dict, value, "a table", where, path)
        return {key: _value(inner[1], one, where, f"{path}.{key}") for key, one in table.items()}
    if hint is float and type(value) is int:
        return float(value)
    return value if hint is object else _of(hint, value, _WORDS[hint], where, path)


def _option(options: list, value: Any) -> Any:
    """The one of a union's members that ``value`` is nearest to."""

    def nearness(option: Any) -> int:
        if is_dataclass(option):
            return isinstance(value, dict) and 1 + sum(field.name in value for field in fields(option))
        return type(value) is {tuple: list}.get(get_origin(option), get_origin(option) or option)

    return max(options, key=nearness)


def _of(kind: type, value: Any, words: str, where: str, path: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{where}: {path} is {words}, got {value!r}")
    return value


def _put(table: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    if not rest:
        return {**table, first: value}
    below = table.get(first, {})
    if not isinstance(below, Mapping):
        raise ValueError(f"{first} is {below!r} and no table, so it has no {'.'.join(rest)}")
    return {**table, first: _put(below, rest, value)}


def _toml():
    return need("tomllib" if sys.version_info >= (3, 11) else "tomli", "Reading TOML files on Python 3.10")
