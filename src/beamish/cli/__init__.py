"""`beamish serve`, and what it can be told: on the command line or by environment variables (BEAMISH_PORT for --port, …)."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import beamish

LEVELS = ("debug", "info", "warning", "error", "critical")


def main(argv: Sequence[str] | None = None) -> int:
    """The `beamish` command. Returns its exit code: 0 after an orderly end, 1 if the service cannot run, 2 for wrong options."""
    parser = _parser(os.environ)
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    return _serve(options, parser)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="beamish", description="OTP for Python.")
    parser.add_argument("--version", action="version", version=f"beamish {beamish.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve: a search service with cache, rate limit and a page, run by one supervision tree",
        description="Search Python's documentation, a folder of yours, or another search service, behind a cache and a rate limit.",
        epilog="Each option can be set in the environment too: BEAMISH_PORT=8080 is --port 8080, BEAMISH_CHAOS=1 is --chaos.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = _Adder(serve, environ)
    add("--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all of this machine's")
    add("--port", type=int, default=8000, help="the port; 0 for any free one")
    add("--documents", metavar="DIR", help="a folder with .md, .txt, .rst, .html or .py files; Python's own documentation unless told")
    add("--upstream", metavar="URL", help="another search service, such as 'http://host/search?q={query}', instead of documents")
    add("--upstream-timeout", type=float, default=10.0, metavar="SECONDS", help="how long the upstream may take")
    add("--rate", type=_rate, default="120/60", metavar="N/SECONDS", help="searches that one client address may make in that time")
    add("--cache-size", type=int, default=1000, metavar="N", help="answers to keep")
    add("--cache-ttl", type=float, default=300.0, metavar="SECONDS", help="how long to keep them")
    add("--cache-dir", type=Path, metavar="DIR", help="where the index is kept; your cache folder unless told")
    add(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where cached answers and the query log outlive a restart; one for each port unless told",
    )
    add("--snapshot-every", type=float, default=10.0, metavar="SECONDS", help="how often the cached answers are saved")
    add.switch("--no-state", help="begin with an empty cache and query log, and save neither")
    add("--look-every", type=float, default=60.0, metavar="SECONDS", help="how often to look whether the documents have changed")
    add("--at-once", type=int, default=4, metavar="N", help="searches that run at the same time")
    add("--queue", type=int, default=100, metavar="N", help="searches that may wait; the next one is answered 503")
    add("--grace", type=float, default=10.0, metavar="SECONDS", help="how long requests may take to end when the service is stopped")
    add("--forwarded-allow-ips", metavar="IPS", help="proxies whose X-Forwarded-For names the client, comma-separated; none unless told")
    add("--log-level", choices=LEVELS, default="info", help="what is logged, to stderr")
    add.switch("--chaos", help="put buttons on the page that crash the servers: for demonstrations")
    return parser


class _Adder:
    """Adds options whose default may come from the environment. A wrong value there is told like one on the command line."""

    def __init__(self, parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
        self._parser = parser
        self._environ = environ

    def __call__(self, flag: str, *, default: Any = None, choices: Sequence[str] | None = None, **options: Any) -> None:
        value = self._environ.get(_variable(flag)) or default
        if choices is not None and value not in choices:
            self._parser.error(f"{_variable(flag)} must be one of {', '.join(choices)}. Got: {value!r}")
        self._parser.add_argument(flag, default=value, choices=choices, **options)

    def switch(self, flag: str, *, help: str) -> None:
        value = self._environ.get(_variable(flag), "").lower()
        if value not in ("", "0", "1", "false", "true", "no", "yes"):
            self._parser.error(f"{_variable(flag)} must be 0 or 1. Got: {value!r}")
        self._parser.add_argument(flag, action="store_true", default=value in ("1", "true", "yes"), help=help)


def _variable(flag: str) -> str:
    return "BEAMISH_" + flag.strip("-").upper().replace("-", "_")


def _rate(text: str) -> tuple[int, float]:
    """`120/60`: 120 in 60 seconds."""
    number, slash, seconds = text.partition("/")
    try:
        return int(number), float(seconds) if slash else 60.0
    except ValueError:
        raise argparse.ArgumentTypeError(f"a rate is N/SECONDS, such as 120/60. Got: {text!r}") from None


def _serve(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        from beamish.search_service.service import Door, Settings, SourceError, check_documents, serve
    except ModuleNotFoundError as missing:
        return _fail(f"{missing.name} is not installed. The service needs: pip install 'beamish[web]'")
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)-8s %(name)s: %(message)s", stream=sys.stderr)
    for chatty in ("uvicorn", "httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    limit, per = options.rate
    names = (
        "host port documents upstream upstream_timeout cache_size cache_ttl cache_dir state_dir snapshot_every look_every at_once queue "
        "grace forwarded_allow_ips chaos"
    )
    try:
        settings = Settings(
            rate=limit, per=per, keep_state=not options.no_state, **{name: getattr(options, name) for name in names.split()}
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        check_documents(settings)
        door = Door(settings.host, settings.port)
    except SourceError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}. Choose another with --host or --port."
        )
    try:
        beamish.run(lambda: serve(settings, door, _say))
    except (beamish.SupervisorGaveUp, beamish.StartError) as error:
        return _fail(str(error))
    finally:
        door.close()
    return 0


def _say(url: str) -> None:
    print(f"Beamish search service on {url} (Ctrl-C ends it)", flush=True)


def _fail(text: str) -> int:
    print(f"beamish: {text}", file=sys.stderr)
    return 1
