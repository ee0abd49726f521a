"""The searches that are running: one for each query, however many wait for it, and no more at a time than the engine can bear.

A search belongs to this server, not to the request that asked first: when that client goes away, the others still get their answer,
and the next one finds it in the cache. Each search is a process of its own, linked to this one: what it crashes of ends its search,
which all who wait are told, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from beamish import (
    Answer,
    CallExit,
    Client,
    Exited,
    GenServer,
    NoReply,
    Normal,
    Pid,
    Reply,
    call,
    cast,
    client,
    flag,
    monotonic,
    reply,
    send,
    spawn_link,
)  # fmt: skip
from beamish.servers import SearchCache

from .engine import Engine, Key, MakeEngine, Refusal, SearchFailed

_log = logging.getLogger("beamish.search_service")

Cache = SearchCache[Key, bytes]

CRASHED = Refusal(503, "The search failed. Try again.", 1)
LATE = Refusal(504, "The search took too long.", 5)
OVERLOADED = Refusal(503, "Too many searches are waiting. Try again later.", 1)


@dataclass(slots=True)
class Search:
    """One search: who waits for it, and the process that does it, once it runs."""

    generation: int
    clients: list[Client] = field(default_factory=list[Client])
    worker: Pid | None = None


@dataclass(slots=True)
class State:
    engine: Engine
    cache: Cache
    at_once: int
    """Searches that run at the same time, at most."""
    queue: int
    """Searches that wait to run, at most."""
    timeout: float
    """Seconds that one search may take."""
    searches: dict[Key, Search] = field(default_factory=dict[Key, Search])
    waiting: deque[Key] = field(default_factory=deque[Key])
    workers: dict[Pid, Key] = field(default_factory=dict[Pid, Key])
    generation: int = 0
    """Of the documents: what was found in older ones is not cached."""
    done: int = 0
    failed: int = 0
    refused: int = 0
    joined: int = 0


@dataclass(frozen=True, slots=True)
class SearchesStatus:
    """Searches that run and wait now; and since the start: those done, failed, and refused because there were too many, and requests
    that joined a search which was running already."""

    running: int
    waiting: int
    done: int
    failed: int
    refused: int
    joined: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker's word to the server: the answer's JSON without its last members, or why there is none."""

    key: Key
    outcome: bytes | Refusal
    seconds: float


class Searches(GenServer[State], shutdown=5.0):
    """Started with the engine's maker, the cache that answers go to, and the bounds; see `init`.

    **Bounds**: `at_once` searches run, `queue` more wait, the next is refused at once. `MAX_CLIENTS` wait for the same one.
    """

    def init(self, make_engine: MakeEngine, cache: Cache, *, at_once: int = 8, queue: int = 100, timeout: float = 10.0) -> State:
        flag(trap_exit=True)
        return State(make_engine(), cache, at_once, queue, timeout)

    @call
    def search(self, state: State, key: Key) -> Answer[bytes | Refusal]:
        """The answer to `key`, found now, or with others who ask the same. A Refusal says why there is none."""
        search = state.searches.get(key)
        if search is None:
            if len(state.waiting) >= state.queue:
                state.refused += 1
                return Reply(OVERLOADED)
            search = state.searches[key] = Search(state.generation)
            state.waiting.append(key)
            self._start_some(state)
        elif len(search.clients) >= MAX_CLIENTS:
            state.refused += 1
            return Reply(OVERLOADED)
        else:
            state.joined += 1
        search.clients.append(client())
        return NoReply()

    @cast
    async def renew(self, state: State) -> None:
        """The documents have changed: forget what was found in the old ones."""
        state.generation += 1
        try:
            await state.cache.clear()
        except CallExit:
            pass  # it has crashed, so it has forgotten everything

    @call
    def status(self, state: State) -> SearchesStatus:
        return SearchesStatus(len(state.workers), len(state.waiting), state.done, state.failed, state.refused, state.joined)

    def handle_info(self, state: State, message: object) -> None:
        match message:
            case Finished(key=key, outcome=outcome):
                self._finish(state, key, outcome)
            case Exited(pid=pid, reason=reason) if pid in state.workers:
                key = state.workers.pop(pid)
                if key in state.searches and state.searches[key].worker is pid:
                    if not isinstance(reason, Normal):
                        _log.error("the search for %.100r failed: %.200r", key[0], reason)
                    self._finish(state, key, CRASHED)
                self._start_some(state)
            case Exited():
                pass  # a worker's end that was seen to already
            case _:
                super().handle_info(state, message)

    async def terminate(self, state: State, reason: object) -> None:
        await state.engine.close()

    def _start_some(self, state: State) -> None:
        while state.waiting and len(state.workers) < state.at_once:
            key = state.waiting.popleft()
            worker = spawn_link(_work, self, state.engine, key, state.timeout)
            state.searches[key].worker = worker
            state.workers[worker] = key

    def _finish(self, state: State, key: Key, outcome: bytes | Refusal) -> None:
        search = state.searches.pop(key, None)
        if search is None:
            return
        if isinstance(outcome, bytes):
            state.done += 1
            if search.generation == state.generation:
                state.cache.cache(key, outcome)
        else:
            state.failed += 1
        for one in search.clients:
            reply(one, outcome)  # who is gone does not hear it, and that is all


MAX_CLIENTS = 10_000


async def _work(server: Searches, engine: Engine, key: Key, timeout: float) -> None:
    """A worker's life: one search, told to the server whatever comes of it. What it does not expect is its crash."""
    begin = monotonic()
    send(server, Finished(key, await _outcome(engine, key, timeout), monotonic() - begin))


async def _outcome(engine: Engine, key: Key, timeout: float) -> bytes | Refusal:
    query, limit = key
    try:
        async with asyncio.timeout(timeout):
            results = await engine.search(query, limit)
    except SearchFailed as error:
        return error.refusal
    except TimeoutError:
        return LATE
    # The end of the object is written for each answer: whether it was cached, and how long it took.
    head = dumps({"query": query, "limit": limit, "results": [asdict(result) for result in results]})
    return head[:-1].encode("utf-8", "replace")


dumps: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
