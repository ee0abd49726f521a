"""The search service over HTTP: a cached search, and the same bytes from a Starlette application that has nothing to do.

One worker each on asyncio's own loop, 32 connections that are kept open, one request at a time on each. The difference is what the
limiter, the cache and the supervision tree cost.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Suite, timed

suite = Suite()

CONNECTIONS = 32
REQUEST = b"GET /search?q=queue HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n\r\n"

CONSTANT = """
import json, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

given = json.load(sys.stdin)
body, headers = given["body"].encode(), given["headers"]

async def search(request: Request) -> Response:
    return Response(body, headers=headers, media_type="application/json")

door = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # for others asyncio does not set TCP_NODELAY
door.bind(("127.0.0.1", 0))
door.listen(2048)
print(f"http://127.0.0.1:{door.getsockname()[1]}/", flush=True)
app = Starlette(routes=[Route("/search", search)])
config = uvicorn.Config(
    app, loop="asyncio", lifespan="off", ws="none", log_config=None, access_log=False, server_header=False, proxy_headers=False
)
uvicorn.Server(config).run(sockets=[door])
"""
PLAIN = CONSTANT.replace(
    'async def search(request: Request) -> Response:\n    return Response(body, headers=headers, media_type="application/json")',
    """raw = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
raw += [(name.encode(), value.encode()) for name, value in headers.items()]

class Search:
    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": body})

search = Search()""",
)


class Client(asyncio.Protocol):
    """Sends a request, waits for the whole answer, sends the next."""

    def __init__(self, left: list[int], done: asyncio.Event) -> None:
        self._left = left
        self._done = done
        self._data = b""
        self.last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._next()

    def _next(self) -> None:
        if self._left[0] > 0:
            self._left[0] -= 1
            self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        data = self._data = self._data + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            return
        at = data.index(b"content-length: ") + 16
        if len(data) < head + 4 + int(data[at : data.index(b"\r", at)]):
            return
        self.last, self._data = data, b""
        self._left[1] -= 1
        if self._left[1] == 0:
            self._done.set()
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._left[1] > 0:
            self._done.set()


async def ask(url: str, n: int) -> bytes:
    """`n` answers over the connections; the last one. Raises if one was not 200."""
    host, port = url.removeprefix("http://").strip("/").split(":")
    left, done = [n, n], asyncio.Event()
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(lambda: Client(left, done), host, int(port)))[1] for _ in range(min(CONNECTIONS, n))]
    await done.wait()
    for client in clients:
        client.transport.close()
    assert left[1] == 0, "a connection was lost"
    last = max((client.last for client in clients), key=len)
    assert last.startswith(b"HTTP/1.1 200"), last
    return last


@contextmanager
def running(command: list[str], given: str = "") -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BEAMISH_")}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(given)
        process.stdin.close()
        line = process.stdout.readline()
        yield next(word for word in line.split() if word.startswith("http://"))
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@contextmanager
def service() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        documents = Path(folder, "documents")
        documents.mkdir()
        for number in range(20):
            (documents / f"{number}.md").write_text(f"# Page {number}\n\nA queue of work for servers, number {number}, kept in order.\n")
        options = ["--port", "0", "--rate", "1000000000/60", "--documents", str(documents), "--cache-dir", folder]
        with running([sys.executable, "-m", "beamish", "serve", "--log-level", "error", *options]) as url:
            yield url


async def ready(url: str) -> bytes:
    """Wait for the index, and bring the answer into the cache."""
    for _ in range(200):
        try:
            await ask(url, 2)
            return await ask(url, 1)
        except AssertionError:
            await asyncio.sleep(0.05)
    raise AssertionError("no index")


async def cached(n: int) -> float:
    with service() as url:
        await ready(url)
        await ask(url, 500)
        with timed(n) as clock:
            await ask(url, n)
    return clock.each


async def constant(n: int, source: str) -> float:
    with service() as url:
        head, _, body = (await ready(url)).partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    headers = {name: value for name, value in fields.items() if name not in ("date", "content-length", "content-type")}
    with running([sys.executable, "-c", source], json.dumps({"body": body.decode(), "headers": headers})) as url:
        await ask(url, 500)
        with timed(n) as clock:
            await ask(url, n)
    return clock.each


@suite.variant("GET /search, cached", "Starlette: the same bytes, constant", n=6_000, baseline=True)
async def starlette(n: int) -> float:
    return await constant(n, CONSTANT)


@suite.variant("GET /search, cached", "Starlette: the same, as plain ASGI", n=6_000)
async def plain(n: int) -> float:
    return await constant(n, PLAIN)


@suite.variant("GET /search, cached", "Beamish: limiter and cache", n=6_000)
async def beamish(n: int) -> float:
    return await cached(n)
