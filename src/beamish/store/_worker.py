"""One thread for what blocks, and the shortest way there and back: a third of what an executor of asyncio's takes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Then = Callable[[Any, BaseException | None], None]


class Worker(Executor):
    """Runs one function after the other. `call(then, fn, …)` has `then(value, error)` called on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Then | Future[Any]] | None] = SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"beamish-store-{name}", daemon=True)
        self._thread.start()

    def call(self, then: Then, fn: Callable[[], Any]) -> None:
        """RuntimeError if the worker was ended."""
        if self._ended:
            raise RuntimeError("this thread was ended")
        if type(self._loop).run_in_executor is asyncio.BaseEventLoop.run_in_executor:
            self._jobs.put((fn, then))
        else:  # a loop that wants to know what runs in threads: in virtual time, say
            future = self._loop.run_in_executor(self, fn)
            future.add_done_callback(lambda done: then(*_outcome(done)))

    def run(self, fn: Callable[[], T]) -> asyncio.Future[T]:
        """The same, to be awaited."""
        future: asyncio.Future[T] = self._loop.create_future()

        def then(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        self.call(then, fn)
        return future

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As an executor."""
        future: Future[T] = Future()
        self._jobs.put((lambda: fn(*args, **kwargs), future))
        return future

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            fn, then = job
            value: Any = None
            error: BaseException | None = None
            try:
                value = fn()
            except BaseException as raised:
                error = raised
            if isinstance(then, Future):
                future: Future[Any] = then  # pyright: ignore[reportUnknownVariableType]
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
            else:
                try:
                    self._loop.call_soon_threadsafe(then, value, error)
                except RuntimeError:
                    return  # the loop is closed: nobody waits any more
            del job, fn, then, value, error  # nothing is held while it waits

    def end(self) -> None:
        """After what it is doing now, and what it was told before. Waits for that."""
        self._ended = True
        self._jobs.put(None)
        self._thread.join()


def _outcome(done: asyncio.Future[Any]) -> tuple[Any, BaseException | None]:
    if done.cancelled():
        return None, asyncio.CancelledError()
    error = done.exception()
    return (None, error) if error is not None else (done.result(), None)
