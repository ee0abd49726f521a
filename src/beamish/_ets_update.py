"""Changing a part of a value: the arithmetic of `update_counter` and `update_element`. Values are replaced, never changed in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, cast

from beamish._ets_values import is_a
from beamish._ets_words import Incr
from beamish.errors import short


def part(value: Any, at: int | str | None) -> Any:
    """What is in `value` at a position, under a key or in a field; without `at`, the value itself."""
    if at is None:
        return value
    try:
        if is_a(value, Mapping) or (isinstance(at, int) and is_a(value, (tuple, list))):
            return value[at]
        if isinstance(at, str) and (is_dataclass(value) or at in getattr(value, "_fields", ())):
            found: Any = getattr(value, at)
            return found
    except (LookupError, AttributeError):
        pass
    raise ValueError(
        f"there is no {short(at)} in {short(value)}: `at` is a position in a tuple or list, a field of a dataclass or NamedTuple, "
        "or a key of a dict"
    )


def changed(value: Any, parts: Mapping[Any, Any]) -> Any:
    """`value` with other parts. They are all there already (see `part`)."""
    if is_a(value, Mapping):
        return {**value, **parts}
    if not is_a(value, (tuple, list)):
        return replace(value, **parts)
    fields: Any = getattr(value, "_fields", None)
    row: list[Any] = list(value)
    for at, new in parts.items():
        row[fields.index(at) if isinstance(at, str) else at] = new
    return row if is_a(value, list) else tuple(row) if fields is None else value._make(row)


def counted(value: Any, steps: Sequence[Incr]) -> tuple[Any, list[int]]:
    """The value after these steps, and what each of them gave. Raises, before anything is changed, if one of them can't be done."""
    results: list[int] = []
    for step in steps:
        number = part(value, step.at)
        if type(number) is not int:
            raise TypeError(f"update_counter adds to an int. Got: {short(number)} at {step.at!r} in {short(value)}")
        number += step.incr
        if step.threshold is not None and (number > step.threshold if step.incr >= 0 else number < step.threshold):
            number = cast(int, step.set_to)
        results.append(number)
        value = number if step.at is None else changed(value, {step.at: number})
    return value, results


def steps_of(incr: int | Sequence[Incr], at: Any, threshold: Any, set_to: Any) -> list[Incr]:
    """The arguments of `update_counter` as steps; raises for those that are none."""
    steps = [Incr(incr, at, threshold, set_to)] if isinstance(incr, int) else list(incr)
    if not isinstance(incr, int) and (at, threshold, set_to) != (None, None, None):
        raise TypeError("in a list of steps each has its own at=, threshold= and set_to=")
    for step in steps:
        if not isinstance(step, Incr) or type(step.incr) is not int:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"update_counter takes an int, or a list of Incr(…). Got: {short(step)}")
        for name, one in (("threshold", step.threshold), ("set_to", step.set_to)):
            if one is not None and type(one) is not int:
                raise TypeError(f"{name} is an int. Got: {short(one)}")
        if (step.threshold is None) != (step.set_to is None):
            raise ValueError(f"threshold= and set_to= go together: beyond the threshold, the counter is set to set_to. Got: {step}")
    return steps
