"""Histories against models: what can be explained is accepted, what can't is refused and shown, and a brute force agrees."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, settings, strategies as st

from beamish import CallTimeout, GenServer, NoProcess, Request, ServerDown, call, cast
from beamish.testing import (
    History,
    ManualClock,
    Model,
    NotLinearizable,
    Operation,
    Raised,
    Undecided,
    World,
    capture_crashes,
    linearizable,
    settle,
)


def counting(state: int, request: Request) -> tuple[object, int]:
    match request:
        case Request("add", (n,)):
            return state + n, state + n
        case Request("put", (n,)):
            return None, n
        case Request("get"):
            return state, state
        case _:
            raise AssertionError(request)


class Counting(Model[int]):
    def init(self) -> int:
        return 0

    def step(self, state: int, request: Request, /) -> tuple[object, int]:
        return counting(state, request)


class Shelf(Model[dict[str, int]]):
    """A model that changes its state in place."""

    def init(self) -> dict[str, int]:
        return {}

    def step(self, state: dict[str, int], request: Request, /) -> tuple[object, dict[str, int]]:
        match request:
            case Request("put", (key, value)):
                state[key] = value
                return None, state
            case Request("get", (key,)):
                return state.get(key), state
            case _:
                return len(state), state

    def key(self, request: Request, /) -> str | None:
        return request.args[0] if request.args else None


def written(*lines: str) -> History:
    """`"ann add 1 [1 4] 1"`: who, what, its moments, the reply; `"[1 -]"` and no reply: nobody knows whether it happened."""
    history = History()
    for line in lines:
        head, times = line.split("[")
        client, name, *args = head.split()
        begin, rest = times.split(" ", 1)
        end, reply = rest.split("]")
        known = end != "-"
        operation = Operation(client, Request(name, tuple(map(int, args))), int(begin), waiting=False, crash=name == "crashed")
        if known:
            operation.end = float(end.rstrip("?"))
            operation.certain = not end.endswith("?")
            operation.reply = eval(reply) if reply else None
        history.operations.append(operation)
    return history


class TestWhatIsAccepted:
    def test_one_after_the_other(self) -> None:
        found = linearizable(written("ann add 1 [1 2] 1", "bob get [3 4] 1"), counting, 0)
        assert [str(one) for one in found] == ["add(1) → 1", "get() → 1"]

    def test_at_the_same_time_in_either_order(self) -> None:
        linearizable(written("ann add 1 [1 4] 2", "bob add 1 [2 3] 1"), Counting())
        linearizable(written("ann add 1 [1 4] 1", "bob add 1 [2 3] 2"), Counting())

    def test_what_timed_out_may_have_happened_at_once_later_or_never(self) -> None:
        for replies in ("1 1", "0 1", "0 0"):
            first, second = replies.split()
            linearizable(written("ann add 1 [1 -]", f"bob get [2 3] {first}", f"bob get [4 5] {second}"), Counting())

    def test_what_the_end_of_a_server_cut_off_happened_before_it_or_never(self) -> None:
        linearizable(written("ann add 1 [1 4?]", "bob get [2 3] 1", "bob get [5 6] 1"), Counting())
        with pytest.raises(NotLinearizable):
            linearizable(written("ann add 1 [1 4?]", "bob get [5 6] 0", "bob get [7 8] 1"), Counting())

    def test_the_end_of_a_server_loses_its_state(self) -> None:
        history = written("ann add 1 [1 2] 1", "server crashed [3 3]", "ann get [4 5] 0")
        linearizable(history, Counting())

    def test_unless_the_model_says_that_it_keeps_it(self) -> None:
        class Durable(Counting):
            def crashed(self, state: int, server: object, /) -> int:
                return state

        linearizable(written("ann add 1 [1 2] 1", "server crashed [3 3]", "ann get [4 5] 1"), Durable())

    def test_a_call_across_the_end_of_a_server(self) -> None:
        linearizable(written("ann add 1 [1 2] 1", "bob add 5 [3 6] 5", "server crashed [4 4]", "ann get [7 8] 5"), Counting())
        linearizable(written("ann add 1 [1 2] 1", "bob add 5 [3 6] 6", "server crashed [4 4]", "ann get [7 8] 0"), Counting())

    def test_no_operation_at_all(self) -> None:
        assert linearizable(History(), Counting()) == []

    def test_any_reply_and_errors(self) -> None:
        def step(state: int, request: Request) -> tuple[object, int]:
            return (ANY, state) if request.name == "any" else (Raised(LookupError), state)

        history = History()
        history.complete(history.invoke("ann", "any"), object())
        history.complete(history.invoke("ann", "fail"), Raised(LookupError))
        linearizable(history, step, 0)
        history.complete(history.invoke("ann", "fail"), Raised(ValueError))
        with pytest.raises(NotLinearizable, match=r"would have been → Raised\(kind=<class 'LookupError'>\)"):
            linearizable(history, step, 0)

    def test_a_long_history_of_many_clients(self) -> None:
        linearizable(lively(random.Random(1), clients=6, length=600, lost=0.0), Counting())


LOST_UPDATE = """\
no order of these operations explains what the clients saw.
When nothing was under way the state was 5. Then:
  ann  ├────────┤  add(1) → 6
  bob     ├──┤     add(1) → 6
