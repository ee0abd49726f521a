"""A private PostgreSQL for tests: made, started, killed with -9, started again, and gone at the end. The machine's own is never used.

with postgres.server() as pg:
    url = pg.database()     # an empty database
    pg.kill()               # all of its processes at once, as when the machine loses its power
    pg.start()              # it recovers from its log, on the same port
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import glob
import hashlib
import importlib.util
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

PROGRAMS = ("initdb", "postgres")
#: Where distributions put the programs that they leave off the PATH.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/bin")
USER = "beamish"
#: PostgreSQL refuses to be run by root; its files belong to this user then.
UNPRIVILEGED = "nobody"
DEADLINE = 60.0
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
    "autovacuum": "off",
    "unix_socket_permissions": "0777",
}
#: Of no use to who loses power, which a test's server does not: a kill -9 keeps what was written, synced or not.
NO_SYNC = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


def programs() -> Path | None:
    """The folder that holds PostgreSQL's programs: the one on the PATH, else the newest."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += [Path(place) for pattern in PLACES for place in sorted(glob.glob(pattern), key=_version, reverse=True)]
    return next((folder for folder in found if all(os.access(folder / name, os.X_OK) for name in PROGRAMS)), None)


def _version(place: str) -> list[int]:
    return [int(digits) for part in place.split("/") if (digits := "".join(filter(str.isdigit, part)))]


def missing() -> str | None:
    """Why there can be no PostgreSQL here, or None."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'beamish[postgres]')"
    if os.name != "posix":
        return "the private PostgreSQL of the tests needs a POSIX system"
    return None if programs() else "PostgreSQL's programs initdb and postgres are not installed (Debian: postgresql)"


@functools.cache
def _template() -> Path:
    """The files of a fresh server, made once: initdb takes two seconds, a copy a tenth of one."""
    folder = _folder("template")
    _run("initdb", "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
    return folder / "data"


def _folder(what: str) -> Path:
    """A new folder of the user that runs the server. Not pytest's `tmp_path`: that one is root's alone, where root runs the tests."""
    folder = tempfile.mkdtemp(prefix=f"beamish-postgres-{what}-", dir="/tmp")  # a socket's path may have 107 characters
    if os.geteuid() == 0:
        shutil.chown(folder, UNPRIVILEGED, pwd.getpwnam(UNPRIVILEGED).pw_gid)
    os.chmod(folder, 0o755)
    _FOLDERS.append(folder)
    return Path(folder)


_FOLDERS: list[str] = []


def _command(program: str, *arguments: str) -> list[str]:
    folder = programs()
    assert folder is not None, missing()
    # Who ends a test run with a signal leaves no server behind. It counts from the thread that starts the server.
    last_will = ["setpriv", "--pdeathsig", "QUIT"] if program == "postgres" and shutil.which("setpriv") else []
    return [*last_will, str(folder / program), *arguments]


def _as_user() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(_command(program, *arguments), capture_output=True, text=True, cwd="/", timeout=DEADLINE, **_as_user())  # type: ignore[call-overload]
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


def _free_port() -> int:
    """Below the ports that the system gives away by itself: one that is free now is free after a restart too."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server:
    """One PostgreSQL: its files, and its processes while it runs. `durable` asks for fsync as a real one has it."""

    def __init__(self, *, durable: bool = False, settings: dict[str, str] | None = None) -> None:
        self.folder = _folder("server")
        self.port = _free_port()
        subprocess.run(["cp", "-a", str(_template()), str(self.folder / "data")], check=True)
        self.settings = SETTINGS | ({} if durable else NO_SYNC) | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def url(self, database: str = "postgres", *, tcp: bool = False, user: str = USER, password: str | None = None) -> str:
        """How to reach it: by its socket in the file system, or by TCP."""
        who = user if password is None else f"{user}:{quote(password, safe='')}"
        if tcp:
            return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{who}@/{database}?host={self.folder}&port={self.port}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """As its superuser, each statement by itself."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start it, or start it again, and wait until it takes connections. After `kill` it recovers first."""
        assert self._process is None, "it runs already"
        settings = self.settings | {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = _command("postgres", "-D", str(self.folder / "data"), *options)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **_as_user())  # type: ignore[call-overload]
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE
        while not self._is_ready():
            said = self._process.poll() is not None or time.monotonic() > deadline
            assert not said, f"PostgreSQL did not start: {self.log.read_text()[-2000:]}"
            time.sleep(0.02)  # real time: the server is another process

    def _is_ready(self) -> bool:
        """What pg_ctl looks at: the eighth line of the file that holds the process id."""
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        assert self._process is not None
        return len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(self._process.pid)

    def stop(self) -> None:
        """In order, as its administrator would: clients are told, then their connections end."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(DEADLINE)
            self._process = None

    def kill(self) -> None:
        """With -9, every process of it at the same moment, in the middle of whatever it does."""
        assert self._process is not None
        self.pause()
        self._signal(signal.SIGKILL)
        self._process.wait(DEADLINE)
        self._process = None

    def pause(self) -> None:
        """It holds still: connections stay open and nothing is answered, until `resume`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # first, so that it starts no process behind our back
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it had ended by itself

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _children(parent: int) -> list[int]:
    """The processes that a process has started, where /proc tells, else from `ps`."""
    if os.path.isdir("/proc/self"):
        pairs = [_pid_and_parent(stat) for stat in glob.glob("/proc/[0-9]*/stat")]
    else:
        printed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [(int(line.split()[0]), int(line.split()[1])) for line in printed.splitlines()]
    return [pid for pid, its_parent in pairs if its_parent == parent]


