"""Error messages for unknown and forbidden models, with the closest name.

Theory of operation. Names are compared without case, punctuation and what stands before a slash
(`OpenAI/GPT_4o` is `gpt4o`). The letters and pairs of letters that two names share pick a few
candidates in about three microseconds a name; `difflib` compares these.
"""

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import islice, pairwise

from middlewares.exchange import Dialect, Principal

from .catalog import Catalog

_LIST = " GET /v1/models lists the models that this key may use."
_MOST_NAMES = 500
_LONGEST = 100
"""Characters of a name that are compared."""
_SHORTEST = 4
"""Minimum length of a common prefix."""
_CANDIDATES = 8
_SHARED = 0.5
_CLOSE = 0.7
_PUNCTUATION = re.compile(r"[\W_]+")


def not_found(catalog: Catalog, principal: Principal | None, name: str, dialect: Dialect) -> str:
    """The message for an unknown `name`, with the closest name that `principal` may use.

    It begins with the vendor's wording, which clients recognize.
    """
    if dialect == "anthropic":
        said = f"model: {name}."
    else:
        said = f"The model `{name}` does not exist or you do not have access to it."
    near = closest(name, _usable(catalog, principal or Principal(id="")))
    if near is not None:
        said += f" Did you mean `{near}`?"
    return said + _list(catalog)


def not_allowed(catalog: Catalog, name: str) -> str:
    """The message for a `name` that this key may not use."""
    return f"This key may not use `{name}`.{_list(catalog)}"


def _list(catalog: Catalog) -> str:
    return _LIST if catalog.offered else ""


def closest(asked: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`, or None if none is similar. Compares the first 500."""
    wanted = _form(asked)
    letters = _letters(wanted)
    scored: list[tuple[float, str]] = []
    for name in islice(names, _MOST_NAMES):
        form = _form(name)
        score = 1.0 if _begins(wanted, form) else _shared(letters, _letters(form))
        if score >= _SHARED:
            scored.append((score, name))
    likely = [name for _, name in nlargest(_CANDIDATES, scored, key=lambda one: one[0])]
    found = max(likely, key=lambda name: _likeness(asked, name), default=None)
    return found if found is not None and _likeness(asked, found)[0] >= _CLOSE else None


def _usable(catalog: Catalog, principal: Principal) -> Iterator[str]:
    """Ids, then aliases, so that an id wins over an equally close alias."""
    models = catalog.visible(principal)
    for model in models:
        yield model.id
    for model in models:
        yield from model.aliases


def _form(name: str) -> str:
    """The normalized form of a name for comparison."""
    return _PUNCTUATION.sub("", name[:_LONGEST].lower().rpartition("/")[2])


def _letters(form: str) -> set[str]:
    return {*form, *map("".join, pairwise(form))}


def _shared(one: set[str], other: set[str]) -> float:
    """Similarity of two sets, 0 to 1 (Dice's coefficient)."""
    both = len(one) + len(other)
    return 2 * len(one & other) / both if both else 0.0


def _begins(one: str, other: str) -> bool:
    """Whether one name is a prefix of the other: `gpt-4o-2024-08-06` and `gpt-4o`."""
    least = min(len(one), len(other))
    return least >= _SHORTEST and one[:least] == other[:least]


def _likeness(asked: str, name: str) -> tuple[float, float]:
    """Similarity, 0 to 1, of the normalized forms and of the names as written."""
    one, other = _form(asked), _form(name)
    ratio = _ratio(one, other)
    if _begins(one, other):
        ratio = _CLOSE + (1 - _CLOSE) * ratio
    return ratio, _ratio(asked[:_LONGEST], name)


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
