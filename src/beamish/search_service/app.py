"""The service as an ASGI application: `GET /search`, what one wants to know about it, and its page.

    GET /search?q=&limit=   limiter → cache → search, as JSON
    GET /stats              everything the page shows;  GET /events: the same every second, as server-sent events
    GET /healthz  /readyz   the program runs; it can answer searches
    POST /crash/NAME        with --chaos only: crash a server

Errors are problem+json (RFC 9457) with the status that fits.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files
from math import ceil
from time import perf_counter, time
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import beamish
from beamish import KILL, CallExit, Supervisor, exit
from beamish.servers import RateLimiter
from beamish.web import call_exit_response, install, rate_limit_headers

from .engine import Key, Refusal
from .http_server import Door, HttpServer
from .index_keeper import IndexKeeper
from .observer import Node, Observer, tree
from .query_log import QueryLog
from .searches import Cache, Searches
from .settings import DEFAULT_RESULTS, MAX_QUERY, MAX_RESULTS, Settings

_log = logging.getLogger("beamish.search_service")

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
MAX_STREAMS = 100
SEARCH_WAITS = 30.0
"""Seconds in which a search ends one way or another: its own timeouts are shorter."""


@dataclass(slots=True)
class Traffic:
    """Requests for /search, by what became of them."""

    begin: float = field(default_factory=time)
    hits: int = 0
    misses: int = 0
    denied: int = 0
    bad: int = 0
    failed: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """The servers that the application calls. `index` is None in front of an upstream."""

    top: Supervisor
    observer: Observer
    cache: Cache
    limiter: RateLimiter
    searches: Searches
    index: IndexKeeper | None
    log: QueryLog


class BadQuery(Exception):
    """What the client typed cannot be searched for; the text says why."""


@lru_cache(maxsize=4096)
def parse(query_string: bytes) -> Key | BadQuery:
    """`q=…&limit=…` as the key of cache and search; BadQuery (returned, so that it is remembered too) says what is wrong with it."""
    try:
        fields = parse_qs(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except UnicodeDecodeError:
        return BadQuery("The query is not UTF-8.")
    except ValueError:
        return BadQuery("There are too many parameters.")
    texts, limits = fields.get("q", []), fields.get("limit", [str(DEFAULT_RESULTS)])
    if len(texts) != 1 or len(limits) != 1:
        return BadQuery("Say what to search for, once: /search?q=words, and limit once at most.")
    query = " ".join(texts[0].split())
    if not query:
        return BadQuery("The query is empty: /search?q=words.")
    if len(query) > MAX_QUERY:
        return BadQuery(f"The query has {len(query)} characters; {MAX_QUERY} is the most.")
    if not (limits[0].isascii() and limits[0].isdigit() and len(limits[0]) < 10 and 1 <= int(limits[0]) <= MAX_RESULTS):
        return BadQuery(f"limit is a whole number from 1 to {MAX_RESULTS}.")
    return query, int(limits[0])


class SearchEndpoint:
    """GET /search, as plain ASGI: a hit is a call of the limiter, a call of the cache and two messages to the web server."""

    def __init__(self, parts: Parts, settings: Settings, traffic: Traffic) -> None:
        self._limiter = parts.limiter
        self._cache = parts.cache
        self._searches = parts.searches.with_timeout(SEARCH_WAITS)
        self._log = parts.log
        self._per = settings.per
        self._traffic = traffic
        self._policy = (b"ratelimit-policy", f'"default";q={settings.rate};w={ceil(settings.per)}'.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, send)
        except CallExit as error:  # before anything was sent: all calls are made first
            self._traffic.failed += 1
            response = await call_exit_response(Request(scope), error)
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, send: Send) -> None:
        begin = perf_counter()
        client = scope["client"]
        decision = await self._limiter.track(client[0] if client else "")
        if not decision.allowed:
            self._traffic.denied += 1
            await send_problem(scope, send, 429, "Too many requests.", rate_limit_headers(decision, self._per), QUOTA)
            return
        rate = f'"default";r={decision.remaining};t={ceil(decision.reset_after)}'.encode()
        key = parse(scope["query_string"])
        if isinstance(key, BadQuery):
            self._traffic.bad += 1
            await send_problem(scope, send, 400, str(key), [self._policy, (b"ratelimit", rate)])
            return
        found = await self._cache.fetch(key)
        tail = HIT
        if found is None:
            answer = await self._searches.search(key)
            if isinstance(answer, Refusal):
                self._traffic.failed += 1
                self._log.asked(key, "failed", perf_counter() - begin)
                await self._refuse(scope, send, answer, rate)
                return
            found, tail = answer, MISS
            self._traffic.misses += 1
        else:
            self._traffic.hits += 1
        seconds = perf_counter() - begin
        self._log.asked(key, "hit" if tail is HIT else "miss", seconds)
        body = found + tail % seconds
        headers = [_JSON, (b"content-length", b"%d" % len(body)), self._policy, (b"ratelimit", rate), _NO_STORE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _refuse(self, scope: Scope, send: Send, refusal: Refusal, rate: bytes) -> None:
        headers = [self._policy, (b"ratelimit", rate), (b"retry-after", b"%d" % refusal.retry_after)]
        await send_problem(scope, send, refusal.status, refusal.detail, headers)


HIT, MISS = b',"cached":true,"seconds":%.6f}', b',"cached":false,"seconds":%.6f}'
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_NO_STORE = (b"cache-control", b"no-store")
QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"


async def send_problem(scope: Scope, send: Send, status: int, detail: str, headers: Headers, kind: str = "about:blank") -> None:
    """Answer with a problem, and say so in one line of the log (not for 429, of which there may be very many)."""
    title = HTTPStatus(status).phrase
    problem: dict[str, Any] = {"type": kind, "title": title, "status": status, "detail": detail}
    if status == 429:
        problem["violated-policies"] = ["default"]
    level = logging.DEBUG if status == 429 else logging.INFO if status < 500 else logging.WARNING
    client = scope.get("client")
    _log.log(level, "%s %.200r from %s: %d %s", scope["method"], scope["path"], client[0] if client else "?", status, detail)
    body = json.dumps(problem).encode()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_PROBLEM, length, _NO_STORE, *headers]})
    await send({"type": "http.response.body", "body": body})


class Problem(Response):
    """The same for what Starlette answers itself: an unknown path, a wrong method."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self._answer = status, detail, [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_problem(scope, send, *self._answer)


