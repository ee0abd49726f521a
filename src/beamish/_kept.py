"""A server whose state is kept in a file: what `snapshot=` mixes into its process.

    start:  init ──▶ (thread) take the file, read it ──▶ restore ──▶ it runs
    beat:   at rest ──▶ dump: the state of one moment ──▶ (thread) text, write, fsync, rename ──▶ saved, or tried again
                        (or a piece of it, and the next one between later messages)
    end:    the request in hand ──▶ terminate ──▶ what is not saved yet, in the same way ──▶ the process ends

A beat is armed by the first message after a save, so a server that nobody uses has no timer. Servers without a snapshot know
nothing of all this: the class of the process is another, and the handlers in its table count.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Generator, Iterator
from contextvars import Context
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from beamish import _watched
from beamish._answers import CONTROL, UNCHANGED, Init
from beamish._runtime.client import Client
from beamish._runtime.extra import extra_of
from beamish._runtime.process import AT_REST, DEAD, EXITING, QUEUED, RUNNING, WATCHED, Entry
from beamish._runtime.signals import ACK, SYSTEM, Exited, Mark
from beamish._runtime.timers import Timer
from beamish._snapshot_claim import Claim, threads
from beamish.errors import Normal, Shutdown, short
from beamish.snapshot import FAILED, LOADED, SAVED, Loaded, Snapshot, chunks_of, tell, when

if TYPE_CHECKING:
    from beamish._loop import ExcInfo, Rest, ServerProcess

    _Base = ServerProcess
else:
    _Base = object

_log = logging.getLogger("beamish.snapshot")

#: Seconds. A state that takes longer to be made text on the loop needs a `dump`.
LONG = 0.02
#: Seconds until a save that failed is tried again, where there is no `every`.
AGAIN = 60.0


def _counted(handler: Callable[..., Any], handled: Callable[[], None]) -> Callable[..., Any]:
    def counting(*args: Any, **kwargs: Any) -> Any:
        handled()
        return handler(*args, **kwargs)

    return counting


class Taking:
    """A state that is being taken, in one step or in many."""

    __slots__ = ("begin", "changes", "steps")

    def __init__(self, steps: Generator[None, None, Iterator[bytes]], changes: int) -> None:
        self.steps = steps
        self.changes = changes
        self.begin = perf_counter()


class Ours:
    """A request of the keeper to its own server."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run

    def __call__(self, process: ServerProcess) -> Any:
        return self.run()


