"""Settings of thinking for a model of this dialect, and the settings that it excludes.

The form depends on the model (`edge.vendors.claude_models`): a level, with the model free to think
less, or a budget of tokens within the answer's limit. Explicit settings of the caller win: its
limit shrinks a budget, its forced tool call switches thinking off.
"""

from typing import Any

from msgspec import Struct

from edge.dialects.conversation import EFFORTS, Conversation, Reasoning
from edge.dialects.reasoning_effort import LEAST_BUDGET, budget_of, level_of
from edge.vendors.claude_models import Claude

UNKNOWN_LIMIT = 4096
"""Output tokens that every model supports."""
_LEAST_BESIDE = 1024
_UNSAID = "high"
"""The level if thinking is requested without one; the vendor's default."""


class ThinkingPlan(Struct, kw_only=True):
    """The members of a request about thinking. limit: `max_tokens`."""

    limit: int
    thinking: dict[str, Any] | None = None
    effort: str | None = None

    @property
    def on(self) -> bool:
        """Whether thinking is on."""
        return self.thinking is not None and self.thinking["type"] != "disabled"


def plan(
    conversation: Conversation,
    model: Claude,
    most: int | None,
    *,
    obstacle: str,
    dropped: list[str],
) -> ThinkingPlan:
    """Choose the thinking settings to send.

    most: the model's limit of output tokens, None if unknown. obstacle: why a model with a budget
    must not think here, "" if it may.
    """
    wanted = conversation.max_tokens
    limit = most or UNKNOWN_LIMIT
    if wanted is not None:
        limit = max(1, wanted if most is None else min(wanted, most))
    out = ThinkingPlan(limit=limit)
    reasoning = conversation.reasoning
    if reasoning is None:
        return out
    if model.adaptive:
        _adapt(out, reasoning, model)
        return out
    level = level_of(reasoning)
    if level == "none" or (level is None and not reasoning.mode):
        return out
    if model.thinking == "never":
        obstacle = "the model does not think"
    if obstacle:
        dropped.append(f"thinking: {obstacle}")
        return out
    budget = max(LEAST_BUDGET, reasoning.budget or budget_of(level or _UNSAID, most))
    if wanted is None:
        out.limit = budget + limit if most is None else min(budget + limit, most)
    budget = min(budget, out.limit - _LEAST_BESIDE)
    if budget < LEAST_BUDGET:
        dropped.append("thinking: the limit of the answer leaves no room for it")
    else:
        out.thinking = {"type": "enabled", "budget_tokens": budget}
    return out


def _adapt(out: ThinkingPlan, reasoning: Reasoning, model: Claude) -> None:
    level = level_of(reasoning)
    if level == "none":
        if model.thinking == "always":
            out.effort = model.efforts[0]
        else:
            out.thinking = {"type": "disabled"}
        return
    if level is not None or reasoning.mode or (reasoning.shown and model.unasked):
        out.thinking = {"type": "adaptive"}
        if reasoning.shown:
            out.thinking["display"] = "summarized"
    if level is not None:
        out.effort = _nearest(level, model.efforts)


def _nearest(level: str, efforts: tuple[str, ...]) -> str:
    """The lowest of `efforts` that is at least `level`."""
    rank = EFFORTS.index(level)
    return next((one for one in efforts if EFFORTS.index(one) >= rank), efforts[-1])


def sampling(
    conversation: Conversation, model: Claude, *, thinks: bool, dropped: list[str]
) -> dict[str, Any]:
    """`temperature`, `top_p` and `top_k`, as far as the model accepts them with these settings."""
    wanted: dict[str, Any] = {
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "top_k": conversation.top_k,
    }
    out = {name: value for name, value in wanted.items() if value is not None}
    if not model.vendor:
        return out
    if "temperature" in out:
        out["temperature"] = min(out["temperature"], 1)
    refused: set[str] = set()
    if model.sampling == "none":
        refused = set(out)
    elif thinks:
        refused = {"temperature", "top_k"}
        if not 0.95 <= out.get("top_p", 1) <= 1:
            refused.add("top_p")
    elif model.sampling == "one" and "temperature" in out:
        refused = {"top_p"}
    dropped += [f"`{name}`" for name in out if name in refused]
    return {name: value for name, value in out.items() if name not in refused}
