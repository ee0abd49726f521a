"""Look into a running server: OTP's `sys`. These are system requests: served in mailbox order, without a handler of yours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from beamish import gen
from beamish._address import Address
from beamish._answers import Reply
from beamish._loop import ServerProcess
from beamish._runtime.signals import SYSTEM
from beamish.process import Target, find

S = TypeVar("S")


async def get_state(server: Target, timeout: float | None = 5.0) -> Any:
    """The state itself, not a copy. Raises NoProcess, CallTimeout (seconds), CallingSelf."""
    return await _request(server, lambda process: Reply(process.state), timeout)


async def replace_state(server: Target, change: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Put `change(state)` in place of the state, and return it. What `change` raises is raised here; the server goes on."""

    def apply(process: ServerProcess) -> Any:
        try:
            process.state = change(process.state)
        except Exception as error:
            return Reply(error)
        return Reply((process.state,))

    answer = await _request(server, apply, timeout)
    if isinstance(answer, Exception):
        raise answer
    return answer[0]


async def _request(server: Target, what: Callable[[Any], Any], timeout: float | None) -> Any:
    process = None if isinstance(server, Address) else find(server)
    address = server if isinstance(server, Address) else Address(server if process is None else process)
    return await gen.request(address.with_timeout(timeout), SYSTEM, what, None)
