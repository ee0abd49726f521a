"""Servers for code that is not async: from a worker thread, or from a program without any event loop.

with blocking.run([cache.child_spec()]) as rt:        # a loop in a thread of its own
    rt.call(cache.fetch, "otp")

blocking.call(cache.fetch, "otp")                     # in a worker thread of an application that runs a loop
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast as cast_type

from beamish._address import Address
from beamish._run import supervise
from beamish._runtime.node import NODES, here_key
from beamish.child_spec import ChildSpec
from beamish.errors import WrongLoop

P = ParamSpec("P")
T = TypeVar("T")


class Runtime:
    """An event loop in a thread of its own, as `blocking.run` gives it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, fn: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `await fn(*args)` on the loop (a server's call, or any async function), and wait for what it returns."""
        return cast_type("T", _on(self._loop, fn, args, kwargs))

    def cast(self, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a plain `fn(*args)` on the loop: a server's cast."""
        _on(self._loop, fn, args, kwargs)


@contextmanager
def run(children: Iterable[ChildSpec[Any]] = (), **options: Any) -> Iterator[Runtime]:
    """A supervision tree on a loop in a thread of its own, stopped in order at the end. `options` are those of `supervise`."""
    ready: threading.Event = threading.Event()
    box: dict[str, Any] = {}

    async def main() -> None:
        box["loop"] = asyncio.get_running_loop()
        box["end"] = asyncio.Event()
        async with supervise(children, **options):
            ready.set()
            await box["end"].wait()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            box["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=body, name="beamish-blocking", daemon=True)
    thread.start()
    ready.wait()
    if "error" in box:
        raise box["error"]
    try:
        yield Runtime(box["loop"])
    finally:
        try:
            box["loop"].call_soon_threadsafe(box["end"].set)
        except RuntimeError:
            pass  # the tree has given up meanwhile and its loop is closed: `error` says so below
        thread.join()
    if "error" in box:
        raise box["error"]


def call(fn: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await a server's call on the application's loop, from one of its worker threads (a `def` endpoint, say).

    The loop is that of the address's process; for a named address, the only one in this program that runs servers (WrongLoop
    when there are several: use the `Runtime` of `blocking.run`). On a loop's own thread RuntimeError, instead of a deadlock.
    """
    return cast_type("T", _on(_loop_of(fn), fn, args, kwargs))


def cast(fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """The same for a server's cast: it has been sent when this returns."""
    _on(_loop_of(fn), fn, args, kwargs)


def _loop_of(fn: Callable[..., Any]) -> asyncio.AbstractEventLoop:
    address = getattr(fn, "__self__", None)
    if isinstance(address, Address) and address._process is not None:  # pyright: ignore[reportPrivateUsage]
        return address._process.node.loop  # pyright: ignore[reportPrivateUsage]
    loops = [node.loop for node in list(NODES.values()) if node.loop.is_running()]
    if len(loops) != 1:
        what = "no event loop of this program runs servers" if not loops else f"{len(loops)} event loops of this program run servers"
        raise WrongLoop(f"blocking.call can't tell where to go: {what}. Use `with blocking.run([…]) as rt: rt.call(…)`", server=address)
    return loops[0]


def _on(loop: asyncio.AbstractEventLoop, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if not callable(fn):
        raise TypeError(
            f"it takes the method and its arguments: blocking.call(cache.fetch, 'a'), not blocking.call(cache.fetch('a')). Got: {fn!r}"
        )
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not None:
        raise RuntimeError("this thread runs an event loop, which a blocking call would stop; `await` the method instead")
    answer: Future[Any] = Future()
    try:
        loop.call_soon_threadsafe(_begin, answer, fn, args, kwargs)
    except RuntimeError as error:  # closed
        raise _ended(fn) from error
    while True:
        try:
            return answer.result(timeout=1.0)
        except TimeoutError:
            if answer.done():
                raise  # it is the answer
            if loop.is_closed():  # in whose very last turn the question came
                raise _ended(fn) from None


def _begin(answer: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """On the loop: run the function in a task, and hand on what becomes of it. Who waits must hear of the loop's end too."""
    node = NODES.get(here_key())
    if node is None:
        answer.set_exception(_ended(fn))
        return

    def at_end() -> None:
        if not answer.done():
            answer.set_exception(_ended(fn))

    def done(task: asyncio.Task[Any]) -> None:
        if at_end in node.at_end:
            node.at_end.remove(at_end)
        if answer.done():
            return
        if task.cancelled():
            answer.set_exception(_ended(fn))
        elif error := task.exception():
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    async def ask() -> Any:
        value = fn(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    node.at_end.append(at_end)
    node.loop.create_task(ask()).add_done_callback(done)


def _ended(fn: Callable[..., Any]) -> WrongLoop:
    return WrongLoop(f"the event loop that {fn!r} was to run on has ended", server=getattr(fn, "__self__", None))
