"""What a double may be asked: the members of a class, with their signatures, and the refusal of what those do not have."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, Protocol, cast as as_type

from beamish import CallExit, GenServer, ServerDown, StateMachine

Kind = Literal["call", "cast", "method", "async", "attribute"]

_PLAIN = (bool, int, float, str, bytes, list, dict, set, frozenset, tuple)
_BY_NAME: dict[str, object] = {one.__name__: one for one in _PLAIN}
_ERRORS = ("Error", "Exception")  # in a return annotation: a value of the method
_WAITS = ("Awaitable", "Coroutine", "Async")  # in a return annotation: what a plain def gives is awaited
_NOT_ASKED = frozenset({
    "__init__", "__new__", "__init_subclass__", "__subclasshook__", "__class_getitem__", "__getattr__", "__getattribute__",
    "__setattr__", "__delattr__", "__repr__", "__str__", "__hash__", "__eq__", "__ne__", "__reduce__", "__del__", "__annotate__",
})  # fmt: skip
#: Requests that are no methods, where the class handles them itself.
_REQUEST = inspect.Signature([inspect.Parameter("request", inspect.Parameter.POSITIONAL_ONLY)])


@dataclass(frozen=True, slots=True)
class Member:
    """One method or attribute. The signature is a client's: without self and state."""

    owner: str
    name: str
    kind: Kind
    signature: inspect.Signature

    @property
    def shown(self) -> str:
        return f"{self.owner}.{self.name}"

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments as the method would take them, defaults added. TypeError as Python's own."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.shown}{self.signature}: {error}") from None
        bound.apply_defaults()
        return bound

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name."""
        found = dict(self.bind(args, kwargs).arguments)
        for one in self.signature.parameters.values():
            if one.kind is one.VAR_KEYWORD:
                found |= found.pop(one.name, {})
        return found

    def complete(self, args: Any) -> tuple[Any, ...] | Mapping[str, Any]:
        """Expected arguments: a tuple with those of keywords behind the others, or some of them by name."""
        if isinstance(args, Mapping):
            return self._some(as_type("Mapping[str, Any]", args))
        if not isinstance(args, tuple):
            raise TypeError(f"args are a tuple of the arguments of {self.shown}, or patterns for them: args=({args!r},)")
        given: tuple[Any, ...] = args  # pyright: ignore[reportUnknownVariableType]
        keywords = [one.name for one in self.signature.parameters.values() if one.kind is one.KEYWORD_ONLY]
        split = self._positional()
        if len(given) > split + len(keywords):
            raise TypeError(f"{self.shown}{self.signature}: too many arguments. Got: args={given!r}")
        bound = self.bind(given[:split], dict(zip(keywords, given[split:], strict=False)))
        return (*bound.args, *bound.kwargs.values())

    def _some(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        parameters = self.signature.parameters
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return args
        strange = [name for name in args if name not in parameters]
        if strange:
            raise TypeError(f"{self.shown}{self.signature} takes no {', '.join(map(str, strange))}. Got: args={args!r}")
        return args

    def _positional(self) -> int:
        kinds = [one.kind for one in self.signature.parameters.values()]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return 1 << 30
        return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)

    def check_reply(self, reply: Any) -> None:
        """Refuse what could never be the method's answer."""
        if inspect.iscoroutine(reply):
            reply.close()
            raise TypeError(
                f"the reply of {self.shown} is a value or a function of its arguments, and this is a coroutine: give the function"
            )
        if not callable(reply):
            if self.kind == "cast" and reply is not None:
                raise TypeError(f"{self.shown} is a @cast: nobody gets a reply, so it can't be {reply!r}")
            self._check_kind(reply)
            return
        if inspect.iscoroutinefunction(reply) and self.kind == "method" and not self._waits():
            raise TypeError(f"{self.shown} is no async def, so its reply can't be: {_named(reply)} must be a plain function")
        if isinstance(reply, type):
            return  # what it takes is seldom told by its signature
        self._check_arguments(reply)

    def _check_kind(self, reply: Any) -> None:
        """Refuse an error that is to be raised, and what the annotation says it is not, where that is a plain type."""
        returns: Any = _plain(self.signature.return_annotation)
        if isinstance(reply, BaseException) and not any(word in str(self.signature.return_annotation) for word in _ERRORS):
            raise TypeError(
                f"a reply that is an exception is returned, not raised. To let {self.shown} fail: raises={reply!r}; "
                "if it is to return it, a function that does"
            )
        if returns in _PLAIN and type(reply) in _PLAIN and reply is not None:
            wide = (int, float) if returns is float else returns
            if not isinstance(reply, wide):
                raise TypeError(f"{self.shown} returns {returns.__name__}, and the reply is {reply!r}")

    def _waits(self) -> bool:
        returns = self.signature.return_annotation
        return any(word in str(returns) for word in _WAITS)

    def _check_arguments(self, reply: Callable[..., Any]) -> None:
        parameters = self.signature.parameters.values()
        positional = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        keywords = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
        try:
            taken = inspect.signature(reply)
        except (TypeError, ValueError):  # some builtins do not tell
            return
        try:
            taken.bind(*positional, **keywords)
        except TypeError as error:
            raise TypeError(
                f"{_named(reply)}{taken} can't answer {self.shown}{self.signature}, whose arguments it is given: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class Contract:
    name: str
    members: dict[str, Member]
    asides: dict[str, str]
    """Names that are something else, and what to write instead."""

    def find(self, method: Any) -> Member:
        """The member of that name, or that a method of the class (or of an address) is."""
        name = method if isinstance(method, str) else getattr(method, "__name__", None)
        if not isinstance(name, str):
            raise TypeError(f"a method, as {self.name}.fetch, or its name. Got: {method!r}")
        member = self.members.get(name)
        if member is not None:
            self._check_owner(method, name)
            return member
        if name in self.asides:
            raise TypeError(self.asides[name])
        near = difflib.get_close_matches(name, self.members, n=3)
        hint = f"Similar: {', '.join(near)}. " if near else ""
        raise TypeError(f"{self.name} has no {name!r}, so nobody can ask it that. {hint}It has: {', '.join(self.members) or 'nothing'}")

    def _check_owner(self, method: Any, name: str) -> None:
        qualified = getattr(method, "__qualname__", None)
        if qualified is None or "." not in qualified:
            return
        owner = qualified.rpartition(".")[0].rpartition(".")[2]
        if owner not in self.asides["*"].split():
            raise TypeError(f"{qualified} is not a method of {self.name}: this is a double of {self.name}, whose own is {self.name}.{name}")


def _plain(annotation: Any) -> object:
    """The class that an annotation is, or that it is a list, dict, … of; None for all others."""
    if isinstance(annotation, str):
        return None if "|" in annotation else _BY_NAME.get(annotation.partition("[")[0])
    found = getattr(annotation, "__origin__", annotation)
    return found if isinstance(found, type) and found in _PLAIN else None


def raising(member: Member, error: Any) -> BaseException:
    """What `raises` gives, an instance."""
    if isinstance(error, BaseException):
        return error
    if not (isinstance(error, type) and issubclass(as_type(Any, error), BaseException)):
        raise TypeError(f"raises takes an exception, as ConnectionError('no'), or its class. Got: {error!r}")
    made: Any = error
    try:
        if issubclass(made, ServerDown):
            return ServerDown(member.owner, f"{member.name}(…)", "down, as the test says")
        return as_type(BaseException, made(f"{member.shown}: as the test says") if issubclass(made, CallExit) else made())
    except TypeError as problem:
        raise TypeError(
            f"{made.__name__} takes arguments, so {member.shown} needs an instance, raises={made.__name__}(…): {problem}"
        ) from None


def server_contract(cls: type[GenServer[Any]]) -> Contract:
    """The @call and @cast methods of a server, and the callbacks in which it handles other requests."""
    name = cls.__name__
    if getattr(cls, "__kind__", "worker") == "supervisor" or cls is GenServer:
        raise TypeError(f"{name} can't be doubled: what it does for others is more than answering calls. Start a real one in the test")
    requests: dict[str, Any] = cls.__requests__
    members = {key: Member(name, key, one.kind, _without_self(one)) for key, one in requests.items()}
    for key in ("handle_call", "handle_cast", "handle_info"):
        if getattr(cls, key) is not getattr(GenServer, key):
            members[key] = Member(name, key, "call" if key == "handle_call" else "cast", _REQUEST)
    asides = {"*": " ".join(base.__name__ for base in cls.__mro__) + " _Inside"}
    public = [key for key in dir(cls) if not key.startswith("_") and key not in members and not hasattr(GenServer, key)]
    for key in public:
        if inspect.isfunction(getattr(cls, key)):
            likely = f"_{key}" if f"_{key}" in members else next(iter(members), "…")
            asides[key] = (
                f"{name}.{key} runs in its caller; what the server is asked are its handlers: {', '.join(members)}. "
                f'Expect one of those: expect("{likely}", …)'
            )
    return Contract(name, members, asides)


def contract_of(cls: Any) -> Contract:
    """The methods and attributes of a Protocol or another class."""
    if issubclass(cls, StateMachine):
        raise TypeError(f"{cls.__name__} is a StateMachine, whose double would have to have its states. Start a real one in the test")
    name = cls.__name__
    members: dict[str, Member] = {}
    mro: list[Any] = [base for base in reversed(cls.__mro__) if base not in (object, Generic, Protocol)]
    for base in mro:
        for key in inspect.get_annotations(base):
            if not key.startswith("_"):
                members[key] = Member(name, key, "attribute", inspect.Signature())
        own = as_type("dict[str, Any]", vars(base))
        for key, value in own.items():
            member = _member(name, key, value)
            if member is not None:
                members[key] = member
    if not members:
        raise TypeError(f"{name} has neither methods nor attributes, so there is nothing to double")
    return Contract(name, members, {"*": " ".join(base.__name__ for base in mro)})


def _member(owner: str, name: str, value: Any) -> Member | None:
    if name in _NOT_ASKED:
        return None
    if isinstance(value, property) and not name.startswith("_"):
        return Member(owner, name, "attribute", inspect.Signature())
    if isinstance(value, staticmethod | classmethod):
        function: Any = as_type(Any, value).__func__
        signature = inspect.signature(function) if isinstance(value, staticmethod) else _without_self(function)
    elif inspect.isfunction(value):
        function, signature = value, _without_self(value)
    else:
        return None
    return Member(owner, name, "async" if inspect.iscoroutinefunction(function) else "method", signature)


def _without_self(function: Any) -> inspect.Signature:
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _named(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def double_of(cls: Any, contract: Contract, called: Callable[[Member, tuple[Any, ...], dict[str, Any]], Any], stubs: dict[str, Any]) -> Any:
    """An instance of the class, each method of which asks `called` instead."""
    namespace = {name: _made(member, called, stubs) for name, member in contract.members.items()}
    made: Any = type(cls)(f"MockOf{cls.__name__}", (cls,), {"__module__": cls.__module__, **namespace})
    return object.__new__(made)


def _made(member: Member, called: Callable[[Member, tuple[Any, ...], dict[str, Any]], Any], stubs: dict[str, Any]) -> Any:
    if member.kind == "attribute":
        return _attribute(member, stubs)

    def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        bound = member.bind(args, kwargs)
        return called(member, bound.args, bound.kwargs)

    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        value = asked(self, *args, **kwargs)
        return await value if inspect.iscoroutine(value) else value

    method = awaited if member.kind == "async" else asked
    method.__name__, method.__qualname__ = member.name, member.shown
    return method


def _attribute(member: Member, stubs: dict[str, Any]) -> property:
    def get(_: Any) -> Any:
        if member.name not in stubs:
            _unsaid(member)
        return stubs[member.name]

    def put(_: Any, value: Any) -> None:
        stubs[member.name] = value

    return property(get, put)


def _unsaid(member: Member) -> NoReturn:
    raise AssertionError(f"nothing was said of {member.shown}: its double needs stub({member.name!r}, value)")
