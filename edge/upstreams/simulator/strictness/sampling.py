"""Anthropic's checks of thinking, sampling and prefills, by model and API version."""

import re
from typing import Any

from edge.upstreams.simulator.prompt import PromptRejected

_NEWEST = re.compile(r"claude-(?:opus-4-[789]|(?:opus|sonnet|haiku)-[5-9]|fable|mythos)")
"""Adaptive thinking only, no sampling."""

_OLD = re.compile(r"claude-(?:[23]|(?:opus|sonnet|haiku)-4(?:-[0-5]\b|-2\d{7}|$))")
"""No adaptive thinking, but prefills."""

_ONE_OF_BOTH = re.compile(r"claude-(?:opus-4-1|(?:opus|sonnet|haiku)-4-5)")
_NO_SAMPLING_SINCE = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")
_LEAST_BUDGET = 1024


def check(given: dict[str, Any], version: str) -> None:
    """Raises PromptRejected."""
    model = str(given["model"])
    thinking = given.get("thinking") or {}
    _sampling(given, model, version, thinks=thinking.get("type") in ("enabled", "adaptive"))
    _thinking(given, model, thinking)
    prefilled = given["messages"][-1]["role"] == "assistant"
    if prefilled and "claude-" in model and not _OLD.search(model):
        raise PromptRejected(
            400,
            "This model does not support assistant message prefill. The conversation must end "
            "with a user message.",
        )


def _sampling(given: dict[str, Any], model: str, version: str, *, thinks: bool) -> None:
    present = [name for name in _SAMPLING if name in given]
    for name in present:
        if version >= _NO_SAMPLING_SINCE:
            raise PromptRejected(400, f"{name}: Extra inputs are not permitted")
        if _NEWEST.search(model) and not (name != "top_k" and given[name] == 1):
            raise PromptRejected(400, f"`{name}` is deprecated for this model.")
    for name in ("temperature", "top_p"):
        if name in present and not 0 <= given[name] <= 1:
            raise PromptRejected(400, f"{name}: range: 0..1")
    if {"temperature", "top_p"} <= set(present) and _ONE_OF_BOTH.search(model):
        raise PromptRejected(
            400,
            "`temperature` and `top_p` cannot both be specified for this model. Please use only "
            "one.",
        )
    if not thinks:
        return
    if given.get("temperature", 1) != 1:
        raise PromptRejected(400, "`temperature` may only be set to 1 when thinking is enabled.")
    if "top_k" in present:
        raise PromptRejected(400, "`top_k` must be unset when thinking is enabled.")
    if given.get("top_p", 1) < 0.95:
        raise PromptRejected(
            400,
            "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.",
        )


def _thinking(given: dict[str, Any], model: str, thinking: dict[str, Any]) -> None:
    kind = thinking.get("type")
    if kind == "enabled" and _NEWEST.search(model):
        raise PromptRejected(
            400,
            '"thinking.type.enabled" is not supported for this model. Use '
            '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.',
        )
    if kind == "adaptive" and _OLD.search(model):
        raise PromptRejected(400, "adaptive thinking is not supported on this model")
    keys = {"enabled": ("type", "budget_tokens", "display"), "adaptive": ("type", "display")}
    for name in thinking:
        if name not in keys.get(str(kind), ("type",)):
            raise PromptRejected(400, f"thinking.{kind}.{name}: Extra inputs are not permitted")
    if kind != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        raise PromptRejected(400, "thinking.enabled.budget_tokens: Field required")
    if budget < _LEAST_BUDGET:
        raise PromptRejected(
            400,
            "thinking.enabled.budget_tokens: Input should be greater than or equal to "
            f"{_LEAST_BUDGET}",
        )
    if budget >= given["max_tokens"]:
        raise PromptRejected(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")
    if (given.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise PromptRejected(400, "Thinking may not be enabled when tool_choice forces tool use.")
    _begins_with_thinking(given["messages"])


def _begins_with_thinking(messages: list[dict[str, Any]]) -> None:
    """The last turn of the assistant, when it is still in the middle of its tool calls."""
    for at in reversed(range(len(messages))):
        message = messages[at]
        if message["role"] != "assistant":
            continue
        content = message["content"] if isinstance(message["content"], list) else []
        kinds = [block["type"] for block in content]
        if "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking"):
            raise PromptRejected(
                400,
                f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but "
                f"found `{kinds[0]}`. When `thinking` is enabled, a final `assistant` message must "
                "start with a thinking block (preceeding the lastmost set of `tool_use` and "
                "`tool_result` blocks).",
            )
        return
