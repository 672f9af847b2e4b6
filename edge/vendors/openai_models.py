"""Capabilities of OpenAI's models, by name.

A name may have a vendor's prefix ("openai/gpt-5"). An unknown name is another server's model, which
accepts the older, plainer forms. Source: OpenAI's model pages and guide to reasoning models.
"""

import re
from functools import lru_cache

_MODELS = 256
"""Names of models whose capabilities are kept: each call and message of a history needs them."""
_REASONING = re.compile(r"o[1-9]|codex")
_GPT = re.compile(r"gpt-(\d+)(?:\.(\d+))?")

_OLDEST = ("low", "medium", "high")
_FIRST_FIVE = ("minimal", "low", "medium", "high")
_FIVE_ONE = ("none", "low", "medium", "high")
_NEWEST = ("none", "low", "medium", "high", "xhigh")
_ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@lru_cache(_MODELS)
def is_openai(model: str) -> bool:
    """Whether OpenAI serves `model` itself; its open weights (gpt-oss) do not count."""
    name = _bare(model)
    if name.startswith("gpt-oss"):
        return False
    return name.startswith(("gpt-", "chatgpt-", "codex-")) or bool(_REASONING.match(name))


@lru_cache(_MODELS)
def reasons(model: str) -> bool:
    """Whether `model` is a reasoning model of OpenAI: the o-series, GPT-5 and later, Codex.

    They have the role `developer`, count reasoning in `max_completion_tokens`, have no
    `max_tokens`, and accept neither `stop` nor, while reasoning, sampling settings.
    """
    name = _bare(model)
    if _REASONING.match(name):
        return True
    version = _GPT.match(name)
    return version is not None and int(version[1]) >= 5 and "-chat" not in name


def takes_sampling(model: str, effort: str | None) -> bool:
    """Whether `temperature`, `top_p`, penalties and `logprobs` may be sent.

    effort: as it will be sent. GPT-5.1 and later accept them with the effort "none".
    """
    return not reasons(model) or effort == "none"


def nearest_effort(model: str, effort: str) -> str:
    """The level of `model` nearest to `effort`; of two equally near, the higher one."""
    levels = _levels(_bare(model)) if reasons(model) else ("none", *_OLDEST)
    if effort in levels:
        return effort
    wanted = _ORDER.index(effort)
    return min(levels[::-1], key=lambda level: abs(_ORDER.index(level) - wanted))


def _levels(name: str) -> tuple[str, ...]:
    version = _GPT.match(name)
    if version is None:
        return _OLDEST
    number = (int(version[1]), int(version[2] or 0))
    if "codex" in name:
        return (*_OLDEST, "xhigh") if number > (5, 1) or "-max" in name else _OLDEST
    if number == (5, 0):
        return _FIRST_FIVE
    return _FIVE_ONE if number == (5, 1) else _NEWEST


def _bare(model: str) -> str:
    return model.rsplit("/", 1)[-1].lower()
