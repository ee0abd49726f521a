"""Ready-made servers, written with the public face only: use them, or read them as examples."""

from ._entries import CacheStats as CacheStats
from ._window import Decision as Decision
from .rate_limiter import RateLimiter as RateLimiter
from .search_cache import SearchCache as SearchCache
