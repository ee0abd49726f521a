"""The table of the search cache, against a list that does the same the slow way."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from beamish.servers._entries import SWEEP, CacheStats, Entries, Policy
from beamish.servers._keys import check_key

MISS = object()


@dataclass
class Entry:
    key: int
    value: object
    deadline: float


@dataclass
class Model:
    """Rows in the order in which they are evicted; everything expired goes at once."""

    limit: int
    policy: Policy
    ttl: float | None
    rows: list[Entry] = field(default_factory=list[Entry])
    evicted: list[int] = field(default_factory=list[int])
    hits: int = 0
    misses: int = 0
    insertions: int = 0
    updates: int = 0
    expirations: int = 0
    removals: int = 0

    def at(self, now: float) -> None:
        alive = [row for row in self.rows if now < row.deadline]
        self.expirations += len(self.rows) - len(alive)
        self.rows = alive

    def find(self, key: int) -> Entry | None:
        return next((row for row in self.rows if row.key == key), None)

    def use(self, row: Entry) -> None:
        if self.policy == "lru":
            self.rows.remove(row)
            self.rows.append(row)

    def fetch(self, key: int) -> object:
        row = self.find(key)
        if row is None:
            self.misses += 1
            return MISS
        self.hits += 1
        self.use(row)
        return row.value

    def put(self, key: int, value: object, now: float) -> None:
        deadline = inf if self.ttl is None else now + self.ttl
        row = self.find(key)
        if row is not None:
            self.updates += 1
            row.value, row.deadline = value, deadline
            self.use(row)
            return
        if len(self.rows) == self.limit:
            self.evicted.append(self.rows.pop(0).key)
        self.insertions += 1
        self.rows.append(Entry(key, value, deadline))

    def invalidate(self, key: int) -> bool:
        row = self.find(key)
        if row is None:
            return False
        self.rows.remove(row)
        self.removals += 1
        return True


steps = st.sampled_from([0.0, 0.0, 0.1, 0.2, 0.30000000000000004, 1.0, 3.0, 1e-9, 1e6])
keys = st.integers(0, 7)
values: st.SearchStrategy[object] = st.sampled_from([None, False, 0, 1, "", "x"]) | st.builds(list[int])
verbs = st.sampled_from(["fetch", "fetch", "fetch", "put", "put", "put", "invalidate", "sweep", "clear"])
policies = st.sampled_from(["oldest", "lru"])


class TestAgainstTheModel:
    @settings(max_examples=400, deadline=None)
    @given(
        st.integers(1, 6),
        policies,
        st.none() | st.sampled_from([0.1, 0.3, 1.0, 3.0, 1e-9]),
        st.lists(st.tuples(verbs, keys, values, steps), max_size=60),
        st.sampled_from([0.0, 0.7, 123456.789]),
    )
    def test_every_answer_and_count_is_the_models(
        self, limit: int, policy: Policy, ttl: float | None, story: list[tuple[str, int, object, float]], now: float
    ) -> None:
        entries: Entries[int, object] = Entries(limit, policy, ttl)
        model = Model(limit, policy, ttl)
        for verb, key, value, step in story:
            now += step
            model.at(now)
            match verb:
                case "fetch":
                    assert entries.fetch(key, MISS, now) is model.fetch(key)
                case "put":
                    entries.put(key, value, now)
                    model.put(key, value, now)
                case "invalidate":
                    assert entries.invalidate(key, now) is model.invalidate(key)
                case "sweep":
                    assert entries.sweep(now, most=3) <= 3
                case _:
                    entries.sweep(now, most=limit)
                    assert entries.clear() == len(model.rows)
                    model.removals += len(model.rows)
                    model.rows.clear()
            self.check(entries.stats(), model)
        entries.sweep(now, most=limit)
        assert len(entries) == len(model.rows)
        for row in list(model.rows):
            assert entries.fetch(row.key, MISS, now) is row.value

    @staticmethod
    def check(stats: CacheStats, model: Model) -> None:
        unmet = model.expirations - stats.expirations  # expired, held, and neither counted nor in anybody's way
        assert unmet >= 0
        assert stats.size == len(model.rows) + unmet <= stats.limit
        assert stats.size == stats.insertions - stats.evictions - stats.expirations - stats.removals
        assert (stats.hits, stats.misses, stats.insertions, stats.updates, stats.evictions, stats.removals) == (
            model.hits,
            model.misses,
            model.insertions,
            model.updates,
            len(model.evicted),
            model.removals,
        )


class TestFetch:
    @pytest.mark.parametrize("value", [None, False, 0, "", []])
    def test_an_empty_value_is_a_hit(self, value: object) -> None:
        entries: Entries[str, object] = Entries()
        entries.put("q", value, now=0.0)
        assert entries.fetch("q", MISS, now=0.0) is value
        assert (entries.stats().hits, entries.stats().misses) == (1, 0)

    def test_what_is_not_there_is_a_miss_and_gives_the_default(self) -> None:
        entries: Entries[str, int] = Entries()
        assert entries.fetch("q", "none", now=0.0) == "none"
        assert (entries.stats().hits, entries.stats().misses) == (0, 1)

    def test_an_entry_lives_before_its_ttl_and_not_at_it(self) -> None:
        entries: Entries[str, int] = Entries(ttl=0.2)
        entries.put("q", 1, now=0.1)
        end = 0.1 + 0.2
        assert entries.fetch("q", None, nextafter(end, 0.0)) == 1
        assert entries.fetch("q", None, end) is None
        assert entries.stats().expirations == 1

    def test_an_expired_entry_is_never_handed_out_however_many_expired_before_it(self) -> None:
        entries: Entries[int, int] = Entries(limit=1000, ttl=1.0)
        for key in range(1000):
            entries.put(key, key, now=0.0)
        assert entries.fetch(999, None, now=1.0) is None
        assert entries.invalidate(998, now=1.0) is False


class TestEviction:
    def test_oldest_is_the_one_inserted_first_whatever_its_key_and_however_often_it_is_asked_for(self) -> None:
        entries: Entries[str, int] = Entries(limit=2)
        entries.put("z", 1, now=0.0)
        entries.put("a", 2, now=1.0)
        entries.fetch("z", None, now=2.0)
        entries.put("m", 3, now=3.0)
        assert [entries.fetch(key, None, now=4.0) for key in "zam"] == [None, 2, 3]

    def test_an_update_evicts_nothing_and_makes_nobody_younger(self) -> None:
        entries: Entries[str, int] = Entries(limit=2)
        entries.put("a", 1, now=0.0)
        entries.put("b", 2, now=0.0)
        entries.put("a", 3, now=1.0)
        assert (len(entries), entries.stats().evictions, entries.stats().updates) == (2, 0, 1)
        entries.put("c", 4, now=2.0)
        assert [entries.fetch(key, None, now=3.0) for key in "abc"] == [None, 2, 4]

    @pytest.mark.parametrize("use", ["fetch", "put"])
    def test_lru_keeps_what_was_fetched_or_written_last(self, use: str) -> None:
        entries: Entries[str, int] = Entries(limit=2, policy="lru")
        entries.put("a", 1, now=0.0)
        entries.put("b", 2, now=0.0)
        if use == "fetch":
            entries.fetch("a", None, now=1.0)
        else:
            entries.put("a", 1, now=1.0)
        entries.put("c", 3, now=2.0)
        assert [entries.fetch(key, None, now=3.0) for key in "abc"] == [1, None, 3]

    @pytest.mark.parametrize("policy", ["oldest", "lru"])
    def test_an_expired_entry_goes_before_a_live_one(self, policy: Policy) -> None:
        entries: Entries[str, int] = Entries(limit=2, policy=policy, ttl=10.0)
        entries.put("live", 1, now=0.0)
        entries.put("expired", 2, now=0.0)
        entries.put("live", 1, now=5.0)  # still the first in line under "oldest"
        entries.fetch("expired", None, now=9.0)  # the last in line under "lru"
        entries.put("new", 3, now=10.0)
        assert [entries.fetch(key, None, now=10.0) for key in ("live", "expired", "new")] == [1, None, 3]
        assert (entries.stats().evictions, entries.stats().expirations) == (0, 1)


class TestBoundedWork:
    @pytest.mark.parametrize("verb", ["fetch", "put", "invalidate"])
    def test_no_operation_drops_more_than_the_sweep_and_its_own_key(self, verb: str) -> None:
        entries: Entries[int, int] = Entries(limit=10_000, ttl=1.0)
        for key in range(10_000):
            entries.put(key, key, now=0.0)
        while size := len(entries):
            call: dict[str, tuple[Any, ...]] = {"fetch": (size - 1, None, 5.0), "put": (9_999, 0, 5.0), "invalidate": (size - 1, 5.0)}
            before = entries.stats().expirations
            getattr(entries, verb)(*call[verb])
            dropped = entries.stats().expirations - before
            assert dropped <= SWEEP + 1
            if dropped == 0:
                break
        assert len(entries) <= 1

    def test_a_fetch_before_anything_can_have_expired_looks_up_one_key_once(self) -> None:
        entries: Entries[Counted, int] = Entries(ttl=60.0)
        entries.put(Counted("a"), 1, now=0.0)
        key = Counted("a")
        entries.fetch(key, None, now=59.0)
        assert key.hashed == 1

    def test_sweep_says_how_many_it_dropped_and_stops_at_the_first_live_entry(self) -> None:
        entries: Entries[int, int] = Entries(ttl=1.0)
        for key in range(5):
            entries.put(key, key, now=0.0 if key < 3 else 0.5)
        assert [entries.sweep(now=1.0), entries.sweep(now=1.0), entries.sweep(now=1.0), entries.sweep(now=9.0, most=9)] == [2, 1, 0, 2]


class TestClearAndInvalidate:
    def test_invalidate_says_whether_the_key_was_there(self) -> None:
        entries: Entries[str, None] = Entries()
        entries.put("q", None, now=0.0)
        assert (entries.invalidate("q", now=0.0), entries.invalidate("q", now=0.0)) == (True, False)
        assert entries.stats().removals == 1

    def test_clear_empties_the_table_and_keeps_the_counts(self) -> None:
        entries: Entries[str, int] = Entries(ttl=1.0)
        entries.put("q", 1, now=0.0)
        entries.fetch("q", None, now=0.0)
        assert entries.clear() == 1
        assert entries.stats() == CacheStats(size=0, limit=100, hits=1, insertions=1, removals=1)
        assert entries.sweep(now=5.0) == 0  # no deadline is left of what was cleared
        entries.put("q", 2, now=5.0)
        assert entries.fetch("q", None, now=5.5) == 2


class TestWhatAUserTyped:
    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, limit: int) -> None:
        with pytest.raises(ValueError, match=rf"^limit must be 1 or more. Got: {limit}$"):
            Entries(limit=limit)

    def test_an_unknown_policy_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"^policy must be 'oldest' or 'lru'. Got: 'fifo'$"):
            Entries(policy="fifo")  # type: ignore[arg-type]

    @pytest.mark.parametrize("ttl", [0, -1.0, float("nan")])
    def test_a_ttl_that_is_not_positive_is_refused(self, ttl: float) -> None:
        with pytest.raises(ValueError, match=r"^ttl must be more than 0 seconds, or None for no expiry. Got: "):
            Entries(ttl=ttl)

    def test_an_unhashable_key_changes_nothing(self) -> None:
        entries: Entries[Any, int] = Entries(ttl=1.0)
        entries.put("q", 1, now=0.0)
        before = entries.stats()
        calls: dict[str, tuple[Any, ...]] = {"fetch": ([], None, 0.0), "put": ([], 1, 0.0), "invalidate": ([], 0.0)}
        for verb, arguments in calls.items():
            with pytest.raises(TypeError, match="unhashable"):
                getattr(entries, verb)(*arguments)
        assert entries.stats() == before

    def test_check_key_says_what_to_do_in_the_clients_words(self) -> None:
        check_key(("otp", frozenset({1})))
        with pytest.raises(TypeError, match=r"^a query must be hashable, .* Got a tuple: \('otp', \[\]\)\. Pass a str, a tuple"):
            check_key(("otp", []), "query")

    def test_stats_are_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            CacheStats(0, 1).size = 1  # type: ignore[misc]

    def test_the_hit_rate_of_nothing_is_nothing(self) -> None:
        assert Entries().stats().hit_rate == 0.0


class Counted:
    """A key that counts how often it is looked up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hashed = 0

    def __hash__(self) -> int:
        self.hashed += 1
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counted) and self.name == other.name
