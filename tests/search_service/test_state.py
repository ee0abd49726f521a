"""What the search service keeps over a restart, a crash of one of its servers, and a kill -9."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from beamish import supervise
from beamish.search_service.query_log import Asked, Popular
from beamish.store import SQLite, Store
from service import Service, refused, serving, until


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for number in range(30):
        (folder / f"page{number}.md").write_text(f"# Page {number}\n\nSupervisors restart crashed servers, number{number} of thirty.\n")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@contextmanager
def keeping(state: Path, documents: Path, cache: Path, *arguments: str, code: int = 0) -> Generator[Service]:
    """The service, with its state in that folder."""
    options = ("--documents", str(documents), "--rate", "1000000/60", "--state-dir", str(state), *arguments)
    with serving(*options, cache=cache, code=code) as service:
        yield service.ready()


def ask(service: Service, query: str) -> bool:
    """Whether it came from the cache."""
    answer = service.get("/search", params={"q": query})
    assert answer.status_code == 200, answer.text
    cached: bool = answer.json()["cached"]
    return cached


def log(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.stats()["log"]
    return found


def written(service: Service, rows: int) -> None:
    until(lambda: log(service)["written"] >= rows)


def rows(state: Path) -> tuple[list[Asked], list[Popular]]:
    """What the store holds, once no service has it."""

    async def read() -> tuple[list[Asked], list[Popular]]:
        kept = Store("kept")
        async with supervise([kept.child_spec(engine=SQLite(state / "queries.db"), tables=[Asked, Popular])]):
            return await kept.dirty_query(Asked), await kept.dirty_query(Popular)

    return asyncio.run(read())


def test_answers_and_log_are_there_after_a_restart(documents: Path, cache: Path, tmp_path: Path) -> None:
    with keeping(tmp_path, documents, cache) as service:
        assert [ask(service, query) for query in ("number1", "number2", "number1")] == [False, False, True]
    with keeping(tmp_path, documents, cache) as service:
        assert [ask(service, query) for query in ("number1", "number2", "number3")] == [True, True, False]
        written(service, 6)
        assert sorted(log(service)["popular"]) == [["number1", 3], ["number2", 2], ["number3", 1]]
        assert log(service)["popular"][0] == ["number1", 3]
    asked, counts = rows(tmp_path)
    assert [(one.id, one.query, one.outcome) for one in asked] == [
        (1, "number1", "miss"), (2, "number2", "miss"), (3, "number1", "hit"),
        (4, "number1", "hit"), (5, "number2", "hit"), (6, "number3", "miss"),
    ]  # fmt: skip
    assert {one.query: one.count for one in counts} == {"number1": 3, "number2": 2, "number3": 1}


def test_what_has_expired_is_not_loaded(documents: Path, cache: Path, tmp_path: Path) -> None:
    with keeping(tmp_path, documents, cache, "--cache-ttl", "0.05") as service:
        ask(service, "number1")
    with keeping(tmp_path, documents, cache, "--cache-ttl", "0.05") as service:
        assert service.stats()["cache"]["size"] == 0
        assert not ask(service, "number1")


def test_a_denial_is_no_shorter_for_a_restart(documents: Path, cache: Path, tmp_path: Path) -> None:
    few = ("--rate", "2/600")
    with keeping(tmp_path, documents, cache, *few) as service:
        assert [service.get("/search?q=number1").status_code for _ in range(3)] == [200, 200, 429]
    with keeping(tmp_path, documents, cache, *few) as service:
        assert service.get("/search?q=number1").status_code == 429


class Asking:
    """Clients that ask all the time, each for queries of its own; they know which were answered."""

    def __init__(self, service: Service, clients: int = 4) -> None:
        self.answered: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(service.url, number)) for number in range(clients)]

    def _ask(self, url: str, number: int) -> None:
        with httpx.Client(base_url=url, timeout=20.0, trust_env=False) as client:
            count = 0
            while not self._stop.is_set():
                query = f"number{count % 30} c{number} n{count}"
                try:
                    if client.get("/search", params={"q": query}).status_code == 200:
                        self.answered.append(query)
                except httpx.TransportError:
                    return  # it was killed
                count += 1

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_kill_9_under_load_costs_the_last_interval_of_the_cache_and_no_row(documents: Path, cache: Path, tmp_path: Path) -> None:
    often = ("--snapshot-every", "0.2", "--cache-size", "100000")
    with keeping(tmp_path, documents, cache, *often, code=-signal.SIGKILL) as service, Asking(service) as asking:
        until(lambda: len(asking.answered) > 100)
        before, size = list(asking.answered), (tmp_path / "cache.snap")
        stamp = size.stat().st_mtime_ns if size.exists() else 0
        # Two saves that ended after now: the second began after the first had ended, and so holds all of `before`.
        for _ in range(2):
            stamp = until(lambda stamp=stamp: size.exists() and (new := size.stat().st_mtime_ns) != stamp and new)
        told = log(service)["written"]
        service.stop(signal.SIGKILL)
    with keeping(tmp_path, documents, cache, *often) as service:
        assert all(ask(service, query) for query in before)
        written(service, told + len(before))
    asked, counts = rows(tmp_path)
    assert [one.id for one in asked] == list(range(1, len(asked) + 1))
    assert len(asked) >= told
    assert sum(one.count for one in counts) == len(asked)  # rows and counts are one transaction


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_crash_of_the_store_or_the_log_loses_no_row_that_was_written(documents: Path, cache: Path, tmp_path: Path, how: str) -> None:
    with keeping(tmp_path, documents, cache, "--chaos") as service:
        ask(service, "number1")
        written(service, 1)
        assert service.client.post(f"/crash/query_log?how={how}").status_code == 202
        until(lambda: "query_log" in service.stats()["restarts"][-1]["name"] if service.stats()["restarts"] else False)
        ask(service, "number1")
        written(service, 2)
    assert [one.query for one in rows(tmp_path)[0]] == ["number1", "number1"]


def test_a_damaged_snapshot_is_set_aside_and_told(documents: Path, cache: Path, tmp_path: Path) -> None:
    with keeping(tmp_path, documents, cache) as service:
        ask(service, "number1")
    path = tmp_path / "cache.snap"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with keeping(tmp_path, documents, cache) as service:
        ask(service, "number1")
        assert "cache.snap" in service.log
    assert list(tmp_path.glob("cache.snap*damaged*"))


def test_a_database_that_is_none_stops_the_start_with_a_clear_error(documents: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "queries.db").write_bytes(b"this is no database, and somebody may want it" * 100)
    code, error = refused("--documents", str(documents), "--cache-dir", str(cache), "--state-dir", str(tmp_path))
    assert code == 1
    assert "queries.db" in error
    assert (tmp_path / "queries.db").read_bytes().startswith(b"this is no database")


def test_two_services_cannot_have_one_folder(documents: Path, cache: Path, tmp_path: Path) -> None:
    with keeping(tmp_path, documents, cache) as service:
        code, error = refused("--documents", str(documents), "--cache-dir", str(cache), "--state-dir", str(tmp_path))
        assert code == 1
        assert str(tmp_path) in error
        assert not ask(service, "number7")


def test_without_state_nothing_is_written(documents: Path, cache: Path, tmp_path: Path) -> None:
    with serving("--documents", str(documents), "--no-state", cache=tmp_path) as service:
        ask(service.ready(), "number1")
        written(service, 1)
    assert not list(tmp_path.rglob("*.snap"))
    assert not list(tmp_path.rglob("queries.db"))


def test_the_file_is_a_plain_sqlite_database(documents: Path, cache: Path, tmp_path: Path) -> None:
    with keeping(tmp_path, documents, cache) as service:
        ask(service, "number1")
    with closing(sqlite3.connect(tmp_path / "queries.db")) as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    assert any("searches" in name for name in tables)
