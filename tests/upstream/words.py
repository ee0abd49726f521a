"""What the ports of the upstream suites share."""

from __future__ import annotations

from typing import Any

from beamish import Pid, receive, send


async def mail() -> list[Any]:
    """The messages that wait for whoever asks, oldest first; they are taken."""
    found: list[Any] = []
    while True:
        try:
            found.append(await receive(timeout=0))
        except TimeoutError:
            return found


class Book:
    """A name server as small as can be: OTP's dummy_via."""

    def __init__(self) -> None:
        self.names: dict[Any, Pid] = {}

    def register_name(self, key: Any, pid: Pid, /) -> bool:
        return self.names.setdefault(key, pid) is pid

    def unregister_name(self, key: Any, /) -> None:
        self.names.pop(key, None)

    def whereis_name(self, key: Any, /) -> Pid | None:
        return self.names.get(key)

    def send(self, key: Any, message: Any, /) -> None:
        send(self.names[key], message)
