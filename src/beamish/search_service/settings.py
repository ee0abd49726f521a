"""What `beamish serve` can be told, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .upstream import check_template

MAX_QUERY = 500
"""Characters of a query."""
MAX_RESULTS = 100
DEFAULT_RESULTS = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the service. ValueError for those that make no sense."""

    host: str = "127.0.0.1"
    port: int = 8000
    documents: str | None = None
    """A folder; None for Python's own documentation."""
    upstream: str | None = None
    """The URL of another search service, instead of documents."""
    upstream_timeout: float = 10.0
    cache_dir: Path | None = None
    state_dir: Path | None = None
    """Where the cache's snapshot and the query log are kept."""
    keep_state: bool = True
    """Whether they outlive the program."""
    snapshot_every: float = 10.0
    cache_size: int = 1000
    cache_ttl: float | None = 300.0
    rate: int = 120
    per: float = 60.0
    at_once: int = 4
    queue: int = 100
    look_every: float = 60.0
    grace: float = 10.0
    forwarded_allow_ips: str | None = None
    chaos: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"the port is from 0 (any free one) to 65535. Got: {self.port}")
        if self.documents is not None and self.upstream is not None:
            raise ValueError("--documents and --upstream exclude each other: the service searches in one or asks the other")
        if self.upstream is not None:
            check_template(self.upstream)
        if self.state_dir is not None and not self.keep_state:
            raise ValueError("--state-dir and --no-state exclude each other")
        for name in ("cache_size", "rate", "at_once", "queue"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be 1 or more. Got: {getattr(self, name)}")
        for name in ("per", "look_every", "upstream_timeout", "snapshot_every"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is seconds, more than 0. Got: {getattr(self, name)}")
        if self.cache_ttl is not None and not self.cache_ttl > 0:
            raise ValueError(f"--cache-ttl is seconds, more than 0. Got: {self.cache_ttl}")
        if not 0 <= self.grace <= 600:
            raise ValueError(f"--grace is seconds, from 0 to 600. Got: {self.grace}")