async def http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {404: "There is no such page.", 405: "That method is not for this page."}.get(error.status_code, error.detail)
    return Problem(error.status_code, detail, dict(error.headers or {}))


class Pages:
    """The other endpoints."""

    def __init__(self, parts: Parts, settings: Settings, traffic: Traffic, door: Door, http: HttpServer) -> None:
        self._parts = parts
        self._settings = settings
        self._traffic = traffic
        self._door = door
        self._http = http

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        if self._door.closing.is_set():
            return Problem(503, "The service is ending.", {"Retry-After": "5"})
        index = self._parts.index
        if index is not None:
            status = await index.status()
            if not status.ready:
                why = status.error or "The index is being built."
                return Problem(503, why, {"Retry-After": "2"})
        return JSONResponse({"status": "ready"})

    async def stats(self, request: Request) -> Response:
        return JSONResponse(await self._stats(request), headers={"Cache-Control": "no-store"})

    async def events(self, request: Request) -> Response:
        if self._traffic.streams >= MAX_STREAMS:
            return Problem(503, "Too many pages are watching.", {"Retry-After": "10"})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(request), media_type="text/event-stream", headers=headers)

    async def _stream(self, request: Request) -> AsyncGenerator[str]:
        """Until the page is closed (Starlette cancels us) or the service ends."""
        self._traffic.streams += 1
        try:
            while not self._door.closing.is_set():
                yield f"data: {json.dumps(await self._stats(request))}\n\n"
                try:
                    async with asyncio.timeout(1.0):
                        await self._door.closing.wait()
                except TimeoutError:
                    pass
        finally:
            self._traffic.streams -= 1

    async def crash(self, request: Request) -> Response:
        """Crash a server by a message that it does not understand (`how=raise`), or kill it (`how=kill`)."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return Problem(403, "Only the service's own page may do that.")
        name, how = request.path_params["name"], request.query_params.get("how", "raise")
        if how not in ("raise", "kill"):
            return Problem(400, "how is raise or kill.")
        server = self._workers().get(name)
        if server is None:
            return Problem(404, f"There is no such server. There are: {', '.join(self._workers())}.")
        _log.warning("%s: a crash (%s) was asked for", name, how)
        if how == "kill":
            exit(server, KILL)
        else:
            server.cast(f"POST /crash/{name}")
        return JSONResponse({"crashed": name, "how": how}, 202)

    def _workers(self) -> dict[str, Any]:
        parts = self._parts
        named: dict[str, Any] = {
            "observer": parts.observer, "search_cache": parts.cache, "rate_limiter": parts.limiter, "searches": parts.searches,
            "query_log": parts.log,
        }  # fmt: skip
        if parts.index is not None:
            named["index"] = parts.index
        return {**named, "http": self._http}

    async def _stats(self, request: Request) -> dict[str, Any]:
        parts, settings, traffic = self._parts, self._settings, self._traffic
        you = await _or_none(parts.limiter.peek(request.client.host if request.client else ""))
        return {
            "version": beamish.__version__,
            "source": {"upstream": settings.upstream, "documents": settings.documents},
            "uptime": time() - traffic.begin,
            "chaos": settings.chaos,
            "requests": {name: value for name, value in asdict(traffic).items() if name != "begin"},
            "cache": _plain(await _or_none(parts.cache.stats())),
            "limiter": {
                "limit": settings.rate, "per": settings.per, "allowed": traffic.hits + traffic.misses + traffic.bad + traffic.failed,
                "denied": traffic.denied, "you": None if you is None else {"remaining": you.remaining, "reset_after": you.reset_after},
            },
            "searches": _plain(await _or_none(parts.searches.status())),
            "log": _plain(await _or_none(parts.log.status())),
            "index": None if parts.index is None else _plain(await _or_none(parts.index.status())),
            "tree": asdict(await _or_none(tree(parts.top, parts.observer)) or Node("search_service", "supervisor", None, "busy", 0, None)),
            "restarts": [asdict(one) for one in (await _or_none(_last(parts.observer)) or [])],
        }  # fmt: skip


async def _last(observer: Observer) -> list[Any]:
    return list((await observer.seen()).last)[-12:]


async def _or_none(answer: Awaitable[T]) -> T | None:
    """What a server says, or None if it is down just now: the figures of the others are wanted all the same."""
    try:
        return await answer
    except CallExit:
        return None


def _plain(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    found: dict[str, Any] = asdict(value)
    if hasattr(value, "hit_rate"):
        found["hit_rate"] = value.hit_rate
    return found


ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"), "/icon.svg": ("icon.svg", "image/svg+xml"),
}  # fmt: skip


def _asset(path: str) -> Any:
    file, kind = ASSETS[path]
    body = (files("beamish.search_service") / "page" / file).read_bytes()
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }  # fmt: skip

    async def asset(request: Request) -> Response:
        return Response(body, media_type=kind, headers=headers)

    return asset


def make_app(parts: Parts, settings: Settings, door: Door, http: HttpServer) -> ASGIApp:
    """The application. It keeps no state but counts: all else is in the servers."""
    traffic = Traffic()
    pages = Pages(parts, settings, traffic, door, http)
    search: Any = SearchEndpoint(parts, settings, traffic)
    routes = [
        Route("/search", search, methods=["GET"]),  # for what is no GET: 405
        Route("/stats", pages.stats),
        Route("/events", pages.events),
        Route("/healthz", pages.healthz),
        Route("/readyz", pages.readyz),
        *(Route(path, _asset(path)) for path in ASSETS),
    ]
    if settings.chaos:
        routes.append(Route("/crash/{name}", pages.crash, methods=["POST"]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_problem})
    install(app)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        # Searches do without Starlette's middleware and router, which take as long as the limiter and the cache together.
        if scope["type"] == "http" and scope["path"] == "/search" and scope["method"] in ("GET", "HEAD"):
            await search(scope, receive, send)
        else:
            await app(scope, receive, send)

    return front
