"""`python benchmarks/peers/run.py`: the same small programs with other libraries, each in an environment of its own, in one table.

An environment is made once, in `.venvs/peers/NAME`, from the versions pinned in `requirements/NAME.txt`.
A peer that cannot be installed, fails or hangs is shown with the reason, and the run goes on. It ends within `--seconds`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
if __package__ in (None, ""):  # run as a file: make `benchmarks` importable
    sys.path[0] = str(ROOT)

from benchmarks.harness import Machine, shown  # noqa: E402

Answer: TypeAlias = float | str

SECONDS = 300.0
SCRIPT_SECONDS = 30.0
INSTALL_SECONDS = 150.0
MARK = "\x1eanswer "


@dataclass(frozen=True, slots=True)
class Peer:
    """A script of this folder, and what must be installed for it: None runs it with the Python, and the Beamish, that runs this file."""

    name: str
    script: str
    requirements: str | None
    args: tuple[str, ...] = ()


SUBJECTS: dict[str, tuple[Peer, ...]] = {
    "a counter server": (
        Peer("asyncio by hand", "actor_asyncio.py", None),
        Peer("Beamish", "actor_beamish.py", None),
        Peer("pykka", "actor_pykka.py", "pykka"),
        Peer("fauxtp", "actor_fauxtp.py", "fauxtp"),
        Peer("triotp", "actor_triotp.py", "triotp"),
        Peer("otpylib", "actor_otpylib.py", "otpylib"),
        Peer("xoscar", "actor_xoscar.py", "xoscar"),
    ),
    "a cache": (
        Peer("Beamish", "cache_beamish.py", None),
        Peer("cachetools", "cache_cachetools.py", "cachetools"),
        Peer("aiocache", "cache_aiocache.py", "aiocache"),
    ),
    "a rate limiter": (
        Peer("Beamish", "limiter_beamish.py", None),
        *(Peer(f"limits, {kind}", "limiter_limits.py", "limits", (kind,)) for kind in ("fixed", "moving", "sliding")),
        *(
            Peer(f"throttled-py, {kind}", "limiter_throttled.py", "throttled-py", (kind,))
            for kind in ("fixed_window", "sliding_window", "token_bucket", "gcra")
        ),
    ),
}

QUESTIONS: dict[str, dict[str, str]] = {
    "a counter server": {
        "call": "ns",
        "cast": "ns",
        "crash seen by its client": "",
        "restart": "",
        "restart limit": "",
        "stop order of a, b, c": "",
    },
    "a cache": {"hit": "ns", "put that evicts": "ns", "100 callers, one key: loads": "", "a cached None": ""},
    "a rate limiter": {
        "decision": "ns",
        "denied hot key": "ns",
        "memory of a key, 1 request": "B",
        "denied key after 1,100 other keys": "",
    },
}
"""What every script of a subject answers, with the unit of a figure."""


class Unavailable(Exception):
    """The peer cannot be measured, for the reason in the text."""


@dataclass(slots=True)
class Outcome:
    answers: dict[str, Answer] = field(default_factory=dict)
    problem: str | None = None


class Deadline:
    """What is left of the time for the whole run."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def at_most(self, seconds: float) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise Unavailable("the time for the whole run is over")
        return min(seconds, left)


def environment(name: str, folder: Path, deadline: Deadline) -> Path:
    """The Python of the peer's environment, made when it is not there or was made from other versions."""
    wanted = f"{sys.version}\n{(HERE / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')}"
    home = folder / name
    python, stamp = home / "bin" / "python", home / "installed.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    pip = ["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--only-binary=:all:"]
    _must([sys.executable, "-m", "venv", str(home)], deadline.at_most(60.0))
    _must([str(python), *pip, "-r", str(HERE / "requirements" / f"{name}.txt")], deadline.at_most(INSTALL_SECONDS))
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _must(command: list[str], seconds: float) -> None:
    code, output = bounded(command, seconds)
    if code is None:
        raise Unavailable(f"not installed: no end within {seconds:.0f} s")
    if code:
        errors = [line for line in output.splitlines() if line.startswith("ERROR")]
        raise Unavailable(f"not installed: {(errors or output.splitlines() or [f'exit code {code}'])[-1]}")


