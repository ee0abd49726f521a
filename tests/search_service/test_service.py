"""The search service from outside: a program that is sent requests and signals."""

from __future__ import annotations

import asyncio
import http.server
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from service import Service, refused, serving, until

SERVERS = ["observer", "search_cache", "rate_limiter", "searches", "index", "http"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for number in range(30):
        (folder / f"page{number}.md").write_text(f"# Page {number}\n\nSupervisors restart crashed servers, number{number} of thirty.\n")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def service(documents: Path, cache: Path) -> Generator[Service]:
    """One for the tests that leave it as it was; each asks with queries of its own."""
    with serving("--documents", str(documents), "--rate", "100000/60", "--chaos", cache=cache) as running:
        yield running.ready()


class Upstream:
    """A slow search service: it counts how often it was asked, and answers when it is let."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go = threading.Event()
        self.status = 200
        self.body = json.dumps([{"title": "From upstream", "url": "http://example.org/", "snippet": "found", "score": 1.5}]).encode()
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked[parse_qs(urlsplit(self.path).query)["q"][0]] += 1
                upstream.go.wait(20.0)
                self.send_response(upstream.status)
                self.send_header("content-length", str(len(upstream.body)))
                self.end_headers()
                self.wfile.write(upstream.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/search?q={{query}}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.go.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def upstream() -> Generator[Upstream]:
    one = Upstream()
    yield one
    one.close()


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    return str(found["detail"])


class TestSearch:
    def test_the_second_request_is_a_hit_with_the_same_results(self, service: Service) -> None:
        first, second = (service.get("/search", params={"q": "number7"}).json() for _ in range(2))
        assert (first["cached"], second["cached"]) == (False, True)
        assert first["results"] == second["results"]
        (found,) = first["results"]
        assert (found["title"], found["where"]) == ("Page 7", "page7.md")
        assert [found["snippet"][start:end] for start, end in found["marks"]] == ["number7"]
        assert 0 < second["seconds"] < 1

    def test_white_space_makes_no_other_query_and_another_limit_does(self, service: Service) -> None:
        service.get("/search", params={"q": "restart thirty", "limit": 3})
        again = service.get("/search", params={"q": "  restart \t thirty ", "limit": 3}).json()
        assert (again["cached"], again["query"], len(again["results"])) == (True, "restart thirty", 3)
        assert service.get("/search", params={"q": "restart thirty", "limit": 4}).json()["cached"] is False

    def test_no_result_is_an_answer_and_is_cached_too(self, service: Service) -> None:
        answers = [service.get("/search", params={"q": "nowherefound"}).json() for _ in range(2)]
        assert [(one["results"], one["cached"]) for one in answers] == [([], False), ([], True)]

    @pytest.mark.parametrize(
        "query", ['"', "a OR", "NEAR(", "title:*", "-", "\x00\x01", "☃ \U0001f600", "'; DROP TABLE documents; --", "*" * 499]
    )
    def test_any_text_may_be_searched_for(self, service: Service, query: str) -> None:
        answer = service.get("/search", params={"q": query})
        assert answer.status_code == 200, answer.text
        assert answer.json()["query"] == " ".join(query.split())

    @pytest.mark.parametrize(
        ("path", "status", "detail"),
        [
            ("/search", 400, "Say what to search for"),
            ("/search?q=", 400, "is empty"),
            ("/search?q=%20%09", 400, "is empty"),
            ("/search?q=" + "x" * 501, 400, "500 is the most"),
            ("/search?q=a&q=b", 400, "once"),
            ("/search?q=a&limit=0", 400, "from 1 to 100"),
            ("/search?q=a&limit=101", 400, "from 1 to 100"),
            ("/search?q=a&limit=-1", 400, "from 1 to 100"),
            ("/search?q=a&limit=ten", 400, "from 1 to 100"),
            ("/search?q=a&limit=٣", 400, "from 1 to 100"),
            ("/search?q=%ff%fe", 400, "not UTF-8"),
            ("/search?" + "&".join(f"p{n}=1" for n in range(30)), 400, "too many"),
            ("/nowhere", 404, "no such page"),
            ("/page.css/..%2f..%2fetc/passwd", 404, "no such page"),
            ("/crash/search_cache", 405, "method"),
        ],
    )
    def test_a_wrong_request_is_told_what_is_wrong(self, service: Service, path: str, status: int, detail: str) -> None:
        assert detail in problem(service.get(path), status)

    def test_only_get_and_head_are_for_search(self, service: Service) -> None:
        answer = service.client.post("/search?q=a")
        problem(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
        head = service.client.head("/search?q=number3")
        assert (head.status_code, head.content) == (200, b"")

    def test_what_is_no_http_is_refused_and_harms_nobody(self, service: Service) -> None:
        where = urlsplit(service.url)
        for junk in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
            b"GET /search?q=\xff\xfe HTTP/1.1\r\n\r\n",
            b"\r\n" * 50,
        ):
            with socket.create_connection((where.hostname, where.port), timeout=10) as raw:
                raw.sendall(junk)
                raw.shutdown(socket.SHUT_WR)
                answer = raw.recv(65536)
                assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
        assert service.get("/healthz").status_code == 200

    def test_client_errors_are_one_line_of_the_log_each(self, service: Service) -> None:
        before = len(service.log.splitlines())
        service.get("/search?q=%0aforged%20line&limit=nix")
        service.get("/no/such/page")
        lines = until(lambda: (found := service.log.splitlines()[before:]) and len(found) >= 2 and found)
        assert len(lines) == 2, lines
        assert "400" in lines[0]
        assert "404" in lines[1]


class TestRateLimit:
    def test_after_the_limit_429_with_the_header_fields_of_the_draft(self, documents: Path, cache: Path) -> None:
        with serving("--documents", str(documents), "--rate", "3/60", cache=cache) as service:
            service.ready()
            answers = [service.get("/search?q=number1") for _ in range(4)]
            assert [one.status_code for one in answers] == [200, 200, 200, 429]
            assert [one.headers["ratelimit-policy"] for one in answers] == ['"default";q=3;w=60'] * 4
            left = [one.headers["ratelimit"] for one in answers]
            assert [one.partition(";t=")[0] for one in left] == [f'"default";r={n}' for n in (2, 1, 0, 0)]
            assert "retry-after" not in answers[2].headers
            wait = int(answers[3].headers["retry-after"])
            assert 55 <= wait <= 60
            assert left[3].endswith(f";t={wait}")
            assert problem(answers[3], 429)
            assert answers[3].json()["violated-policies"] == ["default"]
            assert service.get("/healthz").status_code == 200
            limiter = service.stats()["limiter"]
            assert (limiter["allowed"], limiter["denied"], limiter["you"]["remaining"]) == (3, 1, 0)

    def test_a_wrong_request_counts_too(self, documents: Path, cache: Path) -> None:
        with serving("--documents", str(documents), cache=cache, BEAMISH_RATE="2/60") as service:
            assert [service.get("/search?q=").status_code for _ in range(3)] == [400, 400, 429]


class TestSingleFlight:
    def test_many_requests_for_one_query_are_one_search(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, "--rate", "1000/60", cache=cache) as service:

            async def ask() -> list[httpx.Response]:
                async with httpx.AsyncClient(base_url=service.url, timeout=20, trust_env=False) as client:
                    requests = [asyncio.create_task(client.get("/search?q=slow")) for _ in range(50)]
                    await asyncio.to_thread(until, lambda: service.stats()["searches"]["joined"] == 49)
                    upstream.go.set()
                    return await asyncio.gather(*requests)

            answers = asyncio.run(ask())
            assert {one.status_code for one in answers} == {200}
            assert {one.json()["results"][0]["title"] for one in answers} == {"From upstream"}
            assert upstream.asked == {"slow": 1}

    def test_the_first_client_goes_away_and_nobody_is_harmed(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, cache=cache) as service:
            where = urlsplit(service.url)
            first = socket.create_connection((where.hostname, where.port))
            first.sendall(b"GET /search?q=slow HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: upstream.asked["slow"])
            found: list[httpx.Response] = []
            second = threading.Thread(target=lambda: found.append(service.get("/search?q=slow")))
            second.start()
            until(lambda: service.stats()["searches"]["joined"] == 1)
            first.close()
            upstream.go.set()
            second.join(15)
            assert found[0].json()["results"][0]["title"] == "From upstream"
            assert service.get("/search?q=slow").json()["cached"] is True
            assert upstream.asked == {"slow": 1}

    def test_all_clients_go_away_and_the_answer_is_kept(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, cache=cache) as service:
            where = urlsplit(service.url)
            with socket.create_connection((where.hostname, where.port)) as only:
                only.sendall(b"GET /search?q=slow HTTP/1.1\r\nhost: x\r\n\r\n")
                until(lambda: upstream.asked["slow"])
            upstream.go.set()
            until(lambda: service.stats()["searches"]["done"] == 1)
            assert service.get("/search?q=slow").json()["cached"] is True

    def test_too_many_searches_are_refused_at_once(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, "--at-once", "2", "--queue", "3", cache=cache) as service:

            async def ask() -> list[httpx.Response]:
                async with httpx.AsyncClient(base_url=service.url, timeout=20, trust_env=False) as client:
                    requests = [asyncio.create_task(client.get(f"/search?q=slow{n}")) for n in range(10)]
                    await asyncio.to_thread(until, lambda: service.stats()["searches"]["refused"] == 5)
                    upstream.go.set()
                    return await asyncio.gather(*requests)

            answers = asyncio.run(ask())
            assert Counter(one.status_code for one in answers) == {200: 5, 503: 5}
            assert {one.headers["retry-after"] for one in answers if one.status_code == 503} == {"1"}


class TestUpstream:
    def test_an_upstream_that_is_down_is_502(self, cache: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with serving("--upstream", f"http://127.0.0.1:{port}/?q={{query}}", cache=cache) as service:
            answer = service.get("/search?q=a")
            assert "cannot be reached" in problem(answer, 502)
            assert int(answer.headers["retry-after"]) > 0
            assert "Traceback" not in service.log

    def test_one_that_is_too_slow_is_504_and_not_cached(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, "--upstream-timeout", "0.3", cache=cache) as service:
            assert "in time" in problem(service.get("/search?q=a"), 504)
            upstream.go.set()
            assert service.get("/search?q=a").json()["cached"] is False

    @pytest.mark.parametrize(
        ("status", "body", "detail"),
        [
            (500, b"[]", "status 500"),
            (302, b"[]", "status 302"),
            (200, b"<html>", "JSON"),
            (200, b'{"results": 7}', "list"),
            (200, b"[" * 100_000, "JSON"),
            (200, b"x" * 5_000_000, "bytes"),
        ],
    )
    def test_nonsense_is_502(self, upstream: Upstream, cache: Path, status: int, body: bytes, detail: str) -> None:
        upstream.status, upstream.body = status, body
        upstream.go.set()
        with serving("--upstream", upstream.url, cache=cache) as service:
            assert detail in problem(service.get("/search?q=a"), 502)

    def test_odd_results_are_made_straight(self, upstream: Upstream, cache: Path) -> None:
        odd = [{"title": 7, "snippet": "abc", "marks": [[1, 2], [0, 1], [2, 9], "x"], "score": "high"}, None, {"title": "t" * 5000}]
        upstream.body = json.dumps({"results": odd}).encode()
        upstream.go.set()
        with serving("--upstream", upstream.url, cache=cache) as service:
            one, two = service.get("/search?q=a").json()["results"]
            assert one == {"title": "", "where": "", "snippet": "abc", "marks": [[1, 2]], "score": 0.0}
            assert len(two["title"]) == 2000

    def test_one_service_can_stand_before_another(self, service: Service, cache: Path) -> None:
        with serving("--upstream", f"{service.url}search?q={{query}}&limit={{limit}}", cache=cache) as front:
            ours, theirs = (one.get("/search?q=number9&limit=2").json() for one in (front, service))
            assert ours["results"] == theirs["results"] != []


class Load:
    """A steady stream of requests from several clients, until it is stopped."""

    def __init__(self, url: str, clients: int = 8) -> None:
        self.statuses: Counter[int] = Counter()
        self.errors: list[BaseException] = []
        self.unready: list[httpx.Response] = []
        self._stopped = threading.Event()
        self._url = url
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def _ask(self, number: int) -> None:
        turn = 0
        with httpx.Client(base_url=self._url, timeout=15.0, trust_env=False) as client:
            while not self._stopped.is_set():
                turn += 1
                try:
                    answer = client.get("/search", params={"q": f"number{(turn * 7 + number) % 40}"})
                except httpx.HTTPError as error:
                    self.errors.append(error)
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code == 503:
                    self.unready.append(answer)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(20.0)

    def more(self, requests: int = 50) -> None:
        """Wait for so many answers from now on."""
        enough = self.statuses.total() + requests
        until(lambda: self.statuses.total() >= enough, 20.0)


def flat(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {node["name"]: node}
    for child in node["children"]:
        found.update(flat(child))
    return found


class TestCrashes:
    @pytest.mark.parametrize("how", ["raise", "kill"])
    def test_every_server_may_crash_under_load(self, documents: Path, cache: Path, how: str) -> None:
        with serving("--documents", str(documents), "--rate", "100000/60", "--chaos", cache=cache) as service:
            service.ready()
            before = flat(service.stats()["tree"])
            with Load(service.url) as load:
                for name in SERVERS:
                    load.more()
                    assert service.client.post(f"/crash/{name}", params={"how": how}).status_code == 202
                load.more()
            assert load.errors == []
            assert set(load.statuses) <= {200, 429, 503}, load.statuses
            assert load.statuses[503] <= 8 * len(SERVERS)  # what was in flight at the server that crashed
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in load.unready)
            after = flat(service.stats()["tree"])
            assert {name: node["status"] for name, node in after.items()} == dict.fromkeys(before, "running")
            assert {name: node["restarts"] for name, node in after.items()} == {name: int(name in SERVERS) for name in before}
            assert all((after[name]["pid"] != before[name]["pid"]) == (name in SERVERS) for name in before)

    def test_waiting_clients_are_told_at_once_and_nothing_of_the_server(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, "--chaos", cache=cache) as service:
            found: list[httpx.Response] = []
            waiting = threading.Thread(target=lambda: found.append(service.get("/search?q=secret")))
            waiting.start()
            until(lambda: upstream.asked["secret"])
            begin = time.monotonic()
            assert httpx.post(f"{service.url}crash/searches", trust_env=False).status_code == 202
            waiting.join(10)
            assert time.monotonic() - begin < 3
            assert problem(found[0], 503) == "A part of this service cannot answer just now. Try again."
            assert found[0].headers["retry-after"] == "1"
            upstream.go.set()
            assert service.get("/search?q=secret").status_code == 200

    def test_without_chaos_there_is_no_such_thing(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, cache=cache) as service:
            problem(service.client.post("/crash/searches"), 404)
            assert service.stats()["chaos"] is False

    def test_another_site_may_not_crash_anything(self, service: Service) -> None:
        problem(service.client.post("/crash/searches", headers={"origin": "http://evil.example"}), 403)
        assert "There are: observer" in problem(service.client.post("/crash/engine"), 404)
        problem(service.client.post("/crash/http?how=never"), 400)


class TestTheEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_under_load_loses_no_accepted_request(self, documents: Path, cache: Path, number: int) -> None:
        with serving("--documents", str(documents), "--rate", "100000/60", cache=cache) as service:
            service.ready()
            with Load(service.url) as load:
                load.more()
                assert service.stop(number) == 0
            assert set(load.statuses) == {200}
            # Who comes after the end is refused the connection: that is no request. Any other error is one that was lost.
            assert {type(error) for error in load.errors} <= {httpx.ConnectError}, load.errors

    def test_a_slow_request_is_finished_first(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, cache=cache) as service:
            found: list[httpx.Response] = []
            slow = threading.Thread(target=lambda: found.append(service.get("/search?q=slow")))
            slow.start()
            until(lambda: upstream.asked["slow"])
            service.process.terminate()
            threading.Timer(0.5, upstream.go.set).start()
            assert service.process.wait(20) == 0
            slow.join(10)
            assert found[0].status_code == 200
            assert found[0].headers["connection"] == "close"

    def test_one_that_takes_too_long_is_cut_off(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, "--grace", "0.5", cache=cache) as service:
            where = urlsplit(service.url)
            with socket.create_connection((where.hostname, where.port)) as waiting:
                waiting.sendall(b"GET /search?q=slow HTTP/1.1\r\nhost: x\r\n\r\n")
                until(lambda: upstream.asked["slow"])
                begin = time.monotonic()
                assert service.stop() == 0
                assert time.monotonic() - begin < 5

    def test_a_page_that_watches_does_not_hold_it_up(self, upstream: Upstream, cache: Path) -> None:
        with serving("--upstream", upstream.url, cache=cache) as service, service.client.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))["tree"]["name"] == "search_service"
            begin = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - begin < 5
            assert list(lines)[-1:] in ([], [""])


class TestStarting:
    def test_without_an_index_it_says_so_until_there_is_one(self, tmp_path: Path) -> None:
        """With Python's own documentation, whose index takes seconds to build."""
        with serving(cache=tmp_path) as service:
            answer = service.get("/readyz")
            assert "being built" in problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
            answer = service.get("/search?q=asyncio.Queue")
            assert "being built" in problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
            assert service.get("/healthz").status_code == 200
            service.ready()
            found = service.get("/search?q=asyncio.Queue").json()
            assert found["cached"] is False
            assert found["results"][0]["title"] == "asyncio.Queue"

    def test_changed_documents_are_found_and_old_answers_forgotten(self, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "one.md").write_text("# One\n\nzebra")
        with serving("--documents", str(tmp_path / "docs"), "--look-every", "0.2", cache=tmp_path / "cache") as service:
            service.ready()
            assert len(service.get("/search?q=zebra").json()["results"]) == 1
            (tmp_path / "docs" / "two.md").write_text("# Two\n\nzebra crossing")
            until(lambda: len(service.get("/search?q=zebra").json()["results"]) == 2, 20)

    def test_an_old_index_serves_while_the_new_one_is_made(self, documents: Path, tmp_path: Path) -> None:
        with serving("--documents", str(documents), cache=tmp_path) as service:
            service.ready()
        with serving("--documents", str(documents), cache=tmp_path) as service:
            assert service.get("/readyz").status_code == 200
            assert service.get("/search?q=number5").status_code == 200

    def test_a_file_that_cannot_be_read_is_one_warning(self, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "good.md").write_text("# Good\n\nzebra")
        (tmp_path / "docs" / "bad.md").write_bytes(b"\x00\xff" * 100)
        with serving("--documents", str(tmp_path / "docs"), cache=tmp_path / "cache") as service:
            service.ready()
            report = until(lambda: service.stats()["index"]["report"])
            assert (report["documents"], report["problems"]) == (1, 1)
            assert report["first_problems"][0].startswith("bad.md: ")
            assert "bad.md" in until(lambda: "skipped" in service.log and service.log)

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (["--documents", "/no/such/folder"], 1, "does not exist"),
            (["--host", "256.1.1.1"], 1, "cannot listen"),
            (["--port", "70000"], 2, "port"),
            (["--rate", "many"], 2, "N/SECONDS"),
            (["--rate", "0/60"], 2, "--rate must be 1 or more"),
            (["--cache-size", "0"], 2, "--cache-size"),
            (["--upstream", "ftp://x/{query}"], 2, "http://"),
            (["--upstream", "http://x/"], 2, "{query}"),
            (["--upstream", "http://x/{query}", "--documents", "."], 2, "exclude"),
            (["--log-level", "loud"], 2, "loud"),
        ],
    )
    def test_wrong_options_are_told_in_one_line(self, arguments: list[str], code: int, text: str) -> None:
        status, complaint = refused(*arguments)
        assert (status, "Traceback" in complaint) == (code, False), complaint
        assert text in complaint.splitlines()[-1]

    def test_a_wrong_environment_is_told_as_well(self) -> None:
        assert "--rate" in refused(BEAMISH_RATE="many")[1]
        assert "BEAMISH_LOG_LEVEL" in refused(BEAMISH_LOG_LEVEL="loud")[1]

    def test_a_port_in_use_is_told(self, service: Service) -> None:
        status, complaint = refused("--port", str(urlsplit(service.url).port))
        assert status == 1
        assert complaint.strip().endswith("Choose another with --host or --port.")


class TestThePageAndItsAssets:
    def test_all_comes_from_the_service_under_a_strict_policy(self, service: Service) -> None:
        page = service.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "://" not in page.text.replace("http://…", "")
        for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml")):
            asset = service.get(path)
            assert asset.headers["content-type"].startswith(kind)
            assert asset.headers["x-content-type-options"] == "nosniff"
            assert len(asset.content) > 100
