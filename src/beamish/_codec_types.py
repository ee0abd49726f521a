"""The classes that the codec knows by name, and what can go wrong with them."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from beamish.errors import BeamishError, short


class CodecError(BeamishError, ValueError):
    """A value that can't be written, or bytes that can't be read. The text says which, where, and what to do."""


class NewerVersion(CodecError):
    """Data was written by a newer version of the program, which alone knows how to read it."""


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """One class, as `register` was told."""

    name: str
    cls: Any
    version: int
    migrations: dict[int, Callable[[Any], Any]]
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    #: Of a dataclass that is written by its fields: their names, and what gets all of them.
    fields: tuple[str, ...] | None = None
    values: Callable[[Any], tuple[Any, ...]] | None = None
    tag: str = ""


BY_NAME: dict[str, Registered] = {}
BY_CLASS: dict[Any, Registered] = {}

_NAME = re.compile(r"[^\W\d][\w.:-]*")


def type_of(
    name: str,
    cls: Any,
    version: int,
    migrations: dict[int, Callable[[Any], Any]],
    dump: Callable[[Any], Any] | None,
    load: Callable[[Any], Any] | None,
) -> Registered:
    """Check what `register` was given. TypeError and ValueError name what is wrong."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"a registered name is letters, digits and _ . : - and begins with a letter. Got: {name!r}")
    if not isinstance(cls, type):
        raise TypeError(f"codec.register({name!r}, cls) takes a class. Got: {short(cls)}")
    check_migrations(f"codec.register({name!r})", version, migrations)
    if (dump is None) != (load is None):
        raise TypeError(f"codec.register({name!r}): dump= and load= go together; only one was given")
    tag = f"@{name}" if version == 1 else f"@{name}/{version}"
    if dump is not None and load is not None:
        return Registered(name, cls, version, migrations, dump, load, tag=tag)
    dump, load = _ways(name, cls)
    fields = tuple(one.name for one in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else ()
    if len(fields) < 2:
        return Registered(name, cls, version, migrations, dump, load, tag=tag)
    return Registered(name, cls, version, migrations, dump, load, fields, attrgetter(*fields), tag)


def check_migrations(where: str, version: int, migrations: dict[int, Callable[[Any], Any]]) -> None:
    """Versions count from 1, and what leads to this one is there without a gap from some version on."""
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{where}: version counts from 1. Got: {version!r}")
    first = min(migrations, default=version)
    if sorted(migrations) != list(range(first, version)) or first < 1:
        ahead = migrations and max(migrations) >= version
        advice = f": raise version= to {max(migrations) + 1}, the version that they lead to" if ahead else ""
        raise ValueError(
            f"{where}: migrations are {{n: function}} from version n to n + 1, without a gap up to version={version}. "
            f"Got: {sorted(migrations)!r}{advice}"
        )


def migrated(what: str, data: Any, found: int, version: int, migrations: dict[int, Callable[[Any], Any]]) -> Any:
    """Data of version `found`, made that of `version`."""
    if found > version:
        raise NewerVersion(
            f"{what} was written as version {found}, and this program knows it up to version {version}: run the newer program"
        )
    for step in range(found, version):
        if step not in migrations:
            raise CodecError(f"{what} was written as version {step}: add migrations={{{step}: function}} that makes it version {step + 1}")
        try:
            data = migrations[step](data)
        except Exception as error:
            raise CodecError(f"{what}: the migration from version {step} raised {short(error)} for {short(data)}") from error
    return data


def registered(new: Registered) -> None:
    old, other = BY_NAME.get(new.name), BY_CLASS.get(new.cls)
    if old is not None and old.cls is not new.cls and _path(old.cls) != _path(new.cls):  # a module that is loaded anew may
        raise ValueError(f"codec.register: {new.name!r} is the name of {_path(old.cls)}; give {_path(new.cls)} another")
    if other is not None and other.name != new.name:
        raise ValueError(f"codec.register: {_path(new.cls)} has the name {other.name!r} and can't be {new.name!r} too")
    BY_NAME[new.name] = BY_CLASS[new.cls] = new


def _path(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# --- how each kind of class is written and made -----------------------------------------------------------------------


def _ways(name: str, cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls)
    if issubclass(cls, enum.Flag):
        return (lambda value: value.value), cls
    if issubclass(cls, enum.Enum):
        return (lambda value: value.name), lambda data: cls[data]
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):  # pyright: ignore[reportUnknownArgumentType]
        return _named_tuple(cls)
    raise TypeError(
        f"codec.register({name!r}, {cls.__qualname__}): a class that is no dataclass, enum or named tuple is registered with "
        "dump=function to data, load=function back"
    )


def _named_tuple(cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return (lambda value: value._asdict()), lambda data: cls(**data)


def _dataclass(cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    fields = dataclasses.fields(cls)
    names = [one.name for one in fields]
    known = frozenset(names)
    later = frozenset(one.name for one in fields if not one.init)

    def dump(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names}

    def load(data: dict[str, Any]) -> Any:
        if not later and known >= data.keys():
            return cls(**data)
        unknown = [name for name in data if name not in known]
        if unknown:
            raise CodecError(
                f"{cls.__qualname__} has no field {', '.join(map(repr, unknown))}, and the data has: register it with the next "
                "version= and with migrations={…} that take it out"
            )
        made = cls(**{name: value for name, value in data.items() if name not in later})
        for name in later & data.keys():
            object.__setattr__(made, name, data[name])
        return made

    return dump, load
