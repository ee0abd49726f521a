"""Testing servers: no test sleeps, and none leaves anything behind. docs/testing.md tells it by example.

With pytest there is nothing to set up: the fixture `beamish` (a `Kit`) gives each test a world of its own, in virtual time.

    async def test_a_minute_passes(beamish: Kit) -> None:
        clicks = await beamish.start_supervised(Clicks("clicks").child_spec())
        await beamish.clock.advance(60.0)

`simulate` runs a test under many interleavings. `world`, a `ManualClock` and `settle` are the parts, for those who want them apart.
"""

from __future__ import annotations

from beamish._runtime.clock import ManualClock as ManualClock, settle as settle
from beamish.testing._captures import Heard as Heard, capture_crashes as capture_crashes, capture_telemetry as capture_telemetry
from beamish.testing._handle import Handled as Handled, NoProcessHere as NoProcessHere, handle as handle, handle_async as handle_async
from beamish.testing._history import History as History, Operation as Operation, Raised as Raised
from beamish.testing._kit import Kit as Kit
from beamish.testing._linearizable import (
    Model as Model,
    NotLinearizable as NotLinearizable,
    Undecided as Undecided,
    linearizable as linearizable,
)
from beamish.testing._mock import (
    Called as Called,
    Mock as Mock,
    MockServer as MockServer,
    NotVerified as NotVerified,
    UnexpectedCall as UnexpectedCall,
    mock as mock,
    verify_mocks as verify_mocks,
)
from beamish.testing._patterns import like as like, matches as matches
from beamish.testing._scene import (
    Crashed as Crashed,
    Failure as Failure,
    LeftBehind as LeftBehind,
    NotAwaited as NotAwaited,
    Signalled as Signalled,
)
from beamish.testing._simulate import simulate as simulate
from beamish.testing._virtual import Stalled as Stalled, VirtualLoop as VirtualLoop, virtual_time as virtual_time
from beamish.testing._world import World as World, world as world

__all__ = [
    "Called", "Crashed", "Failure", "Handled", "Heard", "History", "Kit", "LeftBehind", "ManualClock", "Mock", "MockServer",
    "Model", "NoProcessHere", "NotAwaited", "NotLinearizable", "NotVerified", "Operation", "Raised", "Signalled", "Stalled", "Undecided",
    "UnexpectedCall", "VirtualLoop", "World", "capture_crashes", "capture_telemetry", "handle", "handle_async", "like", "linearizable",
    "matches", "mock", "settle", "simulate", "verify_mocks", "virtual_time", "world",
]  # fmt: skip
