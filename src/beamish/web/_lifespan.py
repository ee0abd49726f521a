"""A supervision tree that lives as long as the application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from beamish import ChildSpec, supervise
from beamish.supervisor import Strategy

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(
    children: Iterable[ChildSpec[Any]],
    *,
    inner: Lifespan | None = None,
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    name: str | None = None,
) -> Lifespan:
    """`Starlette(lifespan=lifespan([…]))`, `FastAPI(lifespan=lifespan([…]))`: the children run before the first request, and stop,
    last to first, after the last.

    The options are those of `supervise`. `inner` is a lifespan of your own that runs inside the tree, so it may call the servers;
    the state that it yields is passed on to the requests.

    A child that does not start ends the application's start with StartError. If the tree gives up later (more restarts than
    `max_restarts` in `max_seconds`), the lifespan ends with SupervisorGaveUp, which the web server logs, and requests that call
    a server are answered 503 (see `install`): let the health check of your platform end such a process.
    """
    specs = list(children)

    @asynccontextmanager
    async def span(app: Any) -> AsyncGenerator[Mapping[str, Any]]:
        async with supervise(specs, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, name=name):
            if inner is None:
                yield {}
                return
            async with inner(app) as state:
                yield state if state is not None else {}

    return span