class Keeper:
    """What one server has to do with its file. `Extra.keeper`."""

    __slots__ = (
        "asked",
        "claim",
        "closed",
        "late",
        "leaving",
        "process",
        "ready",
        "saving",
        "since",
        "snapshot",
        "taking",
        "timer",
        "unsaved",
        "warned",
    )

    def __init__(self, process: ServerProcess, snapshot: Snapshot) -> None:
        self.process = process
        self.snapshot = snapshot
        self.claim = Claim(snapshot, process.label())
        self.ready = False  # what was saved is loaded
        self.unsaved = 0  # handled since the state was taken that is saved
        self.since = 0  # handled since the last attempt
        self.timer: Timer | None = None
        self.taking: Taking | None = None
        self.saving: asyncio.Future[Any] | None = None
        self.asked = False  # a beat waits until an async handler is done
        self.late = False  # one waits until the save that is under way is done
        self.leaving: object = None  # the reason of an exit signal, while the end is saved
        self.warned = False
        self.closed = False

    # -- the start

    async def load(self, value: Any) -> Any:
        """What `init` returned, with what was saved in the place of the state."""
        process = self.process
        found, asides = await self._thread(self.claim.open)
        tell(asides, process.label(), found, f"no older one is left: {process.label()!r} begins with the state that its init made")
        state, then = (value.state, value.then) if type(value) is Init else (value, None)
        if found is not None:
            state = await self._restored(state, found)
        process.calls = {name: _counted(handler, self.handled) for name, handler in process.calls.items()}
        self.ready = True
        return Init(state, then=then)

    async def _restored(self, state: Any, found: Loaded) -> Any:
        process = self.process
        restore = _hook(process.cls, "restore")
        restored = found.data if restore is None else restore(process.server, state, found.data)
        if asyncio.iscoroutine(restored):
            restored = await restored
        if restored is None and state is not None and restore is not None:
            raise TypeError(
                f"{process.cls.__name__}.restore returned None, where init had made {short(state)}: is a `return` missing? "
                "The snapshot was left as it is"
            )
        _log.info("%r begins with the snapshot %s, of %s", process.label(), found.path, when(found))
        if LOADED.handlers:
            LOADED.execute({"saved_at": found.saved_at}, {"server": process.label(), "path": str(found.path)})
        return restored

    # -- when

    def handled(self) -> None:
        """A message is being handled."""
        self.unsaved += 1
        self.since += 1
        if self.timer is None and self.snapshot.every is not None:
            self._arm(self.snapshot.every)
        if self.since == self.snapshot.changes:
            self.process.node.loop.call_soon(self.beat, context=Context())

    def _arm(self, seconds: float) -> None:
        node = self.process.node
        self.timer = node.wheel.arm(node.clock.now() + seconds, self._due, None, seconds)

    def _due(self, timer: Timer) -> None:
        self.timer = None
        self.beat()

    def beat(self) -> None:
        """It is time to save: now, or when the save that is under way is done, or the async handler."""
        if self.closed or self.process.status in (EXITING, DEAD) or self.leaving is not None or not self.unsaved:
            return
        if self.taking is not None or self.saving is not None:
            self.late = True
        elif not self.asked:
            self.asked = True
            self._between(self.take, self.process.post)

    def _between(self, fn: Callable[[], None], put: Callable[[Entry], None]) -> None:
        """Call it as code of the server: now, or, put into its mail, when the async handler in hand is done.

        The next piece of what has begun goes before all mail: behind it, a hundred pieces would take a hundred times the queue.
        """
        process = self.process
        if process.status in AT_REST or process.status == QUEUED:
            self._at_rest(fn)
        elif process.status not in (EXITING, DEAD):
            put((SYSTEM, Ours(fn), None, None))

    def _at_rest(self, fn: Callable[[], None]) -> None:
        """The server's mail, its timeout and its place in the queue stay as they are."""
        process, before = self.process, self.process.status
        node = process.node
        outer = node.current
        node.current = process
        node.depth += 1
        process.status = RUNNING
        try:
            process.context().run(fn)
        finally:
            node.current = outer
            node.depth -= 1
            if process.status == RUNNING or process.looked():
                process.status = before
                if process.mbox and before in AT_REST:
                    process.release()  # `dump` has sent it something

    # -- one save

    def take(self) -> None:
        """Take the state, as code of the server, and let a thread write it. What fails here is a save that failed."""
        self.asked = False
        if self.taking is not None or self.saving is not None or not self.unsaved:
            return
        if self.timer is not None:
            self.process.node.wheel.cancel(self.timer)
            self.timer = None
        self.taking = taking = Taking(self._chunks(), self.unsaved)
        self.unsaved = self.since = 0
        self._step(taking)

    def _step(self, taking: Taking) -> None:
        """As far as the `dump` of the class goes in one go."""
        if self.taking is not taking:
            return  # the end was quicker
        process, begin = self.process, perf_counter()
        try:
            next(taking.steps)
        except StopIteration as done:
            self._slow(perf_counter() - begin)
            self.taking = None
            if self.closed:
                return  # it has ended its own server, whose file may be another's by now
            chunks: Iterator[bytes] = done.value
            self.saving = future = self._thread(self.claim.save, lambda: chunks)
            future.add_done_callback(lambda done: self._saved(done, taking.changes, taking.begin), context=Context())
        except BaseException as error:
            self.taking = None
            if not self.closed:
                self._failed(error, taking.changes)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        else:
            self._slow(perf_counter() - begin)
            self.process.node.loop.call_soon(self._between, lambda: self._step(taking), process.put_first, context=Context())

    def _chunks(self) -> Generator[None, None, Iterator[bytes]]:
        """The state of this moment, or what a `dump` takes piece by piece; to make its data text is for the thread."""
        process = self.process
        dump = _hook(process.cls, "dump")
        if dump is None:
            return iter(list(chunks_of(self.snapshot, process.state)))
        data = dump(process.server, process.state)
        if inspect.isgenerator(data):  # asked first: to 3.11 one is a coroutine too
            data = yield from cast("Generator[None, None, Any]", data)
        elif asyncio.iscoroutine(data):
            data.close()
            raise TypeError(
                f"{process.cls.__name__}.dump may not be async: the state is taken at one moment, or, by a dump that yields, in pieces"
            )
        if data is None and process.state is not None:
            raise TypeError(f"{process.cls.__name__}.dump returned None, and the state is {short(process.state)}: is a `return` missing?")
        return chunks_of(self.snapshot, data)

    def _slow(self, seconds: float) -> None:
        if seconds > LONG and not self.warned:
            self.warned = True
            name = self.process.cls.__name__
            how = (
                f"Give {name} a method dump(self, state) that returns a copy, which a thread then makes text"
                if _hook(self.process.cls, "dump") is None
                else f"That is {name}.dump: the copy that it returns may be shallow where the values are immutable"
            )
            _log.warning(
                "%r: taking its state for the snapshot %s held up the loop for %.0f ms. %s",
                self.process.label(), self.snapshot.path, seconds * 1000, how,
            )  # fmt: skip

    def _saved(self, future: asyncio.Future[Any], taken: int, begin: float) -> None:
        self.saving = None
        if future.cancelled():
            error: BaseException | None = RuntimeError("the loop was ended before it was written")
        else:
            error = future.exception()
        if error is not None:
            self._failed(error, taken)
        elif SAVED.handlers:
            facts = {"server": self.process.label(), "path": str(self.snapshot.path)}
            SAVED.execute({"duration": perf_counter() - begin, "bytes": future.result(), "changes": taken}, facts)
        late, self.late = self.late, False
        if late and error is None:
            self.beat()

    def _failed(self, error: BaseException, taken: int) -> None:
        self.unsaved += taken
        _log.error("%r: its state was not saved: %s", self.process.label(), error, exc_info=error if _is_ours(error) else None)
        if FAILED.handlers:
            FAILED.execute({"changes": taken}, {"server": self.process.label(), "path": str(self.snapshot.path), "error": error})
        if self.timer is None and not self.closed:
            self._arm(self.snapshot.every or AGAIN)

    # -- the end

    def unfinished(self) -> bool:
        return self.ready and (self.unsaved > 0 or self.taking is not None or self.saving is not None)

    async def finish(self) -> None:
        """Save what is not saved yet, and wait until it is on the disk, or was tried once more."""
        await self._written()
        self.take()
        await self._written()
        if self.unsaved:
            _log.error(
                "%r ends, and its state could not be saved: what its last messages (%d) have changed is lost. %s is as it was",
                self.process.label(), self.unsaved, self.snapshot.path,
            )  # fmt: skip

    async def _written(self) -> None:
        """Wait for the save that is under way. The end of the loop, which cancels everything, is no reason to leave it."""
        while self.taking is not None or self.saving is not None:
            try:
                if self.taking is not None:
                    self._step(self.taking)
                elif self.saving is not None:
                    await asyncio.wait([self.saving])
                await asyncio.sleep(0)  # `_saved` has its turn
            except asyncio.CancelledError:
                if self.process.status in (EXITING, DEAD) or not self.process.node.ending():
                    raise

    async def leave(self) -> Any:
        """An exit signal with a clean reason: the process ends when its state is saved."""
        process = self.process
        await self.finish()
        if process.status not in (EXITING, DEAD):
            process.status = EXITING
            process.reason = self.leaving
        return UNCHANGED

    def close(self) -> None:
        """The process has ended."""
        self.closed = True
        self.taking = None
        if self.timer is not None:
            self.process.node.wheel.cancel(self.timer)
            self.timer = None
        self.claim.close()

    def _thread(self, fn: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        node = self.process.node
        self.claim.begin()
        return node.loop.run_in_executor(threads(node), fn, *args)


def _hook(cls: Any, name: str) -> Callable[..., Any] | None:
    """`dump` and `restore` of the class; a @call of that name is somebody else's."""
    found = getattr(cls, name, None)
    return None if hasattr(found, "handler") else found


def _is_ours(error: BaseException) -> bool:
    """Whether its traceback says more than its text."""
    return not isinstance(error, (OSError, ValueError)) and type(error).__module__.partition(".")[0] != "beamish"


# --- the process ------------------------------------------------------------------------------------------------------


class Kept(_Base):
    """What is mixed into the class of a process whose state is kept."""

    __slots__ = ()

    def loading(self, value: Any) -> Any:
        if self.keeper() is not None or (type(value) in CONTROL and type(value) is not Init):
            return value
        snapshot = value.snapshot if type(value) is Init and value.snapshot is not None else self.cls.__snapshot__
        assert snapshot is not None
        extra_of(self).keeper = keeper = Keeper(self, snapshot)
        return keeper.load(value)

    def keeper(self) -> Keeper | None:
        found: Keeper | None = self.extra.keeper if self.extra is not None else None
        return found

    def special(self, mark: str | Mark, args: Any, client: Client | None) -> Any:
        keeper = self.keeper()
        if keeper is not None and keeper.ready and self._changes(mark, args):
            keeper.handled()
        return super().special(mark, args, client)

    def _changes(self, mark: str | Mark, args: Any) -> bool:
        """Whether it may change the state."""
        if mark is SYSTEM or mark is ACK:
            return getattr(args, "verb", None) in ("replace_state", "change_code")
        return not (type(args) is Exited and args.pid is self.parent)

    def stop(self, reason: object, entry: Entry | None, *, reply: Any = UNCHANGED, info: ExcInfo | None = None) -> Rest:
        keeper = self.keeper()
        if keeper is None or not keeper.unfinished() or not _clean(reason):
            return super().stop(reason, entry, reply=reply, info=info)
        return self.stop_later(self._ending(keeper, reason), reason, entry, reply, info)

    async def _ending(self, keeper: Keeper, reason: object) -> None:
        if self.cls.__terminates__:
            rest = self.terminate(reason)
            if asyncio.iscoroutine(rest):
                await rest
        await keeper.finish()

    def begin_exit(self, reason: object) -> None:
        """As one that traps exits: the request in hand is finished. What waits behind it is dropped, as ever."""
        keeper = self.keeper()
        if keeper is None or not keeper.unfinished() or not _clean(reason) or self.status == EXITING:
            super().begin_exit(reason)
        elif keeper.leaving is None:
            keeper.leaving = reason
            self.put_first((SYSTEM, Ours(keeper.leave), None, None))
            if self.status in AT_REST:
                self.node.enqueue(self)

    def clear(self) -> None:
        keeper = self.keeper()
        super().clear()
        if keeper is not None:
            keeper.close()


def _clean(reason: object) -> bool:
    return isinstance(reason, (Normal, Shutdown))


def kept_class(kind: Any) -> Any:
    """The class of a process that is kept."""
    return kind if issubclass(kind, Kept) else _watched.mixed(Kept, kind)


def keep(process: ServerProcess) -> None:
    """From now on, while its `init` runs, it is one that is kept."""
    kind: Any = type(process)
    if issubclass(kind, Kept):
        return
    if process.rest == WATCHED:  # looking away takes off what is in front, so that stays there
        process.__class__ = _watched.mixed(_watched.Watched, kept_class(kind.__mro__[2]))
    else:
        process.__class__ = kept_class(kind)