The nearest order: add(1) → 6
  then, with the state 6, ann's add(1) → 6 would have been → 7"""


class TestWhatIsRefused:
    def test_a_lost_update_is_drawn_from_the_last_quiet_moment_on(self) -> None:
        history = written("zoe add 5 [1 2] 5", "ann add 1 [3 6] 6", "bob add 1 [4 5] 6", "cy put 7 [7 8] None", "cy get [9 10] 7")
        with pytest.raises(NotLinearizable) as refused:
            linearizable(history, counting, 0)
        assert str(refused.value) == LOST_UPDATE
        assert refused.value.operations == history.operations[1:3]

    def test_an_old_value_is_read(self) -> None:
        with pytest.raises(NotLinearizable, match=r"bob's get\(\) → 0 would have been → 1"):
            linearizable(written("ann add 1 [1 2] 1", "bob get [3 4] 0"), Counting())

    def test_two_readers_that_see_it_go_back(self) -> None:
        with pytest.raises(NotLinearizable):
            linearizable(written("ann put 1 [1 9] None", "bob get [2 3] 1", "cy get [4 5] 0"), Counting())

    def test_a_crash_that_was_not_told_of(self) -> None:
        with pytest.raises(NotLinearizable):
            linearizable(written("ann add 1 [1 2] 1", "ann get [4 5] 0"), Counting())

    def test_the_end_of_a_server_stands_in_the_timeline(self) -> None:
        with pytest.raises(NotLinearizable, match=r"server +┼ +crashed\n"):
            linearizable(written("ann add 1 [1 1.5?]", "the-server crashed [2 2]", "ann get [5 6] 1"), Counting())

    def test_nothing_is_marked_as_unknown_that_was(self) -> None:
        with pytest.raises(NotLinearizable, match=r"cy +├─+┄  add\(3\) → \?"):
            linearizable(written("cy add 3 [1 -]", "bob get [2 3] 5"), Counting())

    def test_a_search_that_takes_too_long(self) -> None:
        many = written(*(f"c{n} add {n + 1} [{n + 1} -]" for n in range(14)), "bob get [20 21] 1000")
        with pytest.raises(Undecided, match="limit"):
            linearizable(many, Counting(), limit=1000)

    def test_models_that_are_none(self) -> None:
        for wrong in (5, Counting):
            with pytest.raises(TypeError, match="a model is a Model"):
                linearizable(History(), wrong)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        with pytest.raises(TypeError, match=r"returns \(reply, new state\). Got: 5"):
            linearizable(written("ann get [1 2] 1"), lambda state, request: 5, 0)  # type: ignore[arg-type, return-value]  # pyright: ignore
        with pytest.raises(NotImplementedError, match=r"init\(self\)"):
            linearizable(written("ann get [1 2] 1"), Model[int]())

        class Half(Model[int]):
            def init(self) -> int:
                return 0

        with pytest.raises(NotImplementedError, match=r"step\(self, state, request\)"):
            linearizable(written("ann get [1 2] 1"), Half())


