# mypy: ignore-errors
"""throttled-py: its algorithms over its in-memory store, which keeps 1,024 keys unless told. 100 requests a minute."""

import gc
import sys
import tracemalloc

from answers import median_ns, say
from throttled import MemoryStore, Throttled, per_min

KEYS = [f"key {number}" for number in range(1_000)]


def limiter(size=None):
    store = MemoryStore(options={"MAX_SIZE": size}) if size else MemoryStore()
    return Throttled(using=sys.argv[1], quota=per_min(100), store=store)


hit = limiter().limit
say("decision", median_ns(10_000, lambda: [hit(key) for key in KEYS * 10]))

hot = limiter()
for _ in range(100):
    hot.limit("hot")
say("denied hot key", median_ns(5_000, lambda: [hot.limit("hot") for _ in range(5_000)]))

gc.collect()
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
kept = limiter(100_000)
for number in range(20_000):
    kept.limit(f"key {number}")
say("memory of a key, 1 request", (tracemalloc.get_traced_memory()[0] - before) / 20_000)
tracemalloc.stop()

for number in range(1_100):
    hot.limit(f"flood {number}")
say("denied key after 1,100 other keys", "still denied" if hot.limit("hot").limited else "allowed again: its count was evicted")
