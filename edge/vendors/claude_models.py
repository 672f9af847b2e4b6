"""Capabilities of Claude models, by name.

Each generation of Claude refuses settings that another requires, so each is described here. A
Claude with an unknown name is taken for the newest generation. Source: the vendor's pages on
models, thinking, effort and migration.

Any other name is another server of the Messages dialect (llama.cpp, vLLM, DeepSeek, Moonshot...).
It gets the plain dialect of 2024: sampling as requested; thinking only on request, with a budget,
no effort; structured output by a tool, since most ignore `output_config` silently; no prefill,
since it conflicts with thinking in several chat templates.
"""

import re
from typing import Literal

from msgspec import Struct

Thinks = Literal["never", "budget", "either", "adaptive", "always"]
"""never; only with a budget; with a budget or adaptively; only adaptively; and cannot be stopped"""
Sampling = Literal["any", "one", "none"]
"""temperature and top_p as requested; one of the two; neither, nor top_k"""


class Claude(Struct, frozen=True, kw_only=True):
    """One model, or all of a generation.

    thinking, sampling: see `Thinks`, `Sampling`. unasked: it thinks by default.
    efforts: levels it accepts, "" without any. prefill: the last turn may be the assistant's.
    system_turns: instructions may stand between turns. structured: it accepts a schema for its
    answer. max_output: tokens, None if unknown. vendor: it is Anthropic's own.
    """

    thinking: Thinks = "budget"
    unasked: bool = False
    sampling: Sampling = "any"
    efforts: tuple[str, ...] = ()
    prefill: bool = False
    system_turns: bool = False
    structured: bool = False
    max_output: int | None = None
    vendor: bool = True

    @property
    def adaptive(self) -> bool:
        """Whether it chooses how much to think."""
        return self.thinking in ("either", "adaptive", "always")


_128K, _64K, _32K = 128_000, 64_000, 32_000
_UP_TO_MAX = ("low", "medium", "high", "max")
_ALL = ("low", "medium", "high", "xhigh", "max")

OTHER = Claude(vendor=False)
_NEWEST = Claude(thinking="adaptive", unasked=True, sampling="none", efforts=_ALL, structured=True)
_ALWAYS_ON = Claude(
    thinking="always",
    unasked=True,
    sampling="none",
    efforts=_ALL,
    system_turns=True,
    structured=True,
    max_output=_128K,
)

_NAME = re.compile(r"(?:^|[./])claude-(?P<rest>.*)")
_FAMILY = re.compile(r"opus|sonnet|haiku|fable|mythos")
_VERSION = re.compile(r"(?<!\d)(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def claude(model: str) -> Claude:
    """The capabilities of `model`, by its name at the upstream ("claude-opus-4-5-20251101")."""
    name = _NAME.search(model.lower())
    if name is None:
        return OTHER
    found = _FAMILY.search(name["rest"])
    family = found[0] if found else ""
    version = _VERSION.search(name["rest"])
    if family in ("fable", "mythos"):
        return _ALWAYS_ON
    if version is None:
        return _NEWEST
    return _numbered(family, (int(version[1]), int(version[2] or 0)))


def _numbered(family: str, version: tuple[int, int]) -> Claude:
    if version >= (5, 0):
        # A version without a row is taken for the newest, with unknown sizes.
        return Claude(
            thinking="adaptive",
            unasked=True,
            sampling="none",
            efforts=_ALL,
            system_turns=family == "opus",
            structured=True,
            max_output=_128K if version == (5, 0) and family in ("opus", "sonnet") else None,
        )
    if version >= (4, 7):
        return Claude(
            thinking="adaptive",
            sampling="none",
            efforts=_ALL,
            system_turns=version == (4, 8),
            structured=True,
            max_output=_128K,
        )
    if version == (4, 6):
        return Claude(
            thinking="either",
            sampling="one",
            efforts=_UP_TO_MAX,
            structured=True,
            max_output=_128K,
        )
    if version == (4, 5):
        return Claude(sampling="one", prefill=True, structured=True, max_output=_64K)
    if version >= (4, 0):
        most = _32K if family == "opus" else _64K
        sampling: Sampling = "one" if version >= (4, 1) else "any"
        return Claude(sampling=sampling, prefill=True, max_output=most)
    if version == (3, 7):
        return Claude(prefill=True, max_output=_64K)
    most = 8192 if version == (3, 5) else 4096
    return Claude(thinking="never", prefill=True, max_output=most)