class TestKeys:
    def history(self, *, last: object) -> History:
        history = History()
        for key, reply in (("a", 1), ("b", 2), ("a", 1), ("b", last)):
            put = history.invoke(f"put {key}", "put", key, reply)
            history.complete(history.invoke("ann", "get", key), reply)
            history.complete(put, None)
        return history

    def test_are_checked_apart(self) -> None:
        found = linearizable(self.history(last=3), Shelf())
        assert [one.request.args[0] for one in found] == ["a"] * 4 + ["b"] * 4

    def test_the_part_that_fails_is_shown(self) -> None:
        history = self.history(last=3)
        history.complete(history.invoke("bob", "get", "b"), 9)
        with pytest.raises(NotLinearizable, match="these operations") as refused:
            linearizable(history, Shelf())
        assert [str(one) for one in refused.value.operations] == ["get('b') → 9"]

    def test_a_request_that_is_about_all_of_them(self) -> None:
        history = self.history(last=3)
        history.complete(history.invoke("bob", "size"), 2)
        linearizable(history, Shelf())
        history.complete(history.invoke("bob", "size"), 3)
        with pytest.raises(NotLinearizable):
            linearizable(history, Shelf())

    def test_a_crash_is_about_all_of_them(self) -> None:
        history = self.history(last=3)
        history.crashed()
        for key in ("a", "b"):
            history.complete(history.invoke("bob", "get", key), None)
        linearizable(history, Shelf())


# --- properties -------------------------------------------------------------------------------------------------------


def lively(rng: random.Random, *, clients: int, length: int, lost: float) -> History:
    """A history that a real, sequential counter has made: each operation takes effect at some moment while it is under way."""
    history, state = History(), 0
    idle, busy = list(range(clients)), list[tuple[int, Operation, bool, Any]]()
    while len(history) < length or busy:
        if idle and len(history) < length and rng.random() < 0.5:
            name = rng.choice(["add", "get", "put"])
            one = idle.pop(rng.randrange(len(idle)))
            busy.append((one, history.invoke(f"client {one}", name, *([rng.randrange(3)] if name != "get" else [])), False, None))
        elif busy:
            index = rng.randrange(len(busy))
            client, operation, done, reply = busy[index]
            if not done and rng.random() > lost / 2:
                reply, state = counting(state, operation.request)
                busy[index] = client, operation, True, reply
            elif not done or rng.random() < lost:
                history.give_up(operation)
                idle.append(client)
                del busy[index]
            else:
                history.complete(operation, reply)
                idle.append(client)
                del busy[index]
        elif length <= len(history):
            break
        if rng.random() < lost / 4 and not busy:
            history.crashed()
            state = 0
    return history


def brute_force(history: History) -> bool:
    """By the definition: some choice of what has happened, in some order that keeps to the times, is answered so."""
    certain = [one for one in history if one.certain]
    perhaps = [one for one in history if not one.certain]
    for happened in itertools.chain.from_iterable(itertools.combinations(perhaps, n) for n in range(len(perhaps) + 1)):
        for order in itertools.permutations([*certain, *happened]):
            if all(not later.end < earlier.begin for earlier, later in itertools.combinations(order, 2)) and answered_so(order):
                return True
    return False


def answered_so(order: tuple[Operation, ...]) -> bool:
    state = 0
    for one in order:
        if one.crash:
            state = 0
            continue
        reply, state = counting(state, one.request)
        if one.certain and reply != one.reply:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 5), st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.3]))
def test_what_a_sequential_counter_has_answered_is_linearizable(seed: int, clients: int, length: int, lost: float) -> None:
    linearizable(lively(random.Random(seed), clients=clients, length=length, lost=lost), Counting())


