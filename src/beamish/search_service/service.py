"""The service: one supervision tree, web server included.

    search_service            one_for_one
    ├── observer              restarts, from telemetry
    ├── search_cache
    ├── rate_limiter
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

from beamish import ChildSpec, Supervisor, supervise
from beamish.servers import RateLimiter

from ._build import source_of
from .app import Parts, make_app
from .cache_folder import default_cache_dir
from .documents import Folder, SourceError as SourceError
from .engine import IndexEngine, MakeEngine
from .http_server import Door as Door, HttpServer
from .index import path_for
from .index_keeper import IndexKeeper
from .observer import Observer
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
        None if settings.upstream else IndexKeeper("index"),
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
    return [
        parts.observer.child_spec(),
        parts.cache.child_spec(limit=settings.cache_size, policy="lru", ttl=settings.cache_ttl, stats_every=None),
        parts.limiter.child_spec(limit=settings.rate, per=settings.per),
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


def _cache_dir(settings: Settings) -> Path:
    return settings.cache_dir or default_cache_dir()


async def serve(settings: Settings, door: Door, started: Callable[[str], object]) -> None:
    """Run the service until this process is told to end; `started` is given the URL. For `beamish.run`."""
    often = 1000 if settings.chaos else 3
    async with supervise(children(settings, door), name=TOP, max_restarts=often):
        started(door.url)
        await asyncio.Event().wait()
