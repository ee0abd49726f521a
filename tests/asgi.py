"""Starlette's TestClient, which wants another package than the httpx that the service itself uses, and works with it."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient as TestClient