def test_many_that_are_lost_and_ask_for_the_same_are_soon_decided() -> None:
    """Found by the test above: 2^20 ways to choose among equals were gone through one by one."""
    linearizable(lively(random.Random(2790), clients=4, length=37, lost=0.3), Counting())
    history = History()
    lost = [history.invoke(f"client {n}", "add", 1) for n in range(60)]
    for one in lost:
        history.give_up(one)
    for n in (7, 33, 60):
        history.complete(history.invoke("reader", "get"), n)
    linearizable(history, Counting())
    history.complete(history.invoke("reader", "get"), 61)
    with pytest.raises(NotLinearizable):
        linearizable(history, Counting())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 4), st.sampled_from([0.0, 0.4]), st.data())
def test_a_brute_force_says_the_same_of_small_histories(seed: int, clients: int, lost: float, data: st.DataObject) -> None:
    history = lively(random.Random(seed), clients=clients, length=5, lost=lost)
    answered = [one for one in history if one.certain and one.request.name in ("add", "get")]
    if answered:
        broken = data.draw(st.sampled_from(answered))
        broken.reply += data.draw(st.sampled_from([-1, 0, 1]))
    if not brute_force(history):
        with pytest.raises(NotLinearizable) as refused:
            linearizable(history, Counting())
        assert not brute_force_of(refused.value.operations, history)
    else:
        order = linearizable(history, Counting())
        assert answered_so(tuple(order))
        assert all(not later.end < earlier.begin for earlier, later in itertools.combinations(order, 2))
        assert {one for one in order if one.certain} == {one for one in history if one.certain}


def brute_force_of(part: list[Operation], history: History) -> bool:
    """What is shown, behind all that was over before it begins."""
    first = min(one.begin for one in part)
    whole = History()
    whole.operations = [one for one in history if one in part or one.end < first]
    return brute_force(whole)


# --- recording --------------------------------------------------------------------------------------------------------


class Counter(GenServer[list[int]]):
    def init(self) -> list[int]:
        return [0]

    @call
    def add(self, state: list[int], n: int) -> int:
        if n > 100:
            raise OverflowError(n)
        state[0] += n
        return state[0]

    @call
    async def slowly(self, state: list[int], n: int) -> int:
        await asyncio.get_running_loop().create_future()
        return n

    @cast
    def bump(self, state: list[int], n: int) -> None:
        state[0] += n

    def read(self) -> int:
        return 4

    async def careful(self, n: int) -> int:
        raise LookupError(n)


def shown(history: History) -> list[str]:
    return [f"{one.client} {one} [{one.begin:g} {one.end:g}]" for one in history]


@pytest.fixture
def counter() -> Counter:
    return Counter("counter")


