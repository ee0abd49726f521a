"""What a client of the application sees when a server does not answer."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from beamish import CallExit, CallTimeout, NoProcess, Overloaded, ServerDown

_log = logging.getLogger("beamish.web")

#: What passes by itself: the server is down and will be back, or is busy. All others are mistakes in the program.
PASSING = (NoProcess, ServerDown, CallTimeout, Overloaded)

TRY_AGAIN_LATER = 1013
"""The close code of a WebSocket."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The handler of `CallExit` for one `Retry-After`, in whole seconds."""

    seconds: int = 1

    async def __call__(self, connection: Request | WebSocket, error: Exception) -> Response | None:
        """503 with Retry-After for what passes by itself; what is a mistake in the program (Deadlock, WrongServer, …) is raised again."""
        if not isinstance(error, PASSING):
            raise error
        # The text names the server, the request and the error: for the log. A client learns that it may try again, and nothing else.
        _log.warning("%s %s: 503, %s", _verb(connection), connection.url.path, _what(error))
        if isinstance(connection, WebSocket):
            await connection.close(TRY_AGAIN_LATER)
            return None
        problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": _DETAIL}
        headers = {"Retry-After": str(self.seconds), "Cache-Control": "no-store"}
        return Response(json.dumps(problem), 503, headers, "application/problem+json")


_DETAIL = "A part of this service cannot answer just now. Try again."


def _verb(connection: Request | WebSocket) -> str:
    return connection.method if isinstance(connection, Request) else "WebSocket"


def _what(error: Exception) -> str:
    """One line without arguments or state: neither a client's data nor a server's belongs into a log of requests."""
    assert isinstance(error, CallExit)
    return f"{type(error).__name__} of {error.server!r}"


async def call_exit_response(request: Request, error: CallExit) -> Response:
    """The 503 of a failed call, for handlers of your own. Raises `error` again if it is a mistake in the program."""
    response = await Retry()(request, error)
    assert response is not None
    return response


#: For `Starlette(exception_handlers=…)` and `FastAPI(exception_handlers=…)`.
exception_handlers: dict[Any, Any] = {CallExit: Retry()}


def install(app: Starlette, *, retry_after: int = 1) -> None:
    """Answer every CallExit of `app` (Starlette or FastAPI) with 503 and `Retry-After: retry_after` (whole seconds).

    The body is problem+json and says nothing about the servers; the log has one line. Deadlock, CallingSelf, WrongServer and
    WrongLoop stay what they are, errors of the program: 500 and a traceback in the log.
    """
    if isinstance(retry_after, bool) or not retry_after >= 0 or retry_after != int(retry_after):
        raise ValueError(f"retry_after is whole seconds, 0 or more. Got: {retry_after!r}")
    handler: Any = Retry(int(retry_after))  # Starlette types the handlers of requests and of WebSockets apart; this is both
    app.add_exception_handler(CallExit, handler)
