"""The benchmarks run, and their arithmetic is right. What they measure is not tested: that is what they are for."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

WHERE = "benchmarks/ is beside src/: run `python -m pytest` in the repository's root"
beam = pytest.importorskip("benchmarks.beam", reason=WHERE)
harness = pytest.importorskip("benchmarks.harness", reason=WHERE)
run = pytest.importorskip("benchmarks.run", reason=WHERE)
reach = pytest.importorskip("benchmarks.reach", reason=WHERE)
peers = pytest.importorskip("benchmarks.peers.run", reason=WHERE)


def suite_of(*variants):
    return harness.measure(variants, rounds=3)


class TestMeasure:
    def test_variants_take_turns_within_each_round(self) -> None:
        turns: list[str] = []

        def turn(name):
            return harness.Variant("row", name, lambda n: float(len(turns.append(name) or turns)), 1)

        suite_of(turn("a"), turn("b"))
        assert turns == ["a", "b"] * 3

    def test_the_figure_is_the_median_and_the_ratio_is_against_the_baseline(self) -> None:
        noisy = iter([1.0, 90.0, 2.0])
        [slow, quick] = suite_of(
            harness.Variant("row", "slow", lambda n: 10.0, 1, baseline=True), harness.Variant("row", "quick", lambda n: next(noisy), 1)
        )
        assert (slow.ratio, quick.median, quick.ratio) == (1.0, 2.0, 5.0)

    def test_the_ratio_is_that_of_neighbours_in_time(self) -> None:
        moods = iter([10.0, 1.0, 30.0, 3.0, 20.0, 2.0])
        [slow, quick] = suite_of(
            harness.Variant("row", "slow", lambda n: next(moods), 1, baseline=True),
            harness.Variant("row", "quick", lambda n: next(moods), 1),
        )
        assert [theirs / ours for theirs, ours in zip(slow.rounds, quick.rounds, strict=True)] == [10.0] * 3
        assert quick.ratio == 10.0

    def test_the_variants_of_a_row_are_neighbours(self) -> None:
        rows = [harness.Variant(row, name, lambda n: 1.0, 1) for row, name in ("ax", "bx", "ay")]
        assert [(one.row, one.name) for one in harness.by_row(rows)] == [("a", "x"), ("a", "y"), ("b", "x")]

    def test_one_figure_per_operation_gives_a_percentile(self) -> None:
        [result] = suite_of(harness.Variant("row", "list", lambda n: [float(figure) for figure in range(100)], 100))
        assert (result.median, result.p99) == (49.5, 99.0)

    def test_a_variant_that_raises_ends_the_run(self) -> None:
        with pytest.raises(ZeroDivisionError):
            suite_of(harness.Variant("row", "broken", lambda n: 1 / 0, 1))


class TestCommand:
    @pytest.mark.timeout(240)
    def test_quick_runs_every_variant_and_writes_json(self, tmp_path: Path) -> None:
        file = tmp_path / "figures.json"
        command = [sys.executable, "-m", "benchmarks", "--quick", "--check", "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)  # by itself: the garbage of all tests is collected nowhere
        assert done.returncode == 0, done.stderr
        rows = {result["row"] for result in json.loads(file.read_text(encoding="utf-8"))["results"]}
        assert rows >= beam.SCRIPTS.keys()
        assert "asyncio: Queue + Future" in done.stdout
        assert "memory of an idle server: at least 1× BEAM: GenServer (not measured)" in done.stdout

    def test_only_keeps_the_baseline_of_the_row(self) -> None:
        variants = [variant for suite in run.SUITES for variant in suite.variants]
        assert any(variant.baseline for variant in run.chosen(variants, ["timeout"]))

    def test_without_elixir_a_sentence_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert beam.figures({"call"}, rounds=1) == ([], ["elixir not found: BEAM column left empty"])


class TestAims:
    def test_every_aim_is_about_lines_that_are_measured(self) -> None:
        lines = {(variant.row, variant.name) for suite in run.SUITES for variant in suite.variants}
        lines |= {(row, f"BEAM: {name}") for row, (_, name) in beam.SCRIPTS.items()}
        for aim in reach.REACHES:
            assert (aim.row, aim.name) in lines
            assert aim.against is None or (aim.row, aim.against) in lines

    def test_an_aim_is_met_missed_or_not_measured(self) -> None:
        results = suite_of(
            harness.Variant("row", "slow", lambda n: 10.0, 1, baseline=True), harness.Variant("row", "quick", lambda n: 5.0, 1)
        )
        aims = [
            reach.Reach("row", "quick", "slow", times=2),
            reach.Reach("row", "quick", "slow", times=3),
            reach.Reach("row", "quick", at_most=5.0),
            reach.Reach("row", "slow", "quick", at_most=4.0),
            reach.Reach("row", "quick", "BEAM: none", times=1),
            reach.Reach("another row", "quick", times=1),
        ]
        assert [line.split()[0] for line in reach.report(results, aims).splitlines()] == ["met", "missed", "met", "missed", "–"]


class TestPeers:
    def test_a_peer_that_hangs_is_ended_and_keeps_what_it_said(self) -> None:
        start = time.monotonic()
        code, output = peers.bounded([sys.executable, "-c", "import time; print('said', flush=True); time.sleep(60)"], 1.5)
        assert (code, output) == (None, "said\n")
        assert time.monotonic() - start < 20

    def test_a_peer_that_cannot_be_installed_is_shown_with_the_reason(self) -> None:
        peer = peers.Peer("absent", "actor_pykka.py", "absent")
        outcome = peers.run(peer, {"absent": peers.Unavailable("not installed: no wheel")}, peers.Deadline(10))
        assert outcome.problem == "not installed: no wheel"
        assert "no wheel" in peers.table({"a cache": {"absent": outcome}})

    @pytest.mark.parametrize("script", ["actor_beamish.py", "cache_beamish.py", "limiter_beamish.py"])
    def test_beamish_answers_what_its_peers_are_asked(self, script: str) -> None:
        [(subject, peer)] = [(subject, peer) for subject, members in peers.SUBJECTS.items() for peer in members if peer.script == script]
        outcome = peers.run(peer, {}, peers.Deadline(60))
        assert outcome.problem is None
        assert outcome.answers.keys() == peers.QUESTIONS[subject].keys()

    def test_every_peer_has_its_script_and_its_pinned_versions(self) -> None:
        for peer in (peer for members in peers.SUBJECTS.values() for peer in members):
            assert (peers.HERE / peer.script).exists()
            if peer.requirements:
                pins = (peers.HERE / "requirements" / f"{peer.requirements}.txt").read_text(encoding="utf-8").split()
                assert pins
                assert all("==" in pin for pin in pins)
