from __future__ import annotations

from collections.abc import Callable
from typing import Any

import beamish
from beamish import (
    BadReturn,
    Begin,
    Call,
    Cast,
    Client,
    Crash,
    Event,
    GenericTimeout,
    Internal,
    Keep,
    Next,
    Postpone,
    Repeat,
    StateMachine,
    StateTimeout,
    Stop,
    Transition,
    monitor,
    reply,
    send,
    spawn,
)
from beamish.state_machine import Action
from conformance.words import down, flush, out, sec, settle, sleep

Table = dict[Any, Any]


class M(StateMachine[str, Table]):
    """A machine with enter calls: it prints each entry and each event, and does what its table says."""

    def init(self, state: str, table: Table, actions: tuple[Action, ...] = ()) -> Begin[str, Table]:
        return Begin(state, table, *actions)

    async def handle_enter(self, state: str, table: Table, before: str) -> Transition | None:
        out(f"  enter {state} from", before)
        found = table.get(("enter", state))
        if table.get("slow"):
            await sleep(20)
        return self.answer(found, table)

    def handle_event(self, state: str, table: Table, event: Event) -> Transition:
        match event:
            case Call(request, client):
                out(f"  {state}: call", request)
                return Keep(data={**table, "from": client})
            case Cast(what):
                kind = "cast"
            case Internal(what):
                kind = "internal"
            case StateTimeout(content=what):
                kind = "state_timeout"
            case GenericTimeout(name, content=what):
                kind = f"timeout {name}"
            case _:
                raise AssertionError(event)
        out(f"  {state}: {kind}", what)
        found: Transition = self.answer(table.get((state, what)), table) or Keep()
        return found

    def answer(self, found: Any, table: Table) -> Any:
        return found(table) if callable(found) else found

    def terminate(self, state: str, table: Table, reason: Any) -> None:
        out(f"  terminate {state}", _rejected(reason))


def _rejected(reason: object) -> object:
    """What OTP says of a wrong return: which part of it is wrong. Ours is a text, so the port says it in OTP's words."""
    if not isinstance(reason, Crash) or not isinstance(reason.error, BadReturn):
        return reason
    match reason.error.value:
        case Next(state=state, data=data):
            return "bad_state_enter_return_from_state_function", ("next_state", state, data, [])
        case Postpone():
            return "bad_state_enter_action_from_state_function", "postpone"
        case Keep(then=(Internal(content),)):
            return "bad_state_enter_action_from_state_function", ("next_event", "internal", content)
        case other:
            return "bad_return_from_state_function", other


async def cast_all(p: M, events: list[str]) -> None:
    for event in events:
        p.cast(event)
    await settle()


def go(state: str, *actions: Action) -> Callable[[Table], Transition]:
    return lambda table: Next(state, *actions, data=table)


async def scenario() -> None:
    start: Callable[..., Any] = M.start
    zero = StateTimeout(0.0, "zero")

    sec("the first state is entered from itself")
    await start("a", {})
    await settle()

    sec("a change enters the new state, before anything else happens")
    p = await start("a", {("a", "x"): Postpone(), ("a", "go"): go("b", Internal("i"), zero)})
    await cast_all(p, ["x", "go", "queued"])

    sec("the same state is not entered again; repeat_state enters it")
    p = await start("a", {("a", "same"): go("a"), ("a", "repeat"): Repeat(), ("a", "new"): lambda table: Repeat(data={**table, "n": 1})})
    await cast_all(p, ["same", "repeat", "new"])

    sec("repeating retries nothing, and leaves the timeouts alone")
    x = Keep[Any](Postpone(), StateTimeout(0.02, "state"), GenericTimeout("n", 0.03, "named"))
    p = await start("a", {("a", "x"): x, ("a", "repeat"): Repeat()})
    await cast_all(p, ["x", "repeat"])
    await settle(100)

    sec("an enter call may change the data, set timeouts and reply")

    def enter_b(table: Table) -> Transition:
        client: Client = table["from"]
        reply(client, "entered")
        without = {key: value for key, value in table.items() if key != "from"}
        return Keep(StateTimeout(0.02, "state"), GenericTimeout("n", 0.0, "zero"), data=without)

    p = await start("a", {("a", "go"): go("b"), ("enter", "b"): enter_b})
    me = beamish.current()

    async def asking() -> None:
        send(me, ("answer", await p.call("ask")))

    spawn(asking)
    await settle()
    await cast_all(p, ["go", "queued"])
    await settle(100)
    out("  mail", await flush())

    sec("what it sets overrides what the change has set")
    p = await start("a", {
        ("a", "go"): go("b", StateTimeout(0.02, "change"), GenericTimeout("n", 0.02, "change")),
        ("enter", "b"): Keep(StateTimeout(0.04, "enter"), GenericTimeout.cancel("n")),
    })  # fmt: skip
    await cast_all(p, ["go"])
    await settle(100)

    sec("an enter call may repeat itself, once or more")

    def again(table: Table) -> Transition:
        return Keep() if table["left"] == 0 else Repeat(data={**table, "left": table["left"] - 1})

    p = await start("a", {("a", "go"): lambda table: Next("b", data={**table, "left": 2}), ("enter", "b"): again})
    await cast_all(p, ["go"])

    sec("next_state to the very same state is a way to keep it")
    p = await start("a", {("a", "go"): go("b"), ("enter", "b"): go("b", StateTimeout(0.0, "state"))})
    await cast_all(p, ["go"])

    sec("what it may not do")
    bad = []
    for name, result in [("change", go("c")), ("postpone", Postpone()), ("insert", Keep(Internal("x"))), ("rubbish", "rubbish")]:
        p = await start("a", {("a", "go"): go("b"), ("enter", "b"): result})
        ref = monitor(p)
        p.cast("go")
        bad.append((name, _rejected(await down(ref))))
    out("bad", bad)

    sec("a stop, and a crash, when a state is entered")

    def oops(table: Table) -> Transition:
        raise RuntimeError("oops")

    for result in (Stop("why"), Stop(beamish.NORMAL), oops):
        p = await start("a", {("a", "go"): go("b"), ("enter", "b"): result})
        ref = monitor(p)
        await cast_all(p, ["go", "queued"])
        out("  DOWN", await down(ref))

    sec("and the first state: whoever starts the machine has it already")
    for result in (Stop("why"), oops):
        p = await start("a", {("enter", "a"): result, "slow": True})
        ref = monitor(p)
        out("  DOWN", await down(ref))

    sec("what init has set is there in the first enter call, and after it comes what was sent meanwhile")
    p = await start(
        "a", {("enter", "a"): Keep(StateTimeout(0.0, "state")), "slow": True}, (Internal("i"), GenericTimeout("n", 0.0, "zero"))
    )
    p.cast("queued")
    await settle()
    await settle()
