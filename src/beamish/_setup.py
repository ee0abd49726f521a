"""What `options(…)` asks of a process beyond its class: a bound of its mailbox, debug functions from birth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamish import _watched
from beamish._bounded import Bounded
from beamish._loop import ServerProcess
from beamish._runtime.extra import extra_of


@dataclass(frozen=True, slots=True)
class Setup:
    """`max_queue` and `debug` of `options(…)`, as a child spec carries them."""

    max_queue: int | None = None
    debug: tuple[Any, ...] = ()

    @classmethod
    def of(cls, max_queue: int | None, debug: Iterable[Any]) -> Setup | None:
        if max_queue is not None and (isinstance(max_queue, bool) or not isinstance(max_queue, int) or max_queue < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"max_queue is the number of requests that may wait, 1 or more, or None for no bound. Got: {max_queue!r}")
        options = tuple(debug)
        for option in options:
            _watched.check_option(option)
            if option[0] == "log_to_file":
                _watched.writable(Path(option[1]))
        return cls(max_queue, options) if max_queue is not None or options else None

    def apply(self, process: ServerProcess) -> None:
        """Before `init` runs."""
        if self.max_queue is not None:
            extra_of(process).limit = self.max_queue
            process.__class__ = _watched.mixed(Bounded, type(process))
        for option in self.debug:
            _watched.switch_on(process, option)
