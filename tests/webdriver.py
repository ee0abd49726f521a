"""Just enough of WebDriver to drive a headless Chromium: chromedriver's HTTP interface, without a further package."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# fmt: off
OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
]
# fmt: on


def missing() -> str | None:
    """Why there can be no browser here, or None."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed (Debian: chromium, chromium-driver)" if absent else None


class Browser:
    """One session. Every wait has a deadline."""

    def __init__(self, base: str) -> None:
        self._base = base

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:500]}") from None

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        self._ask("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def _find(self, selector: str) -> str:
        (element,) = self._ask("POST", "/element", {"using": "css selector", "value": selector}).values()
        return str(element)

    def wait(self, what: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Until `what()` is true; it is returned."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, f"not within {seconds} s; the page says: {self.text('body')[:2000]}"
            time.sleep(0.05)  # real time: the browser is another process
        return found

    def resize(self, width: int, height: int) -> None:
        self._ask("POST", "/window/rect", {"width": width, "height": height})

    def screenshot(self) -> bytes:
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def log(self) -> list[str]:
        """What the browser complained about: scripts that failed, what the content security policy refused."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]


@contextmanager
def browser(*options: str) -> Generator[Browser]:
    with tempfile.TemporaryDirectory(prefix="beamish-browser-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "chromedriver.log")
        driver = subprocess.Popen(["chromedriver", "--port=0", f"--log-path={log}"], stdout=subprocess.PIPE, text=True)
        try:
            port = _port_of(driver)
            arguments = [*OPTIONS, f"--user-data-dir={folder}/profile", *options]
            chrome = {"binary": shutil.which("chromium"), "args": arguments}
            wanted = {"browserName": "chrome", "goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
            base = f"http://127.0.0.1:{port}/session"
            session = Browser(base)._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            page = Browser(f"{base}/{session['sessionId']}")
            try:
                yield page
            finally:
                page._ask("DELETE", "")
        finally:
            driver.terminate()
            driver.wait(10)
            assert driver.stdout is not None
            driver.stdout.close()


def _port_of(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return int(found[1])
    raise AssertionError("chromedriver did not start")
