"""Tables and persistent terms: looking, inserting, counting, in order and not; beside a dict, which is the floor under all of it."""

import random
from itertools import cycle, islice

from beamish import persistent_term
from beamish.ets import Table
from benchmarks.harness import Suite, timed
from benchmarks.work import KEYS

suite = Suite()

LOOKUP, INSERT, COUNT, SCAN = "ets: lookup", "ets: insert", "ets: update_counter", "ets: select, all objects"
RANDOM, DESCENDING, NEXT = "ets: ordered insert, random keys", "ets: ordered insert, descending keys", "ets: ordered next"
TERM = "persistent_term: get"


def _filled(n: int, **options: str) -> Table[int, int]:
    table = Table[int, int](**options)  # type: ignore[arg-type]
    table.insert_many((key, key) for key in range(n))
    return table


# --- one key ----------------------------------------------------------------------------------------------------------


@suite.variant(LOOKUP, "Python: a dict", n=200_000, baseline=True)
def lookup_in_dict(n: int) -> float:
    table = {key: key for key in range(n)}
    with timed(n) as clock:
        for key in range(n):
            table.get(key)
    return clock.each


@suite.variant(LOOKUP, "Beamish: Table.lookup", n=200_000)
async def lookup(n: int) -> float:
    table = _filled(n)
    with timed(n) as clock:
        for key in range(n):
            table.lookup(key)
    return clock.each


@suite.variant(LOOKUP, "Beamish: table[key]", n=200_000)
async def brackets(n: int) -> float:
    table = _filled(n)
    with timed(n) as clock:
        for key in range(n):
            table[key]
    return clock.each


@suite.variant(LOOKUP, "Beamish: lookup of a flat dict, copied", n=50_000)
async def lookup_copied(n: int) -> float:
    table = Table[int, dict[str, int]]()
    table.insert_many((key, {"a": key, "b": key}) for key in range(n))
    with timed(n) as clock:
        for key in range(n):
            table.lookup(key)
    return clock.each


@suite.variant(INSERT, "Python: a dict", n=200_000, baseline=True)
def insert_in_dict(n: int) -> float:
    table: dict[int, int] = {}
    with timed(n) as clock:
        for key in range(n):
            table[key] = key  # noqa: PERF403
    return clock.each


@suite.variant(INSERT, "Beamish: protected, by its owner", n=200_000)
async def insert(n: int) -> float:
    return _insert(n, Table[int, int](), range(n))


@suite.variant(INSERT, "Beamish: public", n=200_000)
async def insert_public(n: int) -> float:
    return _insert(n, Table[int, int](access="public"), range(n))


def _insert(n: int, table: Table[int, int], keys: list[int] | range) -> float:
    with timed(n) as clock:
        for key in keys:
            table.insert(key, key)
    return clock.each


@suite.variant(COUNT, "Python: a dict", n=200_000, baseline=True)
def count_in_dict(n: int) -> float:
    table = {"hits": 0}
    with timed(n) as clock:
        for _ in range(n):
            table["hits"] += 1
    return clock.each


@suite.variant(COUNT, "Beamish: Table.update_counter", n=200_000)
async def count(n: int) -> float:
    table = Table[str, int]()
    table.insert("hits", 0)
    with timed(n) as clock:
        for _ in range(n):
            table.update_counter("hits")
    return clock.each


# --- all of them, and in order: with the first look at the order, which sorts what has come ---------------------------


@suite.variant(SCAN, "Python: a dict", n=200_000, baseline=True)
def select_in_dict(n: int) -> float:
    table = {key: key for key in range(n)}
    with timed(n) as clock:
        [(key, value) for key, value in table.items() if value > n - 1000]
    return clock.each


@suite.variant(SCAN, "Beamish: Table.select", n=200_000)
async def select(n: int) -> float:
    table = _filled(n)
    with timed(n) as clock:
        table.select(lambda key, value: value > n - 1000)
    return clock.each


def _insert_ordered(n: int, keys: list[int] | range) -> float:
    table = Table[int, int](kind="ordered_set")
    with timed(n) as clock:
        for key in keys:
            table.insert(key, key)
        assert table.first() == 0
    return clock.each


@suite.variant(RANDOM, "Python: a dict, sorted at the end", n=200_000, baseline=True)
def sort_dict(n: int) -> float:
    keys, table = _shuffled(n), dict[int, int]()
    with timed(n) as clock:
        for key in keys:
            table[key] = key
        sorted(table)
    return clock.each


def _shuffled(n: int) -> list[int]:
    keys = list(range(n))
    random.Random(1).shuffle(keys)
    return keys


@suite.variant(RANDOM, "Beamish: and the first key", n=200_000)
async def insert_random(n: int) -> float:
    return _insert_ordered(n, _shuffled(n))


@suite.variant(DESCENDING, "Python: a dict, sorted at the end", n=200_000, baseline=True)
def sort_descending_dict(n: int) -> float:
    table: dict[int, int] = {}
    with timed(n) as clock:
        for key in range(n - 1, -1, -1):
            table[key] = key  # noqa: PERF403
        sorted(table)
    return clock.each


@suite.variant(DESCENDING, "Beamish: and the first key", n=200_000)
async def insert_descending(n: int) -> float:
    return _insert_ordered(n, range(n - 1, -1, -1))


@suite.variant(NEXT, "Beamish: Table.next", n=100_000)
async def step(n: int) -> float:
    table = _filled(n, kind="ordered_set")
    key = table.first()
    with timed(n) as clock:
        while key is not None:
            key = table.next(key)
    return clock.each


# --- persistent terms -------------------------------------------------------------------------------------------------


@suite.variant(TERM, "Python: dict.get", n=200_000, baseline=True)
def get_from_dict(n: int) -> float:
    terms = {key: (key,) for key in KEYS}
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            terms.get(key)
    return clock.each


@suite.variant(TERM, "Python: a function that looks into a dict", n=200_000)
def get_by_function(n: int) -> float:
    terms = {key: (key,) for key in KEYS}

    def get(key: str) -> tuple[str]:
        return terms[key]

    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            get(key)
    return clock.each


@suite.variant(TERM, "Beamish: persistent_term.get", n=200_000)
def get_term(n: int) -> float:
    with persistent_term.restored():
        for key in KEYS:
            persistent_term.put(key, (key,))
        get = persistent_term.get
        with timed(n) as clock:
            for key in islice(cycle(KEYS), n):
                get(key)
    return clock.each
