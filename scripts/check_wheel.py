"""Prove that a built wheel is whole: install it in an empty environment and use it from there.

    python scripts/check_wheel.py dist/beamish-0.1.0-py3-none-any.whl

It must bring `py.typed` and its entry points, need nothing outside the standard library without an extra, and, with [web],
serve the search service: the health check, the page, and every asset that the page names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

STARTUP_SECONDS = 30.0
STOP_SECONDS = 15.0

INSPECT = """
import importlib.metadata, importlib.util, json, pathlib
import beamish
scripts = importlib.metadata.distribution("beamish").entry_points
print(json.dumps({
    "file": beamish.__file__,
    "typed": (pathlib.Path(beamish.__file__).parent / "py.typed").is_file(),
    "entry_points": [(e.group, e.name, e.value, importlib.util.find_spec(e.module) is not None) for e in scripts],
}))
"""


class Links(HTMLParser):
    """Collects what a page makes the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "link": "href"}.get(tag)
        self.found += [value for name, value in attrs if name == wanted and value]


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="beamish-wheel-") as folder:
        home = Path(folder)
        python = make_environment(home / "venv")
        pip(python, "install", str(wheel))
        check_package(python, home)
        print("ok: imports with nothing but itself; py.typed is there")
        pip(python, "install", f"{wheel}[web]")
        entry_points = check_package(python, home)
        check_entry_points(python, home, entry_points)
        check_service(python, home)


def make_environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments], check=True)


def check_package(python: Path, home: Path) -> list[list[object]]:
    """Import the installed package, from a folder where the source tree cannot be imported by accident."""
    out = subprocess.run([python, "-c", INSPECT], cwd=home, env=environment(), check=True, capture_output=True, text=True).stdout
    facts = json.loads(out)
    expect(str(facts["file"]).startswith(str(home.resolve())), f"beamish came from {facts['file']}, not from the wheel")
    expect(facts["typed"], "the wheel has no beamish/py.typed: type checkers would ignore its annotations")
    entry_points: list[list[object]] = facts["entry_points"]
    return entry_points


def check_entry_points(python: Path, home: Path, entry_points: list[list[object]]) -> None:
    expect(any(name == "beamish" for _, name, _, _ in entry_points), "the wheel declares no `beamish` command")
    for group, name, value, exists in entry_points:
        expect(bool(exists), f"entry point {group}: {name} = {value} names a module that the wheel does not have")
    help_text = subprocess.run(
        [python.parent / "beamish", "--help"], cwd=home, env=environment(), check=True, capture_output=True, text=True
    )
    expect("serve" in help_text.stdout, f"`beamish --help` does not mention serve:\n{help_text.stdout}")
    print(f"ok: entry points {', '.join(f'{group}: {name}' for group, name, _, _ in entry_points)}")


def check_service(python: Path, home: Path) -> None:
    port = free_port()
    log = home / "serve.log"
    with log.open("w") as output:
        command = [str(python.parent / "beamish"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, cwd=home, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            base = f"http://127.0.0.1:{port}/"
            wait_until_healthy(server, urljoin(base, "healthz"))
            print("ok: /healthz")
            check_page(base)
            server.send_signal(signal.SIGTERM)
            code = server.wait(STOP_SECONDS)
            expect(code == 0, f"`beamish serve` ended with {code} after SIGTERM")
            print("ok: SIGTERM ends it with 0")
        except BaseException:
            print(f"--- what `beamish serve` printed ---\n{log.read_text()}", file=sys.stderr)
            raise
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def wait_until_healthy(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while True:
        expect(server.poll() is None, f"`beamish serve` ended with {server.returncode} before it answered")
        try:
            status, _, _ = get(url)
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0  # nobody listens yet
        if status == 200:
            return
        expect(time.monotonic() < deadline, f"{url} did not answer 200 in {STARTUP_SECONDS:.0f} s. Last status: {status}")
        time.sleep(0.1)


def check_page(base: str) -> None:
    kind, body = load(base)
    expect(kind.startswith("text/html"), f"{base} is {kind}, not a page")
    links = Links()
    links.feed(body.decode())
    own = [urljoin(base, link) for link in links.found if not link.startswith("data:")]
    foreign = [url for url in own if urlsplit(url).netloc != urlsplit(base).netloc]
    expect(not foreign, f"the page loads from elsewhere: {foreign}")
    seen: set[str] = set()
    while own:
        url = own.pop()
        if url in seen:
            continue
        seen.add(url)
        kind, body = load(url)
        expect(len(body) > 0, f"{url} is empty")
        if kind.startswith("text/css"):
            own += [urljoin(url, link) for link in re.findall(r"url\(['\"]?(?!data:|#)([^'\")]+)", body.decode())]
        elif "javascript" in kind:
            imported = re.findall(r"""\b(?:from|import)\s*\(?\s*['"](\.{0,2}/[^'"]+)['"]""", body.decode())
            own += [urljoin(url, link) for link in imported]
    print(f"ok: the page and its {len(seen)} assets")


def load(url: str) -> tuple[str, bytes]:
    try:
        _, kind, body = get(url)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"check_wheel: {url} answered {error.code}") from None
    return kind, body


def get(url: str) -> tuple[int, str, bytes]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status, answer.headers.get("content-type", ""), answer.read()


def environment() -> dict[str, str]:
    """Our own environment without what could lead Python back to the source tree."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def expect(fact: bool, text: str) -> None:
    if not fact:
        raise SystemExit(f"check_wheel: {text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prove that a built wheel is whole.")
    parser.add_argument("wheel", type=Path)
    options = parser.parse_args()
    expect(options.wheel.is_file(), f"there is no wheel {options.wheel}")
    main(options.wheel.resolve())