def bounded(command: list[str], seconds: float, **variables: str) -> tuple[int | None, str]:
    """The exit code (None: it was too slow, and was killed with its children) and what was printed until then."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, **variables},
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)
        return None, _rest(process)
    finally:
        _kill_group(process.pid)


def _rest(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=5.0)[0]
    except subprocess.TimeoutExpired:  # a grandchild in a session of its own still holds the pipe
        return ""


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(peer: Peer, pythons: dict[str, Path | Unavailable], deadline: Deadline) -> Outcome:
    outcome = Outcome()
    try:
        python = Path(sys.executable) if peer.requirements is None else pythons[peer.requirements]
        if isinstance(python, Unavailable):
            raise python
        seconds = deadline.at_most(SCRIPT_SECONDS)
        own = {"PYTHONPATH": str(ROOT)} if peer.requirements is None else {}
        code, output = bounded([str(python), "-W", "ignore", str(HERE / peer.script), *peer.args], seconds, **own)
    except Unavailable as problem:
        outcome.problem = str(problem)
        return outcome
    lines = output.splitlines()
    outcome.answers = dict(json.loads(line.removeprefix(MARK)) for line in _answers(output))
    if code is None:
        outcome.problem = f"no end within {seconds:.0f} s"
    elif code:
        outcome.problem = lines[-1][:200] if lines else f"exit code {code}"
    return outcome


def _answers(output: str) -> Iterable[str]:
    # Not splitlines(): the mark is one of its line ends.
    return (line for line in output.split("\n") if line.startswith(MARK))


def table(outcomes: dict[str, dict[str, Outcome]]) -> str:
    return "\n\n".join(
        _block(subject, question, unit, outcomes[subject]) for subject in outcomes for question, unit in QUESTIONS[subject].items()
    )


def _block(subject: str, question: str, unit: str, peers: dict[str, Outcome]) -> str:
    return "\n".join([f"{subject}: {question}", *(f"  {name:<30} {_cell(question, unit, outcome)}" for name, outcome in peers.items())])


def _cell(question: str, unit: str, outcome: Outcome) -> str:
    answer = outcome.answers.get(question)
    if isinstance(answer, int | float):
        return f"{shown(answer, unit):>11}"
    return answer or f"– ({outcome.problem or 'no answer'})"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks/peers/run.py", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", help="peers with NAME in their name")
    parser.add_argument("--venvs", metavar="FOLDER", type=Path, default=ROOT / ".venvs" / "peers")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the longest the whole run may take")
    parser.add_argument("--json", metavar="FILE", type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    deadline = Deadline(options.seconds)
    machine = Machine.here()
    print(machine, flush=True)
    subjects = {
        subject: [peer for peer in peers if not options.only or any(word in peer.name for word in options.only)]
        for subject, peers in SUBJECTS.items()
    }
    subjects = {subject: peers for subject, peers in subjects.items() if peers}
    pythons = _environments(
        {peer.requirements for peers in subjects.values() for peer in peers if peer.requirements}, options.venvs, deadline
    )
    outcomes: dict[str, dict[str, Outcome]] = {subject: {} for subject in subjects}
    for subject, peers in subjects.items():
        for peer in peers:  # one after the other: each has the machine for itself
            outcomes[subject][peer.name] = outcome = run(peer, pythons, deadline)
            print(f"{peer.name}: {outcome.problem or 'done'}", flush=True)
    print(f"\n{table(outcomes)}")
    if options.json:
        options.json.write_text(as_json(machine, outcomes) + "\n", encoding="utf-8")
    return 0


def _environments(names: Iterable[str], folder: Path, deadline: Deadline) -> dict[str, Path | Unavailable]:
    def make(name: str) -> Path | Unavailable:
        try:
            return environment(name, folder, deadline)
        except Unavailable as problem:
            return problem

    ordered = sorted(names)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ordered, pool.map(make, ordered), strict=True))


def as_json(machine: Machine, outcomes: dict[str, dict[str, Outcome]]) -> str:
    peers = {subject: {name: asdict(outcome) for name, outcome in found.items()} for subject, found in outcomes.items()}
    return json.dumps({"machine": asdict(machine), "peers": peers}, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
