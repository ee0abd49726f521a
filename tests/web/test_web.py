"""Beamish under Starlette and FastAPI, as an application uses it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from asgi import TestClient
from beamish import GenServer, NoReply, StartError, WrongServer, alive, call
from beamish.servers import Decision
from beamish.web import exception_handlers, install, lifespan, rate_limit_headers


class Counter(GenServer[list[int]]):
    def init(self, start: int = 0) -> list[int]:
        return [start]

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += 10 // n
        return state[0]

    @call
    def never(self, state: list[int]) -> Any:
        return NoReply()


counter = Counter("web_counter")


async def add(request: Request) -> Response:
    return JSONResponse(await counter.add(int(request.query_params["n"])))


async def late(request: Request) -> Response:
    return JSONResponse(await counter.with_timeout(0.01).never())


class Other(GenServer[None]):
    @call
    def ping(self, state: None) -> str:
        return "pong"


async def wrong(request: Request) -> Response:
    return JSONResponse(await Other("web_counter").ping())


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await counter.add(0)


ROUTES = [Route("/add", add), Route("/late", late), Route("/wrong", wrong), WebSocketRoute("/ws", socket)]


def application(**options: Any) -> Starlette:
    app = Starlette(routes=ROUTES, lifespan=lifespan([counter.child_spec(5)], **options))
    install(app, retry_after=2)
    return app


class TestLifespan:
    def test_the_servers_run_between_start_and_end(self) -> None:
        with TestClient(application()) as client:
            assert client.get("/add?n=1").json() == 15
            assert client.get("/add?n=1").json() == 25

    def test_an_inner_lifespan_runs_inside_the_tree_and_hands_on_its_state(self) -> None:
        seen: list[Any] = []

        @contextlib.asynccontextmanager
        async def inner(app: Any) -> AsyncGenerator[dict[str, int]]:
            seen.append(await counter.add(1))
            yield {"first": seen[0]}
            seen.append(alive(counter))

        async def first(request: Request) -> Response:
            return JSONResponse(request.state.first)

        app = Starlette(routes=[Route("/first", first)], lifespan=lifespan([counter.child_spec()], inner=inner))
        with TestClient(app) as client:
            assert client.get("/first").json() == 10
        assert seen == [10, True]

    def test_a_child_that_does_not_start_ends_the_start(self) -> None:
        app = Starlette(lifespan=lifespan([counter.child_spec(), counter.child_spec().replace(id="again")]))
        with pytest.raises(StartError), TestClient(app):
            raise AssertionError("not reached")


class TestCallExit:
    def test_a_server_that_crashes_is_503_and_the_next_request_is_answered(self, caplog: pytest.LogCaptureFixture) -> None:
        with TestClient(application()) as client:
            answer = client.get("/add?n=0")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
            assert answer.headers["content-type"] == "application/problem+json"
            assert "ZeroDivision" not in answer.text
            assert "counter" not in answer.text
            assert client.get("/add?n=1").json() == 15
        (line,) = [record for record in caplog.records if record.name == "beamish.web"]
        assert line.getMessage() == "GET /add: 503, ServerDown of Counter('web_counter')"
        assert line.exc_info is None

    def test_a_late_one_and_an_absent_one_as_well(self) -> None:
        with TestClient(application()) as client:
            assert client.get("/late").status_code == 503
        app = Starlette(routes=ROUTES, exception_handlers=exception_handlers)
        with TestClient(app) as client:
            answer = client.get("/add?n=1")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

    def test_a_mistake_in_the_program_stays_one(self) -> None:
        with TestClient(application(), raise_server_exceptions=False) as client:
            assert client.get("/wrong").status_code == 500
            assert client.get("/add?n=1").json() == 15
        with TestClient(application()) as client, pytest.raises(WrongServer):
            client.get("/wrong")

    def test_a_websocket_is_closed_with_try_again_later(self) -> None:
        with TestClient(application()) as client, client.websocket_connect("/ws") as websocket:
            with pytest.raises(WebSocketDisconnect) as closed:
                websocket.receive_text()
            assert closed.value.code == 1013

    @pytest.mark.parametrize("wrong", [-1, 1.5, True])
    def test_retry_after_is_whole_seconds(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="whole seconds"):
            install(Starlette(), retry_after=wrong)


class TestRateLimitHeaders:
    def test_an_allowed_request_has_no_retry_after(self) -> None:
        fields = dict(rate_limit_headers(Decision(True, 5, 4, retry_after=0.0, reset_after=59.01), per=59.5, policy="searches"))
        assert fields == {b"ratelimit-policy": b'"searches";q=5;w=60', b"ratelimit": b'"searches";r=4;t=60'}

    def test_a_cost_that_is_never_allowed_has_the_longest_wait_there_is(self) -> None:
        fields = dict(rate_limit_headers(Decision(False, 5, 5, retry_after=float("inf"), reset_after=0.0), per=60.0))
        assert fields[b"retry-after"] == b"999999999999999"

    @pytest.mark.parametrize("name", ["grün", "a\nb"])
    def test_a_policy_that_is_no_header_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="printable ASCII"):
            rate_limit_headers(Decision(True, 5, 4, 0.0, 0.0), 60.0, policy=name)

    def test_quotes_in_a_name_are_escaped(self) -> None:
        fields = dict(rate_limit_headers(Decision(True, 5, 4, 0.0, 1.0), 60.0, policy='a"b\\'))
        assert fields[b"ratelimit"] == b'"a\\"b\\\\";r=4;t=1'


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("beamish.gen_server"), "disabled", True)  # and enabled again after each test
