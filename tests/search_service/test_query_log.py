"""The query log: what is written, what waits, and what it forgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from beamish import KILL, Supervisor, exit, store
from beamish.search_service import query_log
from beamish.search_service.query_log import Asked, Popular, QueryLog
from beamish.testing import Kit, capture_crashes

LOG = QueryLog("query_log")
TABLES = store.Store("store")


async def start(beamish: Kit, engine: store.Engine) -> None:
    children = [TABLES.child_spec(engine=engine, tables=[Asked, Popular]), LOG.child_spec(TABLES)]
    await beamish.start_supervised(Supervisor("log").child_spec(children, strategy="one_for_all"))


async def test_rows_and_counts(beamish: Kit) -> None:
    await start(beamish, store.Memory())
    for query in ("otp", "otp", "gen_server", "otp"):
        LOG.asked((query, 10), "miss", 0.5)
    assert (await LOG.status()).waiting == 4
    await LOG.write()
    status = await LOG.status()
    assert (status.written, status.waiting, status.popular) == (4, 0, (("otp", 3), ("gen_server", 1)))
    assert [(one.id, one.query) for one in await TABLES.dirty_query(Asked)] == [(1, "otp"), (2, "otp"), (3, "gen_server"), (4, "otp")]


async def test_it_writes_by_itself_and_at_the_end(beamish: Kit, tmp_path: Path) -> None:
    engine = store.SQLite(tmp_path / "queries.db")
    await start(beamish, engine)
    LOG.asked(("otp", 10), "hit", 0.1)
    await beamish.clock.advance(query_log.WRITE_EVERY)
    assert (await LOG.status()).written == 1
    LOG.asked(("last", 10), "hit", 0.1)
    await beamish.stop_supervised("log")
    await start(beamish, store.SQLite(tmp_path / "queries.db"))
    assert (await LOG.status()).written == 2


async def test_while_the_store_is_away_rows_wait(beamish: Kit, tmp_path: Path) -> None:
    children = [TABLES.child_spec(engine=store.SQLite(tmp_path / "q.db"), tables=[Asked, Popular]), LOG.child_spec(TABLES)]
    await beamish.start_supervised(Supervisor("log").child_spec(children, strategy="one_for_one"))
    LOG.asked(("otp", 10), "hit", 0.1)
    exit(TABLES, KILL)
    await TABLES.started()
    await LOG.write()
    assert [one.query for one in await TABLES.dirty_query(Asked)] == ["otp"]


async def test_the_log_has_a_bound(beamish: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_log, "ROWS", 5)
    await start(beamish, store.Memory())
    for number in range(12):
        LOG.asked((f"q{number}", 10), "hit", 0.1)
    await LOG.write()
    assert [one.id for one in await TABLES.dirty_query(Asked)] == [8, 9, 10, 11, 12]
    assert (await LOG.status()).written == 12


async def test_queries_asked_least_are_forgotten(beamish: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_log, "QUERIES", 2)
    await start(beamish, store.Memory())
    for query in ("a", "b", "b", "c", "c", "c"):
        LOG.asked((query, 10), "hit", 0.1)
    await LOG.write()
    await beamish.clock.advance(query_log.TRIM_EVERY)
    assert [one.query for one in await TABLES.dirty_query(Popular)] == ["b", "c"]


async def test_what_no_table_takes_as_text_does_not_stop_the_log(beamish: Kit, tmp_path: Path) -> None:
    await start(beamish, store.SQLite(tmp_path / "queries.db"))
    for query in ("\0\1", "half \ud800", "otp"):
        LOG.asked((query, 10), "miss", 0.5)
    await LOG.write()
    assert [one.query for one in await TABLES.dirty_query(Asked)] == ["\ufffd\1", "half ?", "otp"]


async def test_a_row_that_can_never_be_written_does_not_stop_those_after_it(beamish: Kit) -> None:
    await start(beamish, store.Memory())
    LOG.asked(("otp", "ten"), "miss", 0.5)  # type: ignore[arg-type]
    with capture_crashes() as crashes:
        await beamish.clock.advance(query_log.WRITE_EVERY)
    assert crashes
    await LOG.started()
    LOG.asked(("otp", 10), "miss", 0.5)
    await LOG.write()
    assert [one.query for one in await TABLES.dirty_query(Asked)] == ["otp"]
