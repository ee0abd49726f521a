"""The page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest

from service import Service, serving, until
from webdriver import Browser, browser, missing

pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "otp.md").write_text("# Let it <b>crash</b>\n\n<script>alert(1)</script> Supervisors \U0001f600 restart zebras & servers.\n")
    return folder


@pytest.fixture(scope="module")
def service(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    with serving("--documents", str(documents), "--rate", "12/60", "--chaos", cache=tmp_path_factory.mktemp("cache")) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def page() -> Generator[Browser]:
    with browser("--window-size=1280,900") as one:
        yield one


def search(page: Browser, query: str) -> str:
    """Type it, and wait for the outcome."""
    before = page.run("return document.querySelectorAll('#strip rect').length")
    page.run("document.querySelector('#q').value = ''")
    page.type("#q", query + "\ue007")
    page.wait(lambda: page.run("return document.querySelectorAll('#strip rect').length") > before)
    return page.text("#outcome")


class TestThePage:
    def test_it_searches_shows_hits_crashes_and_limits_and_nothing_is_refused_by_its_policy(self, service: Service, page: Browser) -> None:
        page.open(service.url)
        page.wait(lambda: "up" in page.text("#live-text"))

        assert search(page, "zebra") == "CACHE MISS"
        assert search(page, "zebra") == "CACHE HIT"
        assert page.text("#results h3") == "Let it <b>crash</b>"
        assert page.text("#results mark") == "zebras"
        assert "<script>alert(1)</script>" in page.text("#results .snippet")
        assert re.fullmatch(r"\d+\.\d+ m?s", page.text("#time"))

        page.wait(lambda: "50 % hits" in page.text("#cache-note") or "50.0 % hits" in page.text("#cache-note"))
        assert page.text("#limiter").split("\n")[:2] == ["you have left", "10"]
        names = page.run("return [...document.querySelectorAll('#tree .name')].map((one) => one.textContent)")
        assert names == [
            "search_service", "observer", "search_cache", "rate_limiter", "log", "store", "query_log", "engine", "searches", "index",
            "http",
        ]  # fmt: skip
        page.wait(lambda: "zebra" in page.text("#popular") and "2" in page.text("#popular"))
        assert page.text("#log-note") == "2 searches in the log"

        pid = page.text("[data-name=search_cache] .pid")
        page.click("[data-crash=search_cache]")
        page.wait(lambda: "↻ 1" in page.text("[data-name=search_cache]"))
        assert page.text("[data-name=search_cache] .pid") != pid
        assert "search_cache after RuntimeError" in page.text("#restarts")
        assert search(page, "zebra") == "CACHE MISS"

        page.click("[data-crash=http]")
        page.wait(lambda: "↻ 1" in page.text("[data-name=http]"))
        assert search(page, "zebra") == "CACHE HIT"

        page.run(
            "document.querySelector('#q').value = 'zebra'; for (let n = 0; n < 12; n++) document.querySelector('#form').requestSubmit()"
        )
        page.wait(lambda: page.text("#outcome") == "429")
        assert re.search(r"Too many requests. Again in \d+ s.", page.text("#said"))

        complaints = [line for line in page.log() if "429" not in line]
        assert complaints == []

    def test_it_comes_back_when_the_service_does(self, documents: Path, page: Browser, tmp_path: Path) -> None:
        with serving("--documents", str(documents), cache=tmp_path) as service:
            page.open(service.url)
            page.wait(lambda: "up" in page.text("#live-text"))
            port = service.url.rsplit(":", 1)[1].strip("/")
            assert service.stop() == 0
            page.wait(lambda: page.text("#live-text") == "reconnecting")
        with serving("--documents", str(documents), "--port", port, cache=tmp_path) as service:
            page.wait(lambda: "up" in page.text("#live-text"), 30)
            until(lambda: service.stats()["requests"]["streams"] == 1)
            page.open("about:blank")
            until(lambda: service.stats()["requests"]["streams"] == 0)