def _pid_and_parent(stat: str) -> tuple[int, int]:
    try:
        text = Path(stat).read_text()
    except OSError:
        return 0, 0  # it ended while we looked
    return int(text.split()[0]), int(text.rpartition(")")[2].split()[1])


@contextmanager
def server(*, durable: bool = False, settings: dict[str, str] | None = None) -> Generator[Server]:
    """A running server of one's own, to be treated badly."""
    with Server(durable=durable, settings=settings) as fresh:
        yield fresh


class Proxy:
    """Between a client and a server, on the test's loop: it can keep back what either says, and break connections in the middle.

    async with Proxy(pg) as proxy:
        engine = Postgres(proxy.through(url))
        proxy.hold("answers")
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.folder = _folder("proxy")
        self.held = asyncio.Event()
        """Something is being kept back."""
        self._pipes: set[_Pipe] = set()

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_unix_server(self._accept, self.folder / f".s.PGSQL.{self.server.port}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listener.close()
        self.release()
        self.cut()
        while self._pipes:  # noqa: ASYNC110
            await asyncio.sleep(0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def through(self, url: str) -> str:
        """The URL of a database, by way of this proxy."""
        return url.replace(str(self.server.folder), str(self.folder))

    def hold(self, *directions: str) -> None:
        """Keep back "requests" or "answers" of the connections there are."""
        for pipe in self._pipes:
            if pipe.direction in directions:
                pipe.go.clear()

    def release(self) -> None:
        self.held.clear()
        for pipe in self._pipes:
            pipe.go.set()

    def cut(self, *ends: str) -> None:
        """Break the connections: at the client's end, the server's, or (by default) both."""
        for pipe in self._pipes:
            if not ends or ("client" if pipe.direction == "requests" else "server") in ends:
                pipe.source.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(self.server.folder / f".s.PGSQL.{self.server.port}")
        except OSError:
            writer.transport.abort()
            return
        requests, answers = _Pipe("requests", reader, writer, back, self.held), _Pipe("answers", there, back, writer, self.held)
        self._pipes |= {requests, answers}
        try:
            await asyncio.gather(requests.run(), answers.run())
        finally:
            self._pipes -= {requests, answers}


class _Pipe:
    def __init__(
        self,
        direction: str,
        reader: asyncio.StreamReader,
        source: asyncio.StreamWriter,
        target: asyncio.StreamWriter,
        held: asyncio.Event,
    ) -> None:
        self.direction = direction
        self.held = held
        self.reader = reader
        self.source = source
        self.target = target
        self.go = asyncio.Event()
        self.go.set()

    async def run(self) -> None:
        try:
            while data := await self.reader.read(65536):
                if not self.go.is_set():
                    self.held.set()
                    await self.go.wait()
                self.target.write(data)
                await self.target.drain()
        except OSError:
            pass
        finally:
            await self.go.wait()
            self.target.close()


@functools.cache
def shared() -> Server:
    """The one server of a test run, for tests that leave it alone."""
    one = Server()
    one.start()
    one.execute("CREATE DATABASE shared")
    return one


def schema_of(folder: Path) -> str:
    """A schema of the shared server's database for each folder of a test."""
    return f"s{hashlib.blake2b(bytes(folder), digest_size=8).hexdigest()}"


@atexit.register
def clean() -> None:
    """At the end of a run: the shared server, and the files that all servers were copied from."""
    if shared.cache_info().currsize:
        shared().stop()
        shared.cache_clear()
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    _FOLDERS.clear()
    _template.cache_clear()
