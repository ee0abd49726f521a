"""`python -m benchmarks`: measure, print the table, and put the BEAM's figures beside it when `elixir` is installed."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: make `benchmarks` importable
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import (
    baselines,
    beam,
    children,
    ets,
    harness,
    machines,
    ours,
    reach,
    registries,
    search_http,
    snapshot,
    store,
    store_postgres,
    tasks,
    testing,
)

SUITES = [
    baselines.suite,
    ours.suite,
    children.suite,
    registries.suite,
    ets.suite,
    machines.suite,
    tasks.suite,
    snapshot.suite,
    store.suite,
    store_postgres.suite,
    search_http.suite,
    testing.suite,
]
"""Where the variants come from. A new module is one import and one entry here; its baseline may stand in another."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", help="rows or variants with NAME in them, and their baselines")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs; the figures mean nothing")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--no-beam", action="store_true", help="leave the BEAM out")
    parser.add_argument("--check", action="store_true", help="say which of the aims in reach.py this run has reached")
    parser.add_argument("--json", metavar="FILE", type=Path)
    return parser.parse_args(argv)


def chosen(variants: Sequence[harness.Variant], only: Sequence[str] | None) -> list[harness.Variant]:
    if not only:
        return list(variants)
    named = [variant for variant in variants if any(word in variant.row or word in variant.name for word in only)]
    rows = {variant.row for variant in named}
    return [variant for variant in variants if variant in named or (variant.baseline and variant.row in rows)]


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    machine = harness.Machine.here(options.loop)
    print(machine, flush=True)
    variants = chosen([variant for suite in SUITES for variant in suite.variants], options.only)
    if not variants:
        print(f"No variant matches --only {', '.join(options.only)}.")
        return 2
    results = harness.measure(variants, rounds=options.rounds, quick=options.quick, loop=options.loop)
    if not options.no_beam and not options.quick:
        found, notes = beam.figures({variant.row for variant in variants}, rounds=options.rounds)
        results = harness.with_ratios([*results, *found])
        print("\n".join(notes))
    print(f"\n{harness.table(results)}")
    if options.check:
        print(f"\nAims\n{reach.report(results)}")
    if options.json:
        options.json.write_text(harness.as_json(machine, results) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
