"""Servers behind Starlette and FastAPI: a tree around the application, and 503 when a server cannot answer.

    cache, limiter = SearchCache[str, Page]("search_cache"), RateLimiter("rate_limiter")

    app = FastAPI(lifespan=lifespan([cache.child_spec(limit=1000), limiter.child_spec(limit=100)]))
    install(app)                                    # CallExit → 503 with Retry-After

Endpoints then simply `await cache.fetch(query)`; a `def` endpoint runs in a thread and says `blocking.call(cache.fetch, query)`.
Each worker process of the web server runs its own tree: see docs/web.md for what that means for a cache or a limit.
"""

from ._errors import Retry as Retry, call_exit_response as call_exit_response, exception_handlers as exception_handlers, install as install
from ._lifespan import Lifespan as Lifespan, lifespan as lifespan
from ._ratelimit import rate_limit_headers as rate_limit_headers
