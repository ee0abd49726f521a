"""Classes with a name of their own: what their `dump` gives comes back, and what `register` is given by mistake is said."""

from __future__ import annotations

from typing import Any

import pytest

from beamish import codec


class Counts:
    def __init__(self, of: dict[str, Any]) -> None:
        self.of = of


codec.register("test_codec_register.Counts", Counts, dump=lambda counts: dict(counts.of), load=Counts)


@pytest.mark.parametrize(
    "of",
    [
        {"ann": 1},
        {"@ann": 1},
        {"": 1},
        {"$tuple": [1, 2]},
        {"$float": "nan"},
        {"$unheard of": 1},
        {"@test_codec_register.Counts": {"x": 1}},
        {"$tuple": 1, "@ann": 2},
    ],
    ids=str,
)
def test_a_key_of_a_dump_is_not_taken_for_a_word_of_the_codec(of: dict[str, Any]) -> None:
    assert codec.decode(codec.encode(Counts(of))).of == of
    assert codec.decode_chunks(codec.encode_chunks([Counts(of)] * 2000))[1999].of == of


def test_the_parentheses_are_forgotten() -> None:
    with pytest.raises(TypeError, match=r'@codec\.register\("Forgotten"\)'):

        @codec.register  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        class Forgotten:  # pyright: ignore[reportUnusedClass]
            pass
