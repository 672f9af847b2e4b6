"""Anthropic's checks of the turns of a conversation."""

import re
from collections import Counter
from typing import Any

from edge.upstreams.simulator.prompt import PromptRejected

Block = dict[str, Any]
_TAKES_SYSTEM_TURNS = re.compile(r"claude-(?:opus-4-8|opus-5|fable|mythos)")
_NO_TURNS_OF_SYSTEM = (
    'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
    'not "system" as an input message role.'
)


def check(given: dict[str, Any]) -> None:
    """Raises PromptRejected."""
    messages = given["messages"]
    for at, message in enumerate(messages):
        role = message.get("role")
        if role == "system" and not _TAKES_SYSTEM_TURNS.search(given["model"]):
            raise PromptRejected(400, _NO_TURNS_OF_SYSTEM)
        if role not in ("user", "assistant", "system"):
            raise PromptRejected(400, f"messages.{at}.role: Input should be 'user' or 'assistant'")
        for name in message:
            if name not in ("role", "content"):
                raise PromptRejected(400, f"messages.{at}.{name}: Extra inputs are not permitted")
        final = at == len(messages) - 1 and role == "assistant"
        if not message.get("content") and not final:
            raise PromptRejected(
                400,
                f"messages.{at}: all messages must have non-empty content except for the optional "
                "final assistant message",
            )
        if isinstance(message["content"], str) and not final and not message["content"].strip():
            raise PromptRejected(
                400, "messages: text content blocks must contain non-whitespace text"
            )
    if messages[0]["role"] != "user":
        raise PromptRejected(400, 'messages: first message must use the "user" role')
    merged = _merged(messages)
    if merged[-1][1] == "assistant":
        _prefill(merged[-1][2])
    _pairs(merged)


def _merged(messages: list[dict[str, Any]]) -> list[tuple[int, str, list[Block]]]:
    """Index of the first message, role and blocks of each turn: the API merges what is alike."""
    merged: list[tuple[int, str, list[Block]]] = []
    for at, message in enumerate(messages):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if merged and merged[-1][1] == message["role"]:
            merged[-1][2].extend(blocks)
        else:
            merged.append((at, message["role"], list(blocks)))
    return merged


def _prefill(blocks: list[Block]) -> None:
    last = blocks[-1] if blocks else {}
    if last.get("type") == "text" and str(last["text"]) != str(last["text"]).rstrip():
        raise PromptRejected(
            400, "messages: final assistant content cannot end with trailing whitespace"
        )


def _pairs(merged: list[tuple[int, str, list[Block]]]) -> None:
    """The results of a turn stand at the beginning of the next, one for each call, no others."""
    seen: set[str] = set()
    waiting: list[str] = []
    where = 0
    for at, role, blocks in merged:
        if role == "system":
            continue
        results = [str(b["tool_use_id"]) for b in blocks if b["type"] == "tool_result"]
        for n, block in enumerate(blocks):
            if block["type"] == "tool_result" and (
                role != "user" or block["tool_use_id"] not in waiting
            ):
                raise PromptRejected(
                    400,
                    f"messages.{at}.content.{n}: unexpected `tool_use_id` found in `tool_result` "
                    f"blocks: {block['tool_use_id']}. Each `tool_result` block must have a "
                    "corresponding `tool_use` block in the previous message.",
                )
        first = [str(b.get("tool_use_id", "")) for b in blocks[: len(results)]]
        _all_answered([each for each in waiting if each not in first], where)
        for call_id, times in Counter(results).items():
            if times > 1:
                raise PromptRejected(
                    400,
                    f"messages.{at}.content: each tool_use must have a single result. Found "
                    f"multiple `tool_result` blocks with id: {call_id}",
                )
        waiting = [str(b["id"]) for b in blocks if b["type"] == "tool_use"]
        where = at
        if waiting and role != "assistant":
            raise PromptRejected(
                400, f"messages.{at}: `tool_use` blocks can only be in `assistant` messages"
            )
        if seen & set(waiting) or len(set(waiting)) < len(waiting):
            raise PromptRejected(400, f"messages.{at}.content: `tool_use` ids must be unique")
        seen |= set(waiting)
    _all_answered(waiting, where)


def _all_answered(missing: list[str], at: int) -> None:
    if missing:
        raise PromptRejected(
            400,
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately "
            f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding "
            "`tool_result` block in the next message.",
        )
