"""A limiter's decision as the header fields of HTTP."""

from __future__ import annotations

from math import ceil, isinf

from beamish.servers import Decision

LONGEST = 999_999_999_999_999
"""The largest integer of a structured field."""


def rate_limit_headers(decision: Decision, per: float, *, policy: str = "default") -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), and `Retry-After` if the request was denied.

    `per` is the limiter's window in seconds. Put them on successes too: a client that sees what is left need not be denied.

    >>> from beamish.servers import Decision
    >>> for name, value in rate_limit_headers(Decision(False, 120, 0, retry_after=29.2, reset_after=60.0), per=60.0):
    ...     print(name.decode(), value.decode())
    ratelimit-policy "default";q=120;w=60
    ratelimit "default";r=0;t=30
    retry-after 30
    """
    name = _quoted(policy)
    wait = decision.reset_after if decision.allowed else decision.retry_after
    fields = [
        (b"ratelimit-policy", f"{name};q={decision.limit};w={_seconds(per)}".encode()),
        (b"ratelimit", f"{name};r={decision.remaining};t={_seconds(wait)}".encode()),
    ]
    if not decision.allowed:
        fields.append((b"retry-after", str(_seconds(wait)).encode()))
    return fields


def _seconds(value: float) -> int:
    """Rounded up: who comes back after so many seconds is let in."""
    return LONGEST if isinf(value) else min(ceil(value), LONGEST)


def _quoted(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"a policy's name is printable ASCII. Got: {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
