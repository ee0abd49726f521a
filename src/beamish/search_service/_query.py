"""What a user typed → an expression of SQLite's FTS5. Nothing of the text is ever syntax: every word goes in as a quoted string."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_CHARACTERS = 1_000
MAX_WORDS = 16


@dataclass(frozen=True, slots=True)
class Query:
    """`name` is the whole text as a name to look up; `all_of` and `any_of` are the FTS5 expressions to try, in this order."""

    name: str
    all_of: str
    any_of: str


def parse(text: str) -> Query | None:
    """None if there is no letter or digit in it. What is beyond 1,000 characters or 16 words is not looked at.

    >>> parse('asyncio.Queue OR "pu')
    Query(name='asyncio.queue or "pu', all_of='"asyncio.Queue" "OR" "pu"*', any_of='"asyncio" OR "Queue" OR "OR" OR "pu"*')
    """
    clean = storable(text[:MAX_CHARACTERS])
    terms = [term for term in (_quotable(word) for word in clean.split()) if _words(term)][:MAX_WORDS]
    if not terms:
        return None
    words = list(dict.fromkeys(word for term in terms for word in _words(term)))[:MAX_WORDS]
    name = " ".join(clean.split()).casefold().removesuffix("()")
    # The beginning "s" of a word would match nearly every document, slowly, and tell nothing; of an ideograph one is enough.
    star = "*" if len(words[-1]) > 1 or not words[-1].isascii() else ""
    return Query(name, " ".join(_quoted(terms)) + star, " OR ".join(_quoted(words)) + star)


def storable(text: str) -> str:
    """The text without what SQLite cannot take (lone surrogates) or treats as an end (NUL), and without other control characters.

    >>> storable("a\\ud800b\\0c\\td")
    'a?b c\\td'
    """
    return text.encode("utf-8", "replace").decode("utf-8").translate(_CONTROLS)


_CONTROLS = {code: " " for code in range(32) if chr(code) not in "\t\n\r"} | {127: " "}


def _quotable(word: str) -> str:
    return word.replace('"', " ").strip()


def _words(term: str) -> list[str]:
    """Split as the index splits: at everything that is no letter, digit, private character or accent on them."""
    return "".join(character if _is_in_words(character) else " " for character in term).split()


def _is_in_words(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co" or category == "Mn"


def _quoted(words: Iterable[str]) -> list[str]:
    return [f'"{word}"' for word in words]
