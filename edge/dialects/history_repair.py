"""Repair a conversation's history so that every vendor accepts it.

Clients trim, filter and edit what they send back: a call may have lost its result and a result its
call, turns may be empty, and ids may repeat. All vendors refuse such a history, so it is repaired
before it is sent:

1. blocks without content and empty turns are removed; neighbours of one role become one turn;
2. each call gets a unique id;
3. the results of an assistant's calls follow it directly, in the order of the calls. Turns in
   between (an instruction, text of the user) follow the results in their own order;
4. a call without a result gets a result that says so; a result without a call becomes plain
   content.

Only step 4 adds text, and the text is fixed. The same history always gives the same turns.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from middlewares.problem import Problem

from .conversation import (
    Block,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)

_ATTRIBUTION = "x-anthropic-billing-header:"
NO_RESULT = "No result was provided."


def empty_conversation() -> Problem:
    """The refusal of a conversation without any content."""
    return Problem(
        "invalid_request",
        message="The conversation has no content.",
        issue="expected at least one message with content",
    )


def repair_turns(turns: Sequence[Turn], before: Iterable[str] = ()) -> list[Turn]:
    """`turns` with every call answered in the user's turn after it. The input is not changed.

    before: ids of the calls in turns before them.
    """
    merged = _merged(turns)
    known = set(before)
    at = count_regular(merged, known)
    if at == len(merged):
        return merged
    repeated: dict[str, int] = {}
    out = merged[:at]
    while at < len(merged):
        turn = merged[at]
        at += 1
        if turn.role != "assistant":
            out += _without_orphans([turn])
            continue
        calls, blocks = _numbered(turn, known, repeated)
        out.append(Turn("assistant", blocks))
        behind = at
        while behind < len(merged) and merged[behind].role != "assistant":
            behind += 1
        out += _answered(calls, merged[at:behind])
        at = behind
    return _merged(out)


def regular_turns(turns: Sequence[Turn], before: Iterable[str]) -> list[Turn] | None:
    """`repair_turns` of turns that need no repair, whatever follows; None of others."""
    merged = _merged(turns)
    return merged if count_regular(merged, set(before)) == len(merged) else None


def says_something_as(role: str, turn: Turn) -> bool:
    """Whether a turn is that role's and has text, a call or a result, so that no dialect leaves it
    out."""
    return turn.role == role and any(
        isinstance(block, Text | ToolCall | ToolResult) and _says_something(block)
        for block in turn.blocks
    )


def count_regular(merged: list[Turn], known: set[str]) -> int:
    """The number of turns at the beginning that need no repair, as nearly all do: each call has an
    id of its own, and the next turn begins with the results of all, in their order.

    Ends before a turn of the assistant, or at the end. known: the ids of the calls are added to it.
    """
    calls: list[ToolCall] = []
    answered: set[str] = set()
    regular = 0
    for at, turn in enumerate(merged):
        if turn.role == "assistant":
            if calls:
                return regular
            regular = at
            known |= answered
            answered.clear()
            calls = [block for block in turn.blocks if type(block) is ToolCall]
        elif calls or any(type(block) is ToolResult for block in turn.blocks):
            if turn.role != "user" or not _answers(turn.blocks, calls, known, answered):
                return regular
            calls = []
    return regular if calls else len(merged)


def _answers(
    blocks: list[Block], calls: list[ToolCall], known: set[str], answered: set[str]
) -> bool:
    """Whether `blocks` begin with the results of `calls`, and have no others.

    answered: the ids of the calls are added to it.
    """
    if len(blocks) < len(calls):
        return False
    for call, result in zip(calls, blocks, strict=False):
        id_ = call.id
        if (
            type(result) is not ToolResult
            or result.id != id_
            or result.custom is not call.custom
            or not id_
            or id_ in known
            or id_ in answered
            or not all(map(_says_something, result.content))
        ):
            return False
        answered.add(id_)
    return not any(type(block) is ToolResult for block in blocks[len(calls) :])


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    out: list[Turn] = []
    for turn in turns:
        blocks = list(filter(_says_something, turn.blocks))
        if not blocks:
            continue
        if out and out[-1].role == turn.role:
            out[-1].blocks += blocks
        else:
            out.append(Turn(turn.role, blocks))
    return out


def _says_something(block: Block) -> bool:
    kind = type(block)
    if kind is ToolCall or kind is ToolResult:
        return True
    if isinstance(block, Text | Refusal):
        return bool(block.text) and not block.text.isspace()
    if isinstance(block, Thinking):
        return bool(block.text) or block.signature is not None
    return True


def _numbered(
    turn: Turn, known: set[str], repeated: dict[str, int]
) -> tuple[list[tuple[str, ToolCall]], list[Block]]:
    """The calls of a turn, each with its original id; and the turn's blocks, with unique ids.

    An identical call is taken once: some clients write it in two spellings. repeated: by id, the
    number of its last repetition.
    """
    calls: list[tuple[str, ToolCall]] = []
    seen: set[tuple[str, str, str]] = set()
    blocks: list[Block] = []
    for block in turn.blocks:
        if not isinstance(block, ToolCall):
            blocks.append(block)
            continue
        identity = (block.id, block.name, block.arguments)
        if block.id and identity in seen:
            continue
        seen.add(identity)
        id_, base = block.id, block.id or "call"
        while not id_ or id_ in known:
            count = repeated[base] = repeated.get(base, 1) + 1
            id_ = f"{base}_{count}"
        known.add(id_)
        call = block if id_ == block.id else replace(block, id=id_)
        calls.append((block.id, call))
        blocks.append(call)
    return calls, blocks


def _answered(calls: list[tuple[str, ToolCall]], gap: list[Turn]) -> list[Turn]:
    """The turns up to the next assistant's turn, with the results of `calls` first."""
    if not calls:
        return _without_orphans(gap)
    by_id: dict[str, deque[ToolResult]] = {}
    for turn in gap:
        for block in turn.blocks:
            if isinstance(block, ToolResult):
                by_id.setdefault(block.id, deque()).append(block)
    results: list[Block] = []
    used: set[int] = set()
    for came, call in calls:
        waiting = by_id.get(came)
        if not waiting:
            results.append(
                ToolResult(
                    id=call.id, content=(Text(text=NO_RESULT),), failed=True, custom=call.custom
                )
            )
            continue
        result = waiting.popleft()
        used.add(id(result))
        content = tuple(part for part in result.content if _says_something(part))
        results.append(replace(result, id=call.id, content=content, custom=call.custom))
    rest = [
        Turn(turn.role, [block for block in turn.blocks if id(block) not in used]) for turn in gap
    ]
    return [Turn("user", results), *_without_orphans(rest)]


def _without_orphans(turns: Iterable[Turn]) -> list[Turn]:
    """`turns` with the content of each result as the user's own blocks."""
    out: list[Turn] = []
    for turn in turns:
        blocks: list[Block] = []
        for block in turn.blocks:
            if isinstance(block, ToolResult):
                blocks += block.content
            else:
                blocks.append(block)
        out.append(Turn(turn.role, blocks))
    return out


def without_attribution(system: list[Text]) -> list[Text]:
    """`system` without the billing line that Claude Code writes for Anthropic.

    The line changes often and would invalidate another vendor's prompt cache.
    """
    if system and system[0].text.startswith(_ATTRIBUTION):
        rest = system[0].text.partition("\n")[2].lstrip("\n")
        return [*([Text(text=rest)] if rest else []), *system[1:]]
    return system
