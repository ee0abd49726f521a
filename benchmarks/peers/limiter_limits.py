# mypy: ignore-errors
"""limits: fixed window, moving window or sliding window counter, in memory. 100 requests a minute."""

import gc
import sys
import tracemalloc

from answers import median_ns, say
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

STRATEGIES = {"fixed": FixedWindowRateLimiter, "moving": MovingWindowRateLimiter, "sliding": SlidingWindowCounterRateLimiter}
ITEM = RateLimitItemPerMinute(100)
KEYS = [f"key {number}" for number in range(1_000)]


def limiter():
    return STRATEGIES[sys.argv[1]](MemoryStorage())


hit = limiter().hit
say("decision", median_ns(10_000, lambda: [hit(ITEM, key) for key in KEYS * 10]))

hot = limiter()
for _ in range(100):
    hot.hit(ITEM, "hot")
say("denied hot key", median_ns(5_000, lambda: [hot.hit(ITEM, "hot") for _ in range(5_000)]))

gc.collect()
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
kept = limiter()
for number in range(20_000):
    kept.hit(ITEM, f"key {number}")
say("memory of a key, 1 request", (tracemalloc.get_traced_memory()[0] - before) / 20_000)
tracemalloc.stop()

for number in range(1_100):
    hot.hit(ITEM, f"flood {number}")
say("denied key after 1,100 other keys", "still denied" if not hot.hit(ITEM, "hot") else "allowed again: its count was evicted")
