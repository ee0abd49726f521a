"""The examples run, as a reader would run them."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import pytest

from asgi import TestClient

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestFastapiApp:
    @pytest.fixture
    def client(self) -> Generator[TestClient]:
        pytest.importorskip("fastapi")
        with TestClient(load("fastapi_app").app) as client:
            yield client

    @pytest.mark.parametrize(("path", "name", "value"), [("/square/12", "square", 144), ("/cube/12", "cube", 1728)])
    def test_an_async_and_a_plain_endpoint_share_cache_and_limiter(self, client: TestClient, path: str, name: str, value: int) -> None:
        answers = [client.get(path) for _ in range(6)]
        assert [one.status_code for one in answers] == [200] * 5 + [429]
        assert [one.json() for one in answers[:2]] == [{name: value, "cached": False}, {name: value, "cached": True}]
        assert [one.headers["ratelimit"].partition(";t")[0] for one in answers[:2]] == ['"default";r=4', '"default";r=3']
        assert int(answers[5].headers["retry-after"]) > 50


class TestTcpCounter:
    def test_each_client_has_a_counter_and_breaks_only_its_own(self) -> None:
        command = [sys.executable, str(EXAMPLES / "tcp_counter.py")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
            try:
                assert program.stdout is not None
                found = re.search(r"port (\d+)", program.stdout.readline())
                assert found
                one, two = (Client(int(found[1])) for _ in range(2))
                with one, two:
                    assert [one.ask("1"), one.ask("2"), two.ask("10")] == ["1", "3", "10"]
                    assert one.ask("zebra").startswith("sorry: invalid literal for int()")
                    assert one.ask("1") == ""
                    assert two.ask("5") == "15"
                    with Client(int(found[1])) as three:
                        assert three.ask("7") == "7"
                    program.send_signal(signal.SIGTERM)
                    assert program.wait(10) == 0
            finally:
                program.kill()


class Client:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._lines = self._socket.makefile("rw")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._lines.close()

    def ask(self, line: str) -> str:
        try:
            self._lines.write(line + "\n")
            self._lines.flush()
            return self._lines.readline().strip()
        except ConnectionError:
            return ""
