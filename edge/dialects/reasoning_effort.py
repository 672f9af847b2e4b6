"""Reasoning effort: OpenAI's levels and Anthropic's token budgets, converted both ways.

One table serves both directions, so that a level survives two conversions:

    level      minimal   low    medium   high     xhigh    max
    budget     1024      4096   8192     16384    32768    what the model can
    read from  below     2048   6144     12288    24576    49152 on
"""

from collections.abc import Collection
from typing import Any

from .conversation import EFFORTS, Reasoning
from .validation import one_of

LEAST_BUDGET = 1024
"""Tokens; the API accepts no smaller budget, and no limit that leaves less for the answer."""
_LEFT_OF_MAX = 4096
_LARGE = 49152

_UNSAID = ("", "default", "auto")
"""Words for the model's own default level (Groq, vLLM)."""
_OFF = ("off", "disable", "disabled")
_BUDGETS = {"minimal": LEAST_BUDGET, "low": 4096, "medium": 8192, "high": 16384, "xhigh": 32768}
_BELOW = ((2048, "minimal"), (6144, "low"), (12288, "medium"), (24576, "high"), (_LARGE, "xhigh"))


def read_effort(value: Any, path: str, words: Collection[str] = EFFORTS) -> str | None:
    """The level at `path`, in OpenAI's words or those of other servers.

    None if it is left to the model. Raises Problem for any word not in `words`.
    """
    if value is None or value in _UNSAID:
        return None
    return one_of("none" if value in _OFF and "none" in words else value, path, words)


def level_of(reasoning: Reasoning) -> str | None:
    """The level of `reasoning`, one of `conversation.EFFORTS`; None if not set."""
    if reasoning.mode == "disabled":
        return "none"
    if reasoning.mode != "enabled" or reasoning.budget is None:
        return reasoning.effort
    for bound, level in _BELOW:
        if reasoning.budget < bound:
            return level
    return "max"


def budget_of(level: str, most: int | None) -> int:
    """Tokens of thinking for a level other than "none".

    most: the model's limit of output tokens, None if unknown.
    """
    if level in _BUDGETS:
        return _BUDGETS[level]
    return _LARGE if most is None else max(LEAST_BUDGET, most - _LEFT_OF_MAX)
