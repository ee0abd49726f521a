"""A history as a drawing: one row for each operation, one column for each moment at which something began or ended.

ann  ├─────┤     add(1) → 1
bob     ├─────┤  add(1) → 1
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from beamish.testing._history import Operation


def timeline(operations: Sequence[Operation]) -> str:
    moments = sorted({one.begin for one in operations} | {one.end for one in operations if one.end != inf})
    column = {moment: 3 * index for index, moment in enumerate(moments)}
    last = 3 * len(moments) - (0 if any(one.end == inf for one in operations) else 3)
    width = max(len(str(one.client)) for one in operations)
    rows: list[str] = []
    for one in sorted(operations, key=lambda one: (one.begin, one.end)):
        begin, end = column[one.begin], column.get(one.end, last)
        bar = "┼" if begin == end else "├" + "─" * (end - begin - 1) + ("┤" if one.end != inf else "┄")
        rows.append(f"  {one.client!s:<{width}}  {' ' * begin}{bar}{' ' * (last - begin - len(bar) + 1)}  {one}")
    return "\n".join(rows)
