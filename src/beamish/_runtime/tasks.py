"""A task whose first step runs at once, on the stack of whoever makes it: how an `async def` handler begins."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

if sys.version_info >= (3, 12):

    def eager(coro: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context) -> asyncio.Task[None]:
        """Start `coro` in `context`. It may be done when this returns."""
        return asyncio.Task(coro, loop=loop, context=context, eager_start=True)

else:
    from asyncio import futures, tasks

    class _EagerTask(tasks._PyTask):  # type: ignore  # 3.11 has no eager_start: step it where __init__ would call_soon
        def __init__(self, coro: Any, loop: Any, context: Context) -> None:
            futures._PyFuture.__init__(self, loop=loop)  # type: ignore
            self._log_destroy_pending = True
            self._name = "beamish-handler"
            self._num_cancels_requested = 0
            self._must_cancel = False
            self._fut_waiter = None
            self._coro = coro
            self._context = context
            outer = tasks.current_task(loop)
            if outer is not None:
                tasks._leave_task(loop, outer)  # type: ignore
            try:
                context.run(self._Task__step)  # type: ignore
            finally:
                if outer is not None:
                    tasks._enter_task(loop, outer)  # type: ignore
            if not self.done():
                tasks._register_task(self)  # type: ignore

    def eager(coro: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context) -> asyncio.Task[None]:
        """Start `coro` in `context`. It may be done when this returns."""
        return _EagerTask(coro, loop, context)  # type: ignore
