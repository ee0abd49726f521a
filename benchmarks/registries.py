"""Registries: finding, registering, telling many, calling through a name that leads through one; and what a dict would cost."""

import asyncio
from contextlib import suppress
from itertools import cycle, islice

from beamish import GenServer, Registry, Via, current, flag, send
from benchmarks.baselines import AServer
from benchmarks.harness import Suite, timed
from benchmarks.ours import Counter
from benchmarks.work import KEYS

suite = Suite()

NAMES = Registry[str, int]("names")
TOPICS = Registry[str, None]("topics")

LOOKUP = "registry: lookup"
REGISTER = "registry: register, unregister"
ONE, MANY = "registry: dispatch to 1", "registry: dispatch to 100"
VIA = "registry: call by via"


# --- finding ----------------------------------------------------------------------------------------------------------


@suite.variant(LOOKUP, "Python: a dict", n=200_000, baseline=True)
def lookup_in_dict(n: int) -> float:
    names = {key: (None, number) for number, key in enumerate(KEYS)}
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            names.get(key)
    return clock.each


@suite.variant(LOOKUP, "Beamish: Registry.lookup", n=200_000)
async def lookup(n: int) -> float:
    await NAMES.start_link(keys="unique")
    flag(trap_exit=True)
    for number, key in enumerate(KEYS):
        NAMES.register(key, number)
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            NAMES.lookup(key)
    return clock.each


# --- registering ------------------------------------------------------------------------------------------------------


@suite.variant(REGISTER, "Python: a dict", n=100_000, baseline=True)
def register_in_dict(n: int) -> float:
    names: dict[str, tuple[None, int]] = {}
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            names[key] = None, 1
            del names[key]
    return clock.each


@suite.variant(REGISTER, "Beamish: a process that has other keys", n=50_000)
async def register(n: int) -> float:
    await NAMES.start_link(keys="unique")
    flag(trap_exit=True)
    NAMES.register("always", 1)
    return _register(n)


@suite.variant(REGISTER, "Beamish: its only key, linked and unlinked", n=50_000)
async def register_only(n: int) -> float:
    await NAMES.start_link(keys="unique")
    flag(trap_exit=True)
    return _register(n)


def _register(n: int) -> float:
    current()
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            NAMES.register(key, 1)
            NAMES.unregister(key)
    return clock.each


# --- telling many: until all have handled it --------------------------------------------------------------------------


class Heard:
    """How many messages the subscribers of a run have handled, and when that is all of them."""

    def __init__(self, wanted: int) -> None:
        self.left = wanted
        self.all = asyncio.Event()

    def one(self) -> None:
        self.left -= 1
        if not self.left:
            self.all.set()


class Subscriber(GenServer[Heard]):
    def init(self, heard: Heard) -> Heard:
        TOPICS.register("topic")
        return heard

    def handle_info(self, state: Heard, message: object) -> None:
        state.one()


async def dispatch(n: int, subscribers: int) -> float:
    await TOPICS.start_link(keys="duplicate")
    heard = Heard(n * subscribers)
    for _ in range(subscribers):
        await Subscriber.start(heard)
    with timed(n) as clock:
        for _ in range(n):
            TOPICS.dispatch("topic", lambda entries: [send(pid, "news") for pid, _ in entries])
        await heard.all.wait()
    return clock.each


async def put_into_queues(n: int, subscribers: int) -> float:
    heard = Heard(n * subscribers)

    async def subscriber(queue: asyncio.Queue[str]) -> None:
        while True:
            await queue.get()
            heard.one()

    topics: dict[str, list[asyncio.Queue[str]]] = {"topic": [asyncio.Queue() for _ in range(subscribers)]}
    tasks = [asyncio.create_task(subscriber(queue)) for queue in topics["topic"]]
    await asyncio.sleep(0)
    with timed(n) as clock:
        for _ in range(n):
            for queue in topics["topic"]:
                queue.put_nowait("news")
        await heard.all.wait()
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return clock.each


@suite.variant(ONE, "asyncio: a dict of queues", n=50_000, baseline=True)
async def put_to_one(n: int) -> float:
    return await put_into_queues(n, 1)


@suite.variant(ONE, "Beamish: Registry.dispatch, send", n=50_000)
async def dispatch_to_one(n: int) -> float:
    return await dispatch(n, 1)


@suite.variant(MANY, "asyncio: a dict of queues", n=1_000, baseline=True)
async def put_to_many(n: int) -> float:
    return await put_into_queues(n, 100)


@suite.variant(MANY, "Beamish: Registry.dispatch, send", n=1_000)
async def dispatch_to_many(n: int) -> float:
    return await dispatch(n, 100)


# --- calling ----------------------------------------------------------------------------------------------------------


@suite.variant(VIA, "asyncio: a dict, then Queue + Future", n=20_000, baseline=True)
async def call_in_dict(n: int) -> float:
    async with AServer() as server:
        names = {"counter": server}
        with timed(n) as clock:
            for _ in range(n):
                await names["counter"].call(1)
    return clock.each


@suite.variant(VIA, "Beamish: by Via", n=100_000)
async def call_by_via(n: int) -> float:
    await NAMES.start_link(keys="unique")
    return await _calls(Counter(Via(NAMES, "counter")), n)


@suite.variant(VIA, "Beamish: by name", n=100_000)
async def call_by_name(n: int) -> float:
    return await _calls(Counter("counter"), n)


async def _calls(counter: Counter, n: int) -> float:
    await counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await counter.add(1)
    return clock.each
