"""Fakes by contract: a double of a server, or of what a Protocol describes, that is told what will be asked. In the sense of Elixir's Mox.

    upstream = mock(Upstream("upstream"))              # a GenServer's class and the name that clients know
    upstream.expect(Upstream.fetch, ["a page"])        # asked once, in this order
    await upstream.start_link()                        # in the server's place

    ...                                                # what is tested calls Upstream("upstream").fetch("otp")

    upstream.verify()                                  # everything that was expected has come, and nothing else

It cannot drift from what it stands for: names, arguments and sync or async are those of the class, or refused. Each test makes its own, and
a server's double is found by the names of one world only, so tests never see those of others, whatever processes they use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar, cast, overload

from beamish import CallExit, ChildSpec, Client, GenServer, Request
from beamish._answers import Refuse
from beamish._runtime.node import NODES, Node, here_key
from beamish.errors import short
from beamish.testing._contract import Contract, Member, contract_of, double_of, raising, server_contract
from beamish.testing._patterns import matches
from beamish.testing._told import Called as Called, Expected, Told, how_often, written

T = TypeVar("T")
G = TypeVar("G", bound=GenServer[Any])

_SHELF = "beamish.testing.mock"


class UnexpectedCall(AssertionError):
    """A double was asked what it was not told of. Raised in the caller, and by `verify` again."""


class NotVerified(AssertionError):
    """Something that was expected has not come, or something else has."""


class _Double:
    """What doubles of servers and of Protocols have in common."""

    def __init__(self, contract: Contract, *, in_order: bool) -> None:
        self._contract = contract
        self._in_order = in_order
        self._told = Told()
        node = _node()
        if node is not None:
            node.shelf.setdefault(_SHELF, []).append(self)

    def __repr__(self) -> str:
        return f"mock({self._contract.name})"

    @property
    def calls(self) -> list[Called]:
        """All that it was asked, in the order in which that came."""
        return list(self._told.calls)

    def expect(
        self,
        method: str | Callable[..., object],
        reply: object = None,
        /,
        *,
        times: int = 1,
        args: tuple[Any, ...] | Mapping[str, Any] | None = None,
        raises: BaseException | type[BaseException] | None = None,
    ) -> None:
        """It will be asked this, `times` times (0: never), and answers `reply`: a value, or a function of the call's arguments.

        `method` is the class's, `Upstream.fetch`, or its name. What is expected of one method comes in the order in which it was
        told; with `mock(…, in_order=True)`, all of it does. `args` are the arguments that come, values or patterns (as in
        `assert_receive`): a tuple of all, those left out with their defaults, or a dict of some by name. A function may be async
        where the method is awaited; what it raises, the server or the method raises; what it asserts fails in the caller.

        `raises` instead of a reply: the method of an object raises this. Of a server, whose caller gets it as it is where that is a
        `CallExit` (ServerDown, CallTimeout, NoProcess, …) and the double goes on; of any other the double crashes, as the server
        would, its supervisor restarts it, and the caller gets ServerDown (in a `capture_crashes` block, or the test fails). For a call
        that is never answered the reply is `NoReply()`: its caller waits until its timeout, in virtual time.
        """
        member = self._contract.find(method)
        if member.kind == "attribute":
            raise TypeError(f"{member.shown} is no method: {self!r}.stub({member.name!r}, value) says what it is")
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"times is how often it is asked, 0 or more. Got: {times!r}")
        answer = self._answer(member, reply, raises)
        self._told.expected.append(Expected(member.name, answer, times, None if args is None else member.complete(args)))

    def stub(
        self,
        method: str | Callable[..., object],
        reply: object = None,
        /,
        *,
        raises: BaseException | type[BaseException] | None = None,
    ) -> None:
        """It may be asked this, any number of times or never, when nothing that is expected is left of it. Or: an attribute's value."""
        member = self._contract.find(method)
        self._told.stubs[member.name] = reply if member.kind == "attribute" else self._answer(member, reply, raises)

    def _answer(self, member: Member, reply: Any, raises: Any) -> Any:
        """What is to be answered, looked at."""
        if raises is None:
            member.check_reply(reply)
            return reply
        if reply is not None:
            raise TypeError(f"{member.shown} replies or raises, one of both. Got: {short(reply)}, raises={raises!r}")
        return self._raiser(member, raising(member, raises))

    def _raiser(self, member: Member, error: BaseException) -> Callable[..., Any]:
        def fail(*_: Any, **__: Any) -> NoReturn:
            raise error

        return fail

    def verify(self) -> None:
        """Raise NotVerified when something expected has not come, or something else has."""
        __tracebackhide__ = True
        missing = [one for one in self._told.expected if one.came != one.times]
        if not missing and not self._told.failures:
            return
        lines = [f"{self!r}:"]
        lines += [f"  expected {one}" for one in missing]
        lines += [f"  {str(one).splitlines()[0]}" for one in self._told.failures]
        raise NotVerified("\n".join([*lines, *self._log()]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        __tracebackhide__ = True
        if error is None:
            self.verify()

    def _log(self) -> list[str]:
        calls = self._told.calls
        if not calls:
            return ["It was asked nothing."]
        return ["It was asked:", *(f"  {number}. {one}" for number, one in enumerate(calls, 1))]

    def _asked(self, member: Member, args: tuple[Any, ...], kwargs: dict[str, Any], by: str) -> Any:
        """The answer: a value, or a coroutine of it. Raises UnexpectedCall, what the function raises, and its AssertionError."""
        __tracebackhide__ = True
        called = Called(member.name, args, kwargs, by)
        self._told.calls.append(called)
        reply = self._reply(called)
        if not callable(reply):
            called.answer = short(reply)
            return reply
        try:
            value = reply(*args, **kwargs)
        except BaseException as error:
            self._raised(called, error)
            raise
        if asyncio.iscoroutine(value):
            return self._awaited(called, value)
        called.answer = f"raised {type(value.error).__name__}" if isinstance(value, Refuse) else short(value)
        return value

    async def _awaited(self, called: Called, value: Coroutine[Any, Any, Any]) -> Any:
        __tracebackhide__ = True
        try:
            answer = await value
        except BaseException as error:
            self._raised(called, error)
            raise
        called.answer = short(answer)
        return answer

    def _raised(self, called: Called, error: BaseException) -> None:
        called.answer = f"raised {type(error).__name__}"
        if isinstance(error, AssertionError):
            self._told.failures.append(error)

    def _reply(self, called: Called) -> Any:
        __tracebackhide__ = True
        told = self._told
        open_ones = [one for one in told.expected if one.came < one.times]
        following = [one for one in open_ones if self._in_order or one.name == called.name]
        if following:
            first = following[0]
            if first.name == called.name and self._fits(first, called):
                first.came += 1
                return first.reply
            if first.name == called.name or called.name not in told.stubs:
                raise self._unexpected(called, f"expected next is {first}")
        if called.name in told.stubs:
            return told.stubs[called.name]
        before = [one for one in told.expected if one.name == called.name]
        count = sum(one.times for one in before)
        raise self._unexpected(called, f"{called.name} was expected {how_often(count)}" if before else "nothing was said of it")

    def _fits(self, expected: Expected, called: Called) -> bool:
        if expected.args is None:
            return True
        if isinstance(expected.args, Mapping):
            return matches(expected.args, self._contract.members[called.name].named(called.args, called.kwargs))
        return matches(expected.args, (*called.args, *called.kwargs.values()))

    def _unexpected(self, called: Called, why: str) -> UnexpectedCall:
        called.answer = "unexpected"
        text = f"{written(called.name, called.args, called.kwargs)} by {called.by} is unexpected: {why}"
        self._told.failures.append(error := UnexpectedCall("\n".join([f"{self!r}: {text}", *self._log()])))
        return error


class Mock(_Double, Generic[T]):
    """A double of what a Protocol (or any class) describes: `mock(Clock)`; give `.object` to what is tested."""

    def __init__(self, contract: Any, *, in_order: bool) -> None:
        super().__init__(contract_of(contract), in_order=in_order)
        self.object: T = double_of(contract, self._contract, self._called, self._told.stubs)

    def _called(self, member: Member, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        return self._asked(member, args, kwargs, _who())


class MockServer(_Double, Generic[G]):
    """A double of a server: `mock(Upstream("upstream"))`, then `start_link` or, in a supervisor, `child_spec`.

    It is a process like the server's own: it is asked one thing after the other, is linked, monitored and stopped. One that is
    restarted goes on with what is left of its expectations.
    """

    def __init__(self, contract: type[G], name: Any, *, in_order: bool) -> None:
        super().__init__(server_contract(contract), in_order=in_order)
        self._class = contract
        self._name = name

    @property
    def address(self) -> G:
        """The address that clients use."""
        if self._name is None:
            raise TypeError(f"{self!r} has no name: mock({self._contract.name}('its name')), or use what start_link returns")
        return self._class(self._name)

    async def start_link(self) -> G:
        """Start it in the server's place; AlreadyStarted when that runs. Returns the server's address."""
        cls = self._double_class()
        if self._name is not None:
            await cls(self._name).start_link(self)
            return self.address
        started = await cls.start_link(self)
        return self._class(started.pid())

    def child_spec(self) -> ChildSpec[G]:
        """How a supervisor is to start it: in the server's place, with its id and its way of restarting."""
        cls = self._double_class()
        spec: ChildSpec[Any] = cls(self._name).child_spec(self) if self._name is not None else cls.child_spec(self)
        return cast("ChildSpec[G]", spec if self._name is not None else spec.replace(id=self._class))

    def _double_class(self) -> Any:
        cls: Any = self._class
        return type(cls)(f"MockOf{cls.__name__}", (_Inside, cls), {"__module__": __name__})

    def _raiser(self, member: Member, error: BaseException) -> Callable[..., Any]:
        """What a call raises by itself comes from no server, and crashes none."""
        if not isinstance(error, CallExit):
            return super()._raiser(member, error)
        if member.kind != "call":
            raise TypeError(f"{member.shown} is a @cast, so nobody waits for what it raises. Got: raises={error!r}")
        return lambda *_, **__: Refuse(error)

    def _served(self, request: Any, callback: str, by: str) -> Any:
        """The answer to a request, where it is unexpected raised in the caller."""
        if isinstance(request, Request):
            member, args, kwargs = self._contract.members[request.name], request.args, request.kwargs
        else:
            member, args, kwargs = self._contract.members[callback], (request,), {}
        try:
            value = self._asked(member, args, kwargs, by)
        except AssertionError as error:
            return Refuse(error)
        return _refusing(value) if asyncio.iscoroutine(value) else value


async def _refusing(value: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await value
    except AssertionError as error:
        return Refuse(error)


class _Inside(GenServer[Any]):
    """The process of a double: its state is the MockServer."""

    def init(self, mock: Any) -> Any:
        return mock

    def handle_call(self, state: Any, request: Any, client: Client) -> Any:
        if not isinstance(request, Request) and "handle_call" not in state._contract.members:
            return super().handle_call(state, request, client)
        return state._served(request, "handle_call", _label(client.pid))

    def handle_cast(self, state: Any, request: Any) -> Any:
        value = state._served(request, "handle_cast", "a cast")
        return None if isinstance(value, Refuse) else value

    def handle_info(self, state: Any, message: Any) -> Any:
        if "handle_info" not in state._contract.members:
            return super().handle_info(state, message)
        value = state._served(message, "handle_info", "a message")
        return None if isinstance(value, Refuse) else value

    def handle_continue(self, state: Any, arg: Any) -> None: ...

    def terminate(self, state: Any, reason: Any) -> None: ...

    def format_status(self, status: Any) -> Any:
        return status


# The order matters: a server's class or address, then whatever else can be called.
@overload
def mock(contract: type[G], /, *, in_order: bool = ...) -> MockServer[G]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
@overload
def mock(contract: G, /, *, in_order: bool = ...) -> MockServer[G]: ...
@overload
def mock(contract: Callable[..., T], /, *, in_order: bool = ...) -> Mock[T]: ...
def mock(contract: Any, /, *, in_order: bool = False) -> Any:
    """A double of a GenServer (its class, or better its address, as in `mock(Upstream("upstream"))`) or of a Protocol or class.

    `in_order`: what is expected comes in the order in which it was told, whatever the method. Verified by `verify()`, at the end of
    `with mock(…) as double:`, by the fixture `beamish` after the test, or, all of a world, by `verify_mocks()`.
    """
    address: Any = contract
    if isinstance(contract, GenServer):
        if address._name is None:
            raise TypeError(f"a double is started under a name, and {address!r} is the address of a process that runs already")
        return MockServer(address.__class__, address._name, in_order=in_order)
    cls = getattr(contract, "__origin__", contract)
    if isinstance(cls, type) and issubclass(cls, GenServer):
        return MockServer(cast(Any, cls), None, in_order=in_order)
    if not isinstance(cls, type):
        raise TypeError(f"mock takes a class: a GenServer (or the address of one), a Protocol, or another. Got: {contract!r}")
    return Mock[Any](cls, in_order=in_order)


def verify_mocks() -> None:
    """Verify all doubles that were made in this world. NotVerified by the first that is not as told, or an ExceptionGroup of them."""
    __tracebackhide__ = True
    node = _node()
    failures: list[NotVerified] = []
    for one in node.shelf.get(_SHELF, ()) if node is not None else ():
        try:
            one.verify()
        except NotVerified as error:
            failures.append(error)
    if len(failures) > 1:
        raise ExceptionGroup("doubles were not asked what was expected", failures)
    if failures:
        raise failures[0]


# --- words ------------------------------------------------------------------------------------------------------------


def _node() -> Node | None:
    return NODES.get(here_key())


def _label(pid: Any) -> str:
    return "code of no process" if pid is None else repr(pid.label())


def _who() -> str:
    node = _node()
    try:
        me = None if node is None else node.me()
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return "plain code"
    return _label(me) if me is not None or task is None else f"the task {task.get_name()!r}"
