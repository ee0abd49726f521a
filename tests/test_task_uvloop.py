"""Tasks on uvloop: of every kind, in threads and streams, cancelled, and at the end of the loop."""

from __future__ import annotations

import asyncio

import pytest

from beamish import Failed, Ok, Task, TaskExit, TaskSupervisor, blocking, supervise
from beamish.testing import capture_crashes
from task_words import after, boom, double, never

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")


def test_the_life_of_tasks() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await never()
        finally:
            ended.append("finally")

    async def main() -> None:
        tasks = TaskSupervisor("tasks")
        async with supervise([tasks.child_spec()]):
            assert await Task.await_many([Task.async_(double, n) for n in range(50)]) == [2 * n for n in range(50)]
            with capture_crashes():
                assert isinstance(await tasks.async_nolink(boom).yield_(), Failed)
                with pytest.raises(TaskExit):
                    await Task.async_(boom)
            assert [one async for one in Task.async_stream([3, 1, 2], after, max_concurrency=2)] == [Ok(3), Ok(1), Ok(2)]
            assert await Task.blocking(lambda: blocking.call(tasks.children)) == []
            waiting = asyncio.ensure_future(Task.async_(work))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert ended == ["finally"]
            assert await Task.async_(never).yield_(0.01) is None
            await tasks.start_child(work)
            Task.start(work)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert ended == ["finally"] * 2

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert ended == ["finally"] * 3
