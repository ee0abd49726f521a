# pyright: reportUnknownMemberType=false, reportPrivateUsage=false, reportAttributeAccessIssue=false, reportUnknownVariableType=false
# mypy: disable-error-code="attr-defined, misc, no-any-return, var-annotated"
"""A task whose first step runs at once, on the stack of whoever makes it: how an `async def` handler begins."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from functools import partial
from typing import Any

if sys.version_info >= (3, 12):
    #: `eager(coro, loop=, context=)` starts `coro` in `context`; it may be done when this returns. Unnamed, 3.12 would make up a name.
    eager = partial(asyncio.Task, eager_start=True, name="beamish-handler")

else:
    from asyncio import futures, tasks

    _enter: Any = tasks._enter_task
    _leave: Any = tasks._leave_task
    _register: Any = tasks._register_task
    _current: Any = tasks.current_task
    _PyTask: Any = tasks._PyTask

    class _EagerTask(_PyTask):
        """3.11 has no eager_start: this runs the first step in place, and later ones as Python's own Task does.

        Written out because most async handlers end in that step: then there is no callback, no registration, and none of
        the general `__step` (7.1 µs a call became 5.6).
        """

        def __init__(self, coro: Any, loop: Any, context: Context) -> None:
            self._loop = loop
            self._callbacks = []
            self._log_destroy_pending = True
            self._name = "beamish-handler"
            self._num_cancels_requested = 0
            self._must_cancel = False
            self._fut_waiter = None
            self._coro = coro
            self._context = context
            outer = tasks.current_task(loop)
            if outer is not None:
                _leave(loop, outer)
            _enter(loop, self)
            try:
                awaited = context.run(coro.send, None)
            except StopIteration as done:
                self._state, self._result = "FINISHED", done.value
            except BaseException as error:
                self.set_error(error)
                raise
            else:
                self.suspend(awaited)
            finally:
                _leave(loop, self)
                if outer is not None:
                    _enter(loop, outer)

        def set_error(self, error: BaseException) -> None:
            """What leaves a callback's coroutine at all (`ServerProcess.main` handles the rest) ends the program."""
            futures._PyFuture.set_exception(self, error)
            self._Future__log_traceback = False

        def suspend(self, awaited: Any) -> None:
            _register(self)
            if getattr(awaited, "_asyncio_future_blocking", False) and futures._get_loop(awaited) is self._loop and awaited is not self:
                awaited._asyncio_future_blocking = False
                awaited.add_done_callback(self._Task__wakeup, context=self._context)
                self._fut_waiter = awaited
                if self._must_cancel and awaited.cancel(msg=self._cancel_message):
                    self._must_cancel = False
            elif awaited is None:
                self._loop.call_soon(self._Task__step, context=self._context)
            else:
                wrong = RuntimeError(f"the handler of {self!r} awaited something of another loop, or no future: {awaited!r}")
                self._loop.call_soon(self._Task__step, wrong, context=self._context)

    def eager(coro: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context) -> asyncio.Task[None]:
        """Start `coro` in `context`. It may be done when this returns."""
        ready = getattr(loop, "_ready", None)
        if ready is None:  # uvloop
            return _EagerTask(coro, loop, context)
        # A task of asyncio's own, in C, puts its first step last into the loop's queue this moment: take it out again, and do it.
        # 6 µs less than _EagerTask where the handler suspends (its later steps are in C), 0.5 more where it does not.
        task = asyncio.Task(coro, loop=loop, context=context, name="beamish-handler")
        step = ready.pop()._callback
        outer = _current(loop)
        if outer is not None:
            _leave(loop, outer)
        try:
            context.run(step)
        finally:
            if outer is not None:
                _enter(loop, outer)
        return task
