# mypy: ignore-errors
"""Pykka: an actor is a thread; no supervision."""

import logging
import time

import pykka
from answers import PATIENCE, described, median_ns, say, waited

logging.disable(logging.CRITICAL)


class Counter(pykka.ThreadingActor):
    def __init__(self):
        super().__init__()
        self.total = 0

    def on_receive(self, by):
        self.total += 100  # a half-done change that only a fresh state forgets
        self.total += 10 // by - 100
        return self.total


stopped = []


class Named(pykka.ThreadingActor):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_stop(self):
        stopped.append(self.name)


def calls(counter, n):
    for _ in range(n):
        counter.ask(1)


def casts(counter, n):
    for _ in range(n):
        counter.tell(1)
    counter.ask(1)


counter = Counter.start()
say("call", median_ns(2_000, lambda: calls(counter, 2_000)))
say("cast", median_ns(10_000, lambda: casts(counter, 10_000)))
counter.stop()

counter = Counter.start()
start = time.monotonic()
try:
    answer = repr(counter.ask(0, timeout=PATIENCE))
except Exception as error:
    answer = described(error)
say("crash seen by its client", f"{answer}, {waited(start)}")
after_ask = f"the actor goes on, its half-made change kept ({counter.ask(1) - 10} too much)" if counter.is_alive() else "the actor is dead"
counter.tell(0)
time.sleep(0.1)
say("restart", f"no supervisor; {after_ask}; after a crash in a tell it is {'alive' if counter.is_alive() else 'dead, and stays so'}")
say("restart limit", "no supervisor")

for name in "abc":
    Named.start(name)
pykka.ActorRegistry.stop_all()
say("stop order of a, b, c", " ".join(stopped))
