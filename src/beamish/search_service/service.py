"""The service: one supervision tree, web server included.

    search_service            one_for_one
    ├── observer              restarts, from telemetry
    ├── search_cache          loads its snapshot
    ├── rate_limiter          loads its snapshot
    ├── log                   a supervisor: one_for_all
    │   ├── store             the query log's tables
    │   └── query_log
    ├── engine                a supervisor: what goes wrong with the documents stays in here
    │   ├── searches          the searches that run
    │   └── index             keeps the index right (not in front of an upstream)
    └── http                  uvicorn

The order is that of need: the web server starts last and stops first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from beamish import ChildSpec, Supervisor, store, supervise
from beamish.servers import RateLimiter
from beamish.snapshot import Snapshot

from ._build import source_of
from .app import Parts, make_app
from .cache_folder import default_cache_dir
from .documents import Folder, SourceError as SourceError
from .engine import IndexEngine, MakeEngine
from .http_server import Door as Door, HttpServer
from .index import path_for
from .index_keeper import IndexKeeper
from .observer import Observer
from .query_log import WAITING, Asked, Popular, QueryLog
from .searches import Cache, Searches
from .settings import Settings as Settings
from .upstream import UpstreamEngine

TOP = "search_service"


def check_documents(settings: Settings) -> None:
    """Look at the documents before anything starts. Raises SourceError for a folder that is not there."""
    if settings.documents is not None:
        Folder(settings.documents).scan()


def children(settings: Settings, door: Door) -> list[ChildSpec[object]]:
    """The tree of the service, for `supervise([…], name=TOP)` or for a supervisor of yours."""
    parts = Parts(
        Supervisor(TOP), Observer("observer"), Cache("search_cache"), RateLimiter("rate_limiter"), Searches("searches"),
        None if settings.upstream else IndexKeeper("index"), QueryLog("query_log"),
    )  # fmt: skip
    http = HttpServer("http")
    app = make_app(parts, settings, door, http)
    make_engine, timeout = _engine(settings)
    below: list[ChildSpec[object]] = [
        parts.searches.child_spec(make_engine, parts.cache, at_once=settings.at_once, queue=settings.queue, timeout=timeout)
    ]
    if parts.index is not None:
        below.append(parts.index.child_spec(settings.documents, _cache_dir(settings), parts.searches, look_every=settings.look_every))
    often = 1000 if settings.chaos else 3
    state = state_dir(settings)
    return [
        parts.observer.child_spec(),
        parts.cache.child_spec(
            limit=settings.cache_size, policy="lru", ttl=settings.cache_ttl, stats_every=None, snapshot=_snapshot(settings, state, "cache")
        ),
        parts.limiter.child_spec(limit=settings.rate, per=settings.per, snapshot=_snapshot(settings, state, "limiter")),
        Supervisor("log").child_spec(_log(parts.log, state), strategy="one_for_all", max_restarts=often),
        Supervisor("engine").child_spec(below, max_restarts=often),
        http.child_spec(app, door, grace=settings.grace, forwarded_allow_ips=settings.forwarded_allow_ips).replace(
            shutdown=settings.grace + 5
        ),
    ]


def _engine(settings: Settings) -> tuple[MakeEngine, float]:
    """How to make the engine, and the seconds that one search may take: an upstream's own timeout comes first."""
    upstream, seconds, threads = settings.upstream, settings.upstream_timeout, settings.at_once
    if upstream is not None:
        return lambda: UpstreamEngine(upstream, seconds, threads), seconds + 1.0
    path = path_for(source_of(settings.documents), _cache_dir(settings))
    return lambda: IndexEngine(path, threads), 10.0


def state_dir(settings: Settings) -> Path | None:
    """Where what outlives the program is kept, made if it is missing; None for nowhere.

    One service at a time can use it: unless it is told, each port has its own, and a port that is any free one has none.
    """
    if not settings.keep_state or (settings.state_dir is None and settings.port == 0):
        return None
    folder = settings.state_dir or default_cache_dir() / "state" / str(settings.port)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _snapshot(settings: Settings, folder: Path | None, name: str) -> Snapshot | None:
    """Killed right after the documents have changed, the cache may come back with answers from the old ones, until they expire."""
    return None if folder is None else Snapshot(folder / f"{name}.snap", every=settings.snapshot_every)


def _log(log: QueryLog, folder: Path | None) -> list[ChildSpec[object]]:
    """The log's store, and who writes to it. Without `durability="full"` a crash of the machine may cost its last seconds."""
    tables = store.Store("store")
    engine = store.Memory() if folder is None else store.SQLite(folder / "queries.db", durability="normal")
    return [
        tables.child_spec(engine=engine, tables=[Asked, Popular]),
        log.options(max_queue=WAITING).child_spec(tables),
    ]


def _cache_dir(settings: Settings) -> Path:
    return settings.cache_dir or default_cache_dir()


async def serve(settings: Settings, door: Door, started: Callable[[str], object]) -> None:
    """Run the service until this process is told to end; `started` is given the URL. For `beamish.run`."""
    often = 1000 if settings.chaos else 3
    async with supervise(children(settings, door), name=TOP, max_restarts=often):
        started(door.url)
        await asyncio.Event().wait()
