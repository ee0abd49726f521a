"""The web server as a part of the supervision tree: a GenServer that owns uvicorn, restarted like any other.

What a crash must not take along is the `Door`: the listening socket, in whose backlog new connections wait while there is no server,
and the open connections, whose requests go on. The server has a copy of the socket (`dup`) that it may lose.

At the end it serves what it has accepted: see `_Uvicorn.shutdown`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from beamish import SHUTDOWN, Exit, Exited, GenServer, Pid, Shutdown, down, exit, flag, spawn_link

_log = logging.getLogger("beamish.search_service")

CLOSE = (b"connection", b"close")
LINGER = 0.5
"""Seconds at the end in which an open connection may bring a request that was on its way; it is answered, with Connection: close."""
BACKLOG = 2048
MAX_CONNECTIONS = 2000
"""Beyond it connections are answered 503 at once."""


class Door:
    """Where clients come in: it is opened before the tree starts, and closed after it has ended."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError, for instance when the port is in use."""
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.socket = socket.socket(family, kind, proto)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
            self.socket.listen(BACKLOG)
            self.socket.setblocking(False)
        except OSError:
            self.socket.close()
            raise
        self.connections = ServerState()
        self.headers: list[tuple[bytes, bytes]] = []
        """Of every answer, also of requests that run already: the list stays the same one."""
        self.closing = asyncio.Event()
        """Set when the service ends: streams that have no end of their own end then."""

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def close(self) -> None:
        self.socket.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers (`beamish.run` has them), and with another end."""

    def __init__(self, config: uvicorn.Config, door: Door, grace: float) -> None:
        super().__init__(config)
        self.server_state = door.connections  # open connections stay known to the next server, if this one crashes
        self.up = asyncio.Event()
        self._door = door
        self._grace = grace

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def on_tick(self, counter: int) -> bool:
        ended = await super().on_tick(counter)
        headers = self._door.headers
        if self.server_state.default_headers is not headers:
            headers[:] = self.server_state.default_headers
            self.server_state.default_headers = headers
        return ended

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was accepted: requests that run, connections in the backlog, and requests on their way over open connections.

        Whatever still runs after the grace is cancelled.
        """
        state = self.server_state
        self.release()
        await self._take_backlog()
        self._door.headers.append(CLOSE)
        await self._wait(min(LINGER, self._grace))
        for connection in list(state.connections):
            connection.shutdown()  # idle ones close now, the others after their answer
        await self._wait(self._grace - LINGER)
        if state.tasks:
            _log.warning("%d requests were cancelled: they were not done %g s after the request to stop", len(state.tasks), self._grace)
            for task in list(state.tasks):
                task.cancel()
            await asyncio.wait(list(state.tasks), timeout=1.0)

    def release(self) -> None:
        """Accept no more here. The door stays open: what comes waits in its backlog."""
        for server in getattr(self, "servers", []):
            server.close()

    async def _take_backlog(self) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        while True:
            try:
                connection, _ = self._door.socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                _log.warning("a waiting connection was lost: %s", error)
                break
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)
        self._door.socket.close()
        assert config.loaded

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state={})
        return protocol

    async def _wait(self, seconds: float) -> None:
        """Until there is no connection and no request any more, or the seconds are over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (self.server_state.connections or self.server_state.tasks) and loop.time() < end:  # noqa: ASYNC110  # sets without events
            await asyncio.sleep(0.02)


class State:
    __slots__ = ("door", "server", "worker")

    def __init__(self, server: _Uvicorn, worker: Pid, door: Door) -> None:
        self.server = server
        self.worker = worker
        self.door = door


GRACE = 10.0


class HttpServer(GenServer[State], shutdown=GRACE + 5.0):
    """Started with the ASGI application, the door, and the seconds that requests have to end when it is told to stop."""

    async def init(self, app: ASGIApp, door: Door, *, grace: float = GRACE, forwarded_allow_ips: str | None = None) -> State:
        flag(trap_exit=True)
        config = uvicorn.Config(
            app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False,
            proxy_headers=forwarded_allow_ips is not None, forwarded_allow_ips=forwarded_allow_ips, limit_concurrency=MAX_CONNECTIONS,
        )  # fmt: skip
        server = _Uvicorn(config, door, grace)
        worker = spawn_link(_serve, server, door)
        await server.up.wait()
        return State(server, worker, door)

    def handle_info(self, state: State, message: object) -> None:
        match message:
            case Exited(pid=pid, reason=reason) if pid is state.worker:
                raise Exit(reason)
            case Exited(reason=reason):
                raise Exit(reason)
            case _:
                super().handle_info(state, message)

    async def terminate(self, state: State, reason: object) -> None:
        if not isinstance(reason, Shutdown):
            exit(state.worker, SHUTDOWN)
            return
        state.door.closing.set()
        state.server.should_exit = True
        await down(state.worker)


async def _serve(server: _Uvicorn, door: Door) -> None:
    """uvicorn's own main loop, as a process: linked, so that server and loop end together, whichever is hit."""
    try:
        await server.serve(sockets=[door.socket.dup()])
    finally:
        server.release()
        server.up.set()