class TestRecording:
    async def test_calls_with_their_replies(self, counter: Counter, world: World) -> None:
        await world.start_supervised(counter.child_spec())
        history = History()
        assert await history.call("ann", counter.add, 1) == 1
        assert await history.call("bob", counter.add, n=2) == 3
        assert shown(history) == ["ann add(1) → 1 [1 2]", "bob add(n=2) → 3 [3 4]"]

    async def test_a_cast_is_over_when_its_client_has_heard_later(self, counter: Counter, world: World) -> None:
        await world.start_supervised(counter.child_spec())
        history = History()
        history.cast("ann", counter.bump, 1)
        await history.call("bob", counter.add, 1)
        assert shown(history)[0] == "ann bump(1) → ? [1 inf]"
        await history.call("ann", counter.add, 1)
        assert shown(history)[0] == "ann bump(1) → ? [1 5]"

    async def test_the_end_of_the_server_and_the_call_that_it_cost(self, counter: Counter, world: World) -> None:
        await world.start_supervised(counter.child_spec())
        with capture_crashes(), History(counter) as history:
            history.cast("bob", counter.bump, 1)
            with pytest.raises(ServerDown):
                await history.call("ann", counter.add, 101)
            assert await history.call("ann", counter.add, 1) == 1
        assert shown(history) == [
            "bob bump(1) → ? [1 2.5]",
            "ann add(101) → ? [2 2.5]",
            "Counter('counter') crashed [3 3]",
            "ann add(1) → 1 [5 6]",
        ]

    async def test_only_the_ends_of_the_servers_that_it_is_given(self, counter: Counter, world: World) -> None:
        other = Counter("other")
        await world.start_supervised(other.child_spec())
        with History(counter) as history:
            await other.stop()
            await settle()
        assert len(history) == 0

    async def test_a_call_that_timed_out_is_open_until_the_server_ends(self, counter: Counter, world: World, clock: ManualClock) -> None:
        await world.start_supervised(counter.child_spec())
        with capture_crashes(), History(counter) as history:
            late = asyncio.create_task(history.call("ann", counter.with_timeout(1.0).slowly, 1))
            await clock.advance(2.0)
            with pytest.raises(CallTimeout):
                await late
            assert shown(history) == ["ann slowly(1) → ? [1 inf]"]
            await world.stop_supervised("counter")
            await settle()
        assert shown(history) == ["ann slowly(1) → ? [1 2.5]", "Counter('counter') crashed [3 3]"]

    async def test_a_call_that_is_cancelled_may_happen_yet(self, counter: Counter, world: World) -> None:
        await world.start_supervised(counter.child_spec())
        history = History()
        task = asyncio.create_task(history.call("ann", counter.slowly, 1))
        await settle()
        task.cancel()
        await settle()
        assert shown(history) == ["ann slowly(1) → ? [1 inf]"]
        assert not history.operations[0].waiting

    async def test_what_never_arrived_is_not_recorded(self, counter: Counter) -> None:
        history = History()
        with pytest.raises(NoProcess):
            await history.call("ann", counter.add, 1)
        with pytest.raises(TypeError):
            history.cast("ann", counter.bump)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert len(history) == 0

    async def test_errors_of_a_servers_face_are_replies(self, counter: Counter) -> None:
        history = History()
        with pytest.raises(LookupError):
            await history.call("ann", counter.careful, 1)
        assert history.operations[0].reply == Raised(LookupError)

    def test_methods_that_are_not_awaited(self, counter: Counter) -> None:
        history = History()
        assert history.do("ann", counter.read) == 4
        with pytest.raises(TypeError, match=r"await history.call\('ann', …\)"):
            history.do("ann", counter.careful, 1)
        assert shown(history)[0] == "ann read() → 4 [1 2]"

    def test_an_operation_is_heard_of_once(self) -> None:
        history = History()
        operation = history.invoke("ann", "get")
        history.complete(operation, 1)
        with pytest.raises(ValueError, match="heard of"):
            history.give_up(operation)


class TestMistakes:
    def test_a_history_is_of_servers(self) -> None:
        for wrong in ("x", GenServer):
            with pytest.raises(TypeError, match="by their addresses"):
                History(wrong)  # type: ignore[arg-type]

    def test_a_client_does_one_thing_after_the_other(self) -> None:
        history = History()
        first = history.invoke("ann", "put", 1)
        with pytest.raises(ValueError, match=r"'ann' still waits for put\(1\) → \?.* two clients"):
            history.invoke("ann", "put", 2)
        history.give_up(first)
        history.forget(history.invoke("ann", "put", 3))
        history.complete(history.invoke("ann", "put", 4), None)
        assert [str(one) for one in history] == ["put(1) → ?", "put(4) → None"]

    async def test_a_call_is_no_cast(self) -> None:
        async def allow() -> bool:
            return True

        history = History()
        with pytest.raises(TypeError, match=r"allow is awaited: await history.call\('ann', …\)"):
            history.cast("ann", allow)  # type: ignore[arg-type]
        assert not len(history)

    async def test_a_client_then_a_method(self) -> None:
        history = History()
        with pytest.raises(TypeError, match="the client's name, the method, and its arguments"):
            await history.call("ann", "try_take", "tea")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Got as the method: 'tea'"):
            await history.call(history.call, "tea")  # type: ignore[arg-type]

    def test_a_function_needs_the_first_state(self) -> None:
        def step(state: int, request: Request) -> tuple[int, int]:
            return state, state

        with pytest.raises(TypeError, match=r"linearizable\(history, step, 0\)"):
            linearizable(History(), step)  # type: ignore[call-overload]
        assert linearizable(History(), step, None) == []  # type: ignore[arg-type]
