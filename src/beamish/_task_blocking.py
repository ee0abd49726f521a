"""Threads for functions that block: `Task.blocking`, and `Threads` where they are to have a bound of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from beamish._runtime.node import Node
from beamish._task_process import WRAPPERS, check_function
from beamish.errors import short

if TYPE_CHECKING:
    from beamish.task import Task

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded number of threads for functions that block: `await threads.run(fn, …)`, or as a task `threads.async_(fn, …)`.

    `limit` functions run at a time (by default what Python itself takes for such threads: the number of processors and 4, at
    most 32); the others wait, in a queue that is as long as there are tasks that wait in it. The threads are made when they are
    needed, and serve any event loop.

    **A thread cannot be stopped.** When the task behind it is shut down, killed or times out, the task is gone at once; the
    function runs on to its own end, its value or error is dropped, and until then it keeps its place among the `limit`: so many
    functions that never return leave no place for others. One that has not begun yet never does. A program ends when its
    threads have. Give a function that may hang a timeout of its own (a socket's, a query's).
    """

    __slots__ = ("_busy", "_executor", "_lock", "limit")

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"limit is how many functions may run at a time, an int of 1 or more. Got: {short(limit)}")
        self.limit = limit if limit is not None else min(32, (os.cpu_count() or 1) + 4)
        self._executor = ThreadPoolExecutor(self.limit, thread_name_prefix="beamish-task")
        self._lock = threading.Lock()
        self._busy = 0

    @property
    def busy(self) -> int:
        """How many functions run now, those included whose task is gone already."""
        return self._busy

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(*args)` in a thread and wait for what it returns or raises.

        It sees this code's context variables, and reaches servers by `beamish.blocking.call(server.method, …)`. Cancelled, this
        ends at once, but the function does not; see above.
        """
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._call, copy_context(), fn, args, kwargs)
        value, error = await work
        if error is None:
            return cast(T, value)
        try:
            raise error
        finally:
            del error  # which refers to this frame

    def _call(self, context: Context, fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, BaseException | None]:
        """In the thread. An error is handed over as a value: what the executor would do to it hides where it comes from."""
        with self._lock:
            self._busy += 1
        try:
            return context.run(fn, *args, **kwargs), None
        except StopIteration as error:  # it would end whoever awaits instead of telling him
            stopped = RuntimeError(f"{short(fn)} raised StopIteration")
            stopped.__cause__ = error
            return None, stopped
        except BaseException as error:
            trace = error.__traceback__
            return None, error.with_traceback(trace.tb_next if trace is not None else None)
        finally:
            with self._lock:
                self._busy -= 1

    def async_(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """The same as a task of this process: `Task.blocking`, in these threads."""
        from beamish.task import Task  # which is built on this module

        check_function(fn)
        task: Task[T] = Task.async_(self.run, fn, *args, **kwargs)
        task._fn = fn  # pyright: ignore[reportPrivateUsage]
        return task

    def close(self) -> None:
        """Let the threads end. What runs runs on; what waits never begins, and whoever waits for it is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<Threads {self._busy} of {self.limit} busy>"


WRAPPERS.add(Threads.run)


def default_threads(node: Node) -> Threads:
    """Those of the node: made at first use, and let go when its loop ends."""
    threads: Threads | None = node.shelf.get(Threads)
    if threads is None:
        threads = node.shelf[Threads] = Threads()
        node.at_end.append(threads.close)
    return threads
