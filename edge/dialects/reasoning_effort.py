"""How much to think: in levels, as OpenAI says it, and in tokens, as Anthropic's older models do.

One table serves both directions, so that a level that crosses twice is the level it was:

    level      minimal   low    medium   high     xhigh    max
    budget     1024      4096   8192     16384    32768    what the model can
    read from  below     2048   6144     12288    24576    49152 on
"""

from collections.abc import Collection
from typing import Any

from .conversation import EFFORTS, Reasoning
from .validation import one_of

LEAST_BUDGET = 1024
"""Tokens; the API takes no smaller budget, and no answer that leaves less beside it."""
_LEFT_OF_MAX = 4096
_LARGE = 49152

_UNSAID = ("", "default", "auto")
"""What servers call the model's own level (Groq, vLLM)."""
_OFF = ("off", "disable", "disabled")
_BUDGETS = {"minimal": LEAST_BUDGET, "low": 4096, "medium": 8192, "high": 16384, "xhigh": 32768}
_BELOW = ((2048, "minimal"), (6144, "low"), (12288, "medium"), (24576, "high"), (_LARGE, "xhigh"))


def read_effort(value: Any, path: str, words: Collection[str] = EFFORTS) -> str | None:
    """The level that a caller names at `path`, in OpenAI's words or those of other servers.

    None where it leaves the level to the model.
    Raises Problem for what is none of `words`.
    """
    if value is None or value in _UNSAID:
        return None
    return one_of("none" if value in _OFF and "none" in words else value, path, words)


def level_of(reasoning: Reasoning) -> str | None:
    """The level that `reasoning` amounts to: one of `neutral.EFFORTS`; None: not said."""
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

    most: tokens of output the model can give, None if nobody knows.
    """
    if level in _BUDGETS:
        return _BUDGETS[level]
    return _LARGE if most is None else max(LEAST_BUDGET, most - _LEFT_OF_MAX)
