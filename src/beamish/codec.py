"""Values to bytes and back: what snapshots, tables and the store write to disk.

The bytes are JSON text: None, bool, int, float, str, list and dict with str keys are written as they are; everything else
as an object of one key that says what it is, `{"$tuple": [1, 2]}`, `{"@Order": {"id": 7, "paid": true}}`. It comes back as
what it was: NaN and the infinities, ints of any size, bytes and bytearray, tuple, set, frozenset, deque, OrderedDict, dicts
with any keys, datetime, date, time, timedelta, Decimal, UUID; and, once they have a name, dataclasses, enums, named tuples and
any other class:

    >>> from dataclasses import dataclass
    >>> @register("docs.Order")
    ... @dataclass(frozen=True)
    ... class Order:
    ...     id: int
    ...     paid: bool = False
    >>> encode({"open": [Order(7)]})
    b'{"open":[{"@docs.Order":{"id":7,"paid":false}}]}'
    >>> decode(b'{"open":[{"@docs.Order":{"id":7}}]}')
    {'open': [Order(id=7, paid=False)]}

A name is for ever, a module's path is not: that is why classes are named by hand. When the fields change, the class gets a
new version, and migrations for what was written before:

    @register("Order", version=2, migrations={1: lambda fields: fields | {"paid": False}})

A value that can't be written raises CodecError, which says where it stands in the data and what to do. What is one object
in two places becomes two; a structure that contains itself is an error.

Large containers are written in lines of about a thousand values, each a JSON text of its own (`encode_chunks`): a thread
that writes or reads them gives way to the others between two lines, where one call of a C encoder would hold up all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from beamish._codec_read import Reader
from beamish._codec_types import CodecError, NewerVersion, registered, type_of
from beamish._codec_write import Writer, text

__all__ = ["CodecError", "NewerVersion", "decode", "decode_chunks", "encode", "encode_chunks", "register"]

C = TypeVar("C", bound=type)


@overload
def register(
    name: str,
    cls: C,
    *,
    version: int = 1,
    migrations: Mapping[int, Callable[[Any], Any]] = ...,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
) -> C: ...
@overload
def register(
    name: str,
    *,
    version: int = 1,
    migrations: Mapping[int, Callable[[Any], Any]] = ...,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
) -> Callable[[C], C]: ...
def register(
    name: str,
    cls: Any = None,
    *,
    version: int = 1,
    migrations: Mapping[int, Callable[[Any], Any]] = {},
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
) -> Any:
    """Give `cls` the name under which its values are written; without `cls`, a decorator. Returns the class.

    * A dataclass is written as a dict of its fields, and made from them (`__post_init__` runs); a field that the bytes lack
      takes its default. An enum is written as the name of the member (a Flag as its value), a named tuple as its fields.
    * Any other class needs `dump(value) -> data` and `load(data) -> value`; the others may have them.
    * `version` is that of the data, from 1 on. `migrations[n](data)` makes data of version n (a dict, for dataclasses) into
      that of n + 1. Data of a version that is newer than this raises NewerVersion.

    The table is one for the whole program. ValueError for a name that another class has, TypeError for a class that can't be
    written so. Subclasses are not included: each has its own name.
    """
    if isinstance(name, type):
        raise TypeError(f'codec.register needs the name under which values are written: @codec.register("{name.__name__}"), say')
    if cls is None:

        def decorate(cls: Any) -> Any:
            return register(name, cls, version=version, migrations=migrations, dump=dump, load=load)

        return decorate
    registered(type_of(name, cls, version, dict(migrations), dump, load))
    return cls


def encode(value: Any) -> bytes:
    """`value` as bytes. CodecError if it holds something that can't be written.

    Not for large values on an event loop: see `encode_chunks`.
    """
    writer = Writer()
    packed = writer.root(value)
    if not writer.large:
        return text(packed)
    return b"".join(Writer().lines(value))[:-1]


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """What `encode` or `encode_chunks` made bytes of. CodecError if it can't be read."""
    found = data.encode() if isinstance(data, str) else bytes(data)
    return decode_chunks(found.split(b"\n") if b"\n" in found else (found,))


def encode_chunks(value: Any) -> Iterator[bytes]:
    """The same bytes in pieces: whole lines, each soon made.

    For threads: `value` must not change until it is done.
    """
    return Writer().lines(value)


def decode_chunks(lines: Iterable[bytes]) -> Any:
    """The value from its lines, one at a time: a file opened for reading bytes, say."""
    return Reader().value(lines)
