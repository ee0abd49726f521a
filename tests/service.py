"""`beamish serve` as a program of its own, for tests that look at it from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

STARTUP = 30.0
STOP = 20.0


class Service:
    """A running service: its URL, what it has written to the log, and a client."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self._lines = lines
        self.url = self._url()
        self.client = httpx.Client(base_url=self.url, timeout=20.0, trust_env=False)

    def _url(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"no URL in {line!r}; the log: {self.wait_and_log()}"
        return found[0]

    def wait_and_log(self) -> str:
        self.process.wait(STOP)
        return self.log

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/stats").json()
        return found

    def ready(self) -> Service:
        until(lambda: self.get("/readyz").status_code == 200, STARTUP)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP)


def until(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Ask again until it is true; it is returned."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)  # real time: another process starts
    return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "beamish", "serve", "--port", "0", *arguments]


def environment(**variables: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("BEAMISH_")}, **variables}


@contextmanager
def serving(*arguments: str, cache: Path, code: int = 0, **variables: str) -> Generator[Service]:
    """The service, until the end of the block; then it must have ended, or end, with `code`."""
    whole = command("--cache-dir", str(cache), *arguments)
    process = subprocess.Popen(whole, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        service = Service(process, lines)
        with service.client:
            yield service
        if process.poll() is None:
            process.terminate()
        assert process.wait(STOP) == code, service.log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(5.0)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def refused(*arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code and the complaint of a service that cannot start."""
    done = subprocess.run(command(*arguments), env=environment(**variables), capture_output=True, text=True, timeout=STARTUP)
    return done.returncode, done.stderr
