"""Put a history in the shape that every vendor accepts.

Clients trim, filter and edit what they send back, so a call may have lost its result and a result
its call, turns may be empty, and ids may repeat. All vendors refuse such a history, each in its own
words, so it is repaired before any of them sees it:

1. blocks without content go, and turns left empty; neighbours of one role become one turn;
2. each call has an id of its own, unlike all before it;
3. the results of an assistant's calls come right behind it, in the order of the calls. What stood
   between (an instruction, words of the user) follows them in its own order;
4. a call nobody answered gets a result that says so; a result of no call becomes plain content.

Only step 4 adds words, and they are fixed. The same history always gives the same turns.
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
    """The refusal of a conversation of which nothing is left to send."""
    return Problem(
        "invalid_request",
        message="The conversation has no content.",
        issue="expected at least one message with content",
    )


def repair_turns(turns: Sequence[Turn]) -> list[Turn]:
    """`turns` with every call answered in the user's turn behind it. The input stays as it is."""
    merged = _merged(turns)
    known: set[str] = set()
    repeated: dict[str, int] = {}
    out: list[Turn] = []
    at = 0
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


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    out: list[Turn] = []
    for turn in turns:
        blocks = [block for block in turn.blocks if _says_something(block)]
        if not blocks:
            continue
        if out and out[-1].role == turn.role:
            out[-1].blocks += blocks
        else:
            out.append(Turn(turn.role, blocks))
    return out


def _says_something(block: Block) -> bool:
    match block:
        case Text() | Refusal():
            return bool(block.text) and not block.text.isspace()
        case Thinking():
            return bool(block.text) or block.signature is not None
    return True


def _numbered(
    turn: Turn, known: set[str], repeated: dict[str, int]
) -> tuple[list[tuple[str, ToolCall]], list[Block]]:
    """The calls of a turn, each with the id it came by; and the turn's blocks, with unique ids.

    The very same call twice is one call: some clients write it in two spellings. repeated: by id,
    the number that its last repetition got.
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
    """The turns up to the next assistant's, with the results of `calls` in front."""
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
    """`turns` in which the content of each result stands as the user's own."""
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
    """`system` without the line by which Claude Code tells its maker who pays.

    It changes often, and so would spoil the cache of whoever else reads the prompt.
    """
    if system and system[0].text.startswith(_ATTRIBUTION):
        rest = system[0].text.partition("\n")[2].lstrip("\n")
        return [*([Text(text=rest)] if rest else []), *system[1:]]
    return system
