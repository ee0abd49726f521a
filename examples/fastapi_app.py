"""A rate-limited, cached endpoint with FastAPI.

    pip install 'beamish[web]' fastapi
    uvicorn examples.fastapi_app:app            # or: python examples/fastapi_app.py

Try http://127.0.0.1:8000/square/12 and http://127.0.0.1:8000/cube/12, each more than five times.
"""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response

from beamish import blocking
from beamish.servers import RateLimiter, SearchCache
from beamish.web import install, lifespan, rate_limit_headers

PER = 60.0
cache = SearchCache[str, int]("answers")
limiter = RateLimiter("limiter")

app = FastAPI(lifespan=lifespan([cache.child_spec(limit=1000, ttl=300.0), limiter.child_spec(limit=5, per=PER)]))
install(app)  # a server that is down or late: 503 with Retry-After


async def limited(request: Request, response: Response) -> None:
    decision = await limiter.track(request.client.host if request.client else "")
    headers = {name.decode(): value.decode() for name, value in rate_limit_headers(decision, PER)}
    if not decision:
        raise HTTPException(429, "Too many requests.", headers)
    response.headers.update(headers)


Limited = Annotated[None, Depends(limited)]


@app.get("/square/{n}")
async def square(n: int, _: Limited) -> dict[str, int | bool]:
    found = await cache.fetch(f"square {n}")
    if found is None:
        await asyncio.sleep(0.1)  # the expensive search
        cache.cache(f"square {n}", n * n)
    return {"square": n * n if found is None else found, "cached": found is not None}


@app.get("/cube/{n}")
def cube(n: int, _: Limited) -> dict[str, int | bool]:
    """A plain `def` runs in a thread: it asks the same servers through `blocking.call`."""
    found = blocking.call(cache.fetch, f"cube {n}")
    if found is None:
        blocking.call(cache.put, f"cube {n}", n**3)
    return {"cube": n**3 if found is None else found, "cached": found is not None}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
