from __future__ import annotations

from typing import Any

import beamish
from beamish import KILL, Agent, PartitionSupervisor, Via, alive, current, exit, monitor
from conformance.words import answer, down, out, settle, try_


def zero() -> int:
    return 0


async def outcome(fun: Any) -> str:
    return (await try_(fun))[0]


async def failed_start(work: Any) -> str:
    """What OTP raises in the caller is raised in our `init`, and so by the start."""
    try:
        await work
    except beamish.StartError as error:
        return "raised" if isinstance(error.__cause__, ValueError) else "exited"
    return "returned"


async def scenario() -> None:
    named = PartitionSupervisor[Agent[int]]("PS")
    ps = (await named.start_link(Agent[int].child_spec(zero), partitions=3)).pid()
    assert ps is not None
    out("partitions", await named.partitions())
    out("which_children ids", sorted(one.id for one in await named.which_children()))
    counts = await named.count_children()
    out(
        "count_children",
        [("active", counts.active), ("specs", counts.specs), ("supervisors", counts.supervisors), ("workers", counts.workers)],
    )
    kids = {one.id: one.child.pid() for one in await named.which_children()}  # type: ignore[union-attr]

    def partition(key: Any) -> int:
        return next(i for i, pid in kids.items() if pid == beamish.whereis(Via(named, key)))

    out("integer key k goes to partition rem(abs(k), n)", [partition(key) for key in (0, 1, 2, 3, 4, 7, -1, -5)])
    out("other keys by phash2: stable", [partition(key) == partition(key) for key in ("a", b"b", (1, 2))])
    out("phash2 rule", [beamish.whereis(Via(named, key)) in kids.values() for key in ("a", b"b", (1, 2), current())])
    await Agent[int](Via(named, 1)).update(lambda n: n + 10)
    out("state is per partition", [await named.at(i).get(lambda n: n) for i in range(3)])
    ref = monitor(kids[1])
    exit(kids[1], KILL)
    await down(ref)
    await settle()
    states = [await named.at(i).get(lambda n: n) for i in range(3)]
    out("a partition is restarted fresh, others untouched", (states, beamish.whereis(Via(named, 0)) == kids[0]))
    nope = PartitionSupervisor[Agent[int]]("Nope")
    out("unknown name", await outcome(nope.partitions))
    out("call to unknown", await outcome(lambda: Agent[int](Via(nope, 1)).call("x")))
    anonymous = await PartitionSupervisor[Agent[int]].start_link(Agent[int].child_spec(zero), partitions=1)
    out("no name", await outcome(lambda: anonymous.at(1).get(lambda n: n)))
    out("bad partitions", await failed_start(PartitionSupervisor("X").start(Agent[int].child_spec(zero), partitions=0)))
    numbered = PartitionSupervisor[Agent[Any]]("PW")
    await numbered.start_link(Agent[Any].child_spec(zero), partitions=2, with_arguments=lambda args, i: [lambda: ("partition", i)])
    out("with_arguments", [await numbered.at(i).get(lambda state: state) for i in range(2)])
    out("stop", await answer(named.stop()))
    out("gone", alive(ps))
