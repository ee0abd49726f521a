"""Random trees, for hypothesis."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

from supervision.simulation import Spec, Tree

IDS = "abc"


def possible(spec: Spec) -> Spec:
    """Without what contradicts itself, and without what is a race in OTP too."""
    if not spec.traps:
        spec = replace(spec, stops_in=None)
    if spec.restart == "permanent":
        spec = replace(spec, significant=False)
    return replace(spec, timeout=None if spec.by_function else spec.timeout, named=spec.named and not spec.traps)


def without_significant(tree: Tree) -> Tree:
    """The flag means something only where there is an automatic shutdown, and is refused elsewhere."""
    if tree.auto_shutdown != "never":
        return tree
    return replace(tree, children=tuple(replace(one, significant=False) for one in tree.children))


@cache
def workers(id: str) -> st.SearchStrategy[Spec]:
    plans = st.lists(st.sampled_from(["ok", "ok", "fail", "ignore"]), max_size=5).map(lambda plan: ("ok", *plan) if plan else ())
    return st.builds(
        Spec,
        id=st.just(id),
        restart=st.sampled_from(["permanent", "transient", "temporary"]),
        shutdown=st.sampled_from([5.0, 1.3, None, "brutal_kill"]),
        traps=st.booleans(),
        starts_in=st.sampled_from([None, None, 0.0, 1.7]),
        stops_in=st.sampled_from([None, None, 0.0, 0.7, 3.1]),
        plan=st.one_of(st.just(()), st.just(()), plans, plans, st.sampled_from([("fail",), ("ignore",), ("ok", "fail", "fail", "fail")])),
        timeout=st.sampled_from([None, None, 1.1, 2.9]),
        by_function=st.booleans(),
        named=st.booleans(),
        significant=st.booleans(),
    ).map(possible)


crowds = st.builds(
    Tree,
    strategy=st.just("dynamic"),
    max_restarts=st.sampled_from([3, 2, 1, 5, 0]),
    max_seconds=st.sampled_from([5.0, 1.0]),
    max_children=st.sampled_from([None, None, 3, 1]),
)


@cache
def branches(id: str, depth: int) -> st.SearchStrategy[Spec]:
    return st.builds(
        Spec,
        id=st.just(id),
        restart=st.sampled_from(["permanent", "permanent", "transient", "temporary"]),
        shutdown=st.sampled_from([None, None, 5.0, 1.3, "brutal_kill"]),
        tree=st.one_of(trees(depth), trees(depth), crowds),
        by_function=st.booleans(),
        timeout=st.sampled_from([None, None, None, 2.3]),
        significant=st.booleans(),
    ).map(possible)


@cache
def specs(id: str, depth: int) -> st.SearchStrategy[Spec]:
    return st.one_of(workers(id), workers(id), branches(id, depth - 1)) if depth else workers(id)


@cache
def trees(depth: int) -> st.SearchStrategy[Tree]:
    return st.builds(
        Tree,
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        max_restarts=st.sampled_from([3, 2, 1, 5, 0] if depth < 2 else [5, 3, 20, 1]),
        max_seconds=st.sampled_from([5.0, 1.0, 5.0]),
        auto_shutdown=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
        children=st.one_of([st.tuples(*(specs(id, depth) for id in IDS[:n])) for n in ((1, 2, 3, 3, 0) if depth < 2 else (2, 3, 3))]),
    ).map(without_significant)
