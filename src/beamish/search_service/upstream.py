"""Another search service as the engine: `--upstream 'http://host/search?q={query}'` puts cache, limiter and single flight in front of it.

It answers GET with JSON: a list of results, or an object with a list of `results`. Of each result `title`, `where` (or `url`),
`snippet`, `marks` and `score` are taken, and all but the title may be missing. So one service of ours can stand before another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote, urlsplit

import httpx

from .engine import Refusal, Result, SearchFailed

MAX_BYTES = 4_000_000
MAX_TEXT = 2_000


def check_template(template: str) -> str:
    """The template, or ValueError: it is an http or https URL with {query} in it, and {limit} if the service takes one."""
    url = urlsplit(template)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"the upstream is an http:// or https:// URL with a host. Got: {template!r}")
    if "{query}" not in url.path + url.query:
        raise ValueError(f"the upstream needs {{query}} where the text goes, such as http://host/search?q={{query}}. Got: {template!r}")
    return template


class UpstreamEngine:
    """Asks `template`, giving up after `timeout` seconds; at most `connections` requests at a time."""

    def __init__(self, template: str, timeout: float, connections: int) -> None:
        self._template = check_template(template)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, headers={"accept": "application/json"})

    async def search(self, query: str, limit: int) -> list[Result]:
        url = self._template.replace("{query}", quote(query, safe="")).replace("{limit}", str(limit))
        try:
            async with self._client.stream("GET", url) as answer:
                if answer.status_code != 200:
                    raise SearchFailed(_refused(answer))
                return list(_results(await _body(answer)))[:limit]
        except httpx.TimeoutException as error:
            raise SearchFailed(Refusal(504, "The search behind this service did not answer in time.", 5)) from error
        except httpx.HTTPError as error:
            raise SearchFailed(Refusal(502, "The search behind this service cannot be reached.", 5)) from error

    async def close(self) -> None:
        await self._client.aclose()


def _refused(answer: httpx.Response) -> Refusal:
    """A busy upstream says when it will be back; what else it says is a fault of its own."""
    after = answer.headers.get("retry-after", "")
    seconds = min(int(after), 3600) if after.isascii() and after.isdigit() else 5
    if answer.status_code in (429, 503):
        return Refusal(503, "The search behind this service is busy. Try again later.", seconds)
    return Refusal(502, f"The search behind this service answered with status {answer.status_code}.", seconds)


async def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_BYTES:
            raise SearchFailed(Refusal(502, f"The search behind this service sent more than {MAX_BYTES:,} bytes.", 60))
    return bytes(body)


def _results(body: bytes) -> Iterator[Result]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SearchFailed(Refusal(502, "The search behind this service did not answer with JSON.", 60)) from error
    match found:
        case {"results": [*results]} | [*results]:
            yield from (_result(cast("dict[str, Any]", one)) for one in results if isinstance(one, dict))
        case _:
            raise SearchFailed(Refusal(502, "The search behind this service answered without a list of results.", 60))


def _result(one: dict[str, Any]) -> Result:
    snippet = _text(one.get("snippet"))
    score = one.get("score")
    number = float(score) if isinstance(score, int | float) and abs(score) < 1e15 else 0.0
    return Result(
        _text(one.get("title")), _text(one.get("where") or one.get("url")), snippet, _marks(one.get("marks"), len(snippet)), number
    )


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _marks(value: Any, length: int) -> tuple[tuple[int, int], ...]:
    """Those of the marks that are (start, end) within the text, in order."""
    found: list[tuple[int, int]] = []
    at = 0
    match value:
        case [*marks]:
            for mark in marks:
                match mark:
                    case [int() as start, int() as end] if at <= start < end <= length:
                        found.append((start, end))
                        at = end
                    case _:
                        pass
        case _:
            pass
    return tuple(found)
