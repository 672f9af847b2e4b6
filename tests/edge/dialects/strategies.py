"""Conversations and replies for property tests, and what of them every dialect can say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from edge.dialects.conversation import (
    Block,
    Conversation,
    Image,
    OutputFormat,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from edge.dialects.events import (
    Counted,
    Event,
    Reply,
    Stop,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    unfold,
)
from middlewares.exchange import Usage

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
"""Any text that JSON in UTF-8 can carry."""
plain = st.text("ab é日\U0001f680", min_size=1, max_size=8).filter(lambda text: bool(text.strip()))
"""Text that no rule about blanks touches."""
names = st.sampled_from(["look", "write_file", "f-1", "mcp__" + "x" * 70, "a.b"])
ids = st.sampled_from(["call_1", "toolu_01AbC", "functions.look:0", "c" * 70, "call_0", "x"])

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(words, _values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
"""JSON text of an object, as compact as every dialect writes it."""

# Replies -----------------------------------------------------------------------------------------

_counts = st.integers(0, 10**6)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Figures that add up."""
    output = draw(st.integers(1, 10**6))
    return Usage(
        input=draw(st.integers(1, 10**6)),
        output=output,
        cache_read=draw(_counts),
        cache_write=draw(_counts),
        reasoning=draw(st.integers(0, output)),
    )


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """A whole answer, in every order of blocks that any dialect may give."""
    blocks: list[Text | Refusal | Thinking | ToolCall] = []
    for n, kind in enumerate(draw(st.lists(st.sampled_from("xxtcc"), max_size=5))):
        if kind == "x":
            blocks.append(Text(text=draw(words)))
        elif kind == "t":
            blocks.append(Thinking(text=draw(words)))
        else:
            call = f"call_{n}"
            blocks.append(
                ToolCall(id=call, name=draw(st.sampled_from("fg")), arguments=draw(arguments))
            )
    called = any(isinstance(block, ToolCall) for block in blocks)
    stops: tuple[Stop, ...] = ("tool_use", "length") if called else ("end", "length")
    stop = draw(st.sampled_from(stops))
    return Reply(blocks=blocks, stop=stop, usage=draw(usages()))


@st.composite
def events_of(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """Events whose fold is `reply`, the texts of it cut anywhere."""
    out: list[Event] = []
    for event in unfold(reply):
        if not isinstance(event, TextDelta | ThinkingDelta | ToolDelta):
            out.append(event)
            continue
        at = 0
        for cut in sorted(draw(st.sets(st.integers(1, len(event.text)), max_size=3))):
            out.append(type(event)(event.text[at:cut]))
            at = cut
        if at < len(event.text):
            out.append(type(event)(event.text[at:]))
    if reply.usage is not None and draw(st.booleans()):
        out.insert(1, Counted(Usage(input=reply.usage.input)))
    return out


@st.composite
def groups(draw: st.DrawFn, events: list[Event]) -> list[list[Event]]:
    """`events`, in groups that are not empty."""
    return list(
        _grouped(events, draw(st.sets(st.integers(1, max(1, len(events) - 1)), max_size=8)))
    )


def _grouped(events: list[Event], cuts: set[int]) -> Iterator[list[Event]]:
    at = 0
    for cut in [*sorted(cuts), len(events)]:
        if events[at:cut]:
            yield events[at:cut]
        at = cut


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` cut anywhere."""
    cuts = draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=12))
    marks = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


@dataclass(frozen=True)
class Said:
    """What a reply says in any dialect: its texts joined, its calls in order."""

    text: str
    thinking: str
    calls: tuple[tuple[str, str, str], ...]
    stop: str
    usage: Usage | None


def said(reply: Reply) -> Said:
    """What of `reply` no dialect may lose."""
    return Said(
        "".join(b.text for b in reply.blocks if isinstance(b, Text)),
        "".join(b.text for b in reply.blocks if isinstance(b, Thinking)),
        tuple((b.id, b.name, b.arguments or "{}") for b in reply.blocks if isinstance(b, ToolCall)),
        reply.stop,
        reply.usage and replace(reply.usage, tiers=()),
    )


# Conversations -----------------------------------------------------------------------------------

_SCHEMA = st.sampled_from(
    [
        None,
        {},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"anyOf": [{"type": "object"}, {"type": "array", "items": {}}]},
        {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 1}},
            "required": ["n"],
            "additionalProperties": False,
        },
    ]
)


@st.composite
def tool_lists(draw: st.DrawFn) -> list[Tool]:
    """Tools with names of their own, of both kinds that callers run themselves."""
    made = []
    for name in draw(st.lists(names, max_size=3, unique=True)):
        custom = draw(st.sampled_from([False, False, True]))
        made.append(
            Tool(
                name=name,
                kind="custom" if custom else "function",
                description=draw(st.sampled_from(["", "Does it."])),
                schema=None if custom else draw(_SCHEMA),
                strict=None if custom else draw(st.sampled_from([None, False, True])),
            )
        )
    return made


@st.composite
def turn_lists(draw: st.DrawFn, tools: list[Tool], *, tidy: bool) -> list[Turn]:
    """A history. tidy: one that every dialect can tell as it is, with nothing to repair."""
    turns = [Turn("user", [Text(text=draw(plain))])]
    known: set[str] = set()
    for _ in range(draw(st.integers(0, 3))):
        calls: list[ToolCall] = []
        for _ in range(draw(st.integers(0, 2 if tools else 0))):
            tool = draw(st.sampled_from(tools))
            id_ = draw(ids)
            if tidy and id_ in known:
                continue
            known.add(id_)
            given = draw(plain) if tool.kind == "custom" else draw(arguments)
            calls.append(
                ToolCall(id=id_, name=tool.name, arguments=given, custom=tool.kind == "custom")
            )
        blocks: list[Block] = [Text(text=draw(plain)), *calls]
        turns.append(Turn("assistant", blocks))
        back: list[Block] = [
            ToolResult(id=call.id, content=(Text(text=draw(plain)),), custom=call.custom)
            for call in calls
        ]
        turns.append(Turn("user", [*back, Text(text=draw(plain))]))
    if tidy:
        return turns
    odd: list[Turn] = [
        Turn("assistant", [Text(text=" ")]),
        Turn("assistant", [Thinking(text="hm"), Text(text="so")]),
        Turn("user", [ToolResult(id="orphan", content=(Text(text="whose?"),), failed=True)]),
        Turn(
            "user", [Image(media_type="image/png", data=PNG), Image(url="https://i.example/a.png")]
        ),
        Turn("user", [ToolResult(id="call_1", content=(Image(media_type="image/png", data=PNG),))]),
        Turn("system", [Text(text="Now in French.")]),
        Turn("user", []),
    ]
    for turn in draw(st.lists(st.sampled_from(odd), max_size=3)):
        turns.insert(draw(st.integers(0, len(turns))), Turn(turn.role, list(turn.blocks)))
    if draw(st.booleans()):
        turns = turns[draw(st.integers(0, len(turns) - 1)) :]
    return turns


@st.composite
def conversations(draw: st.DrawFn, *, tidy: bool = False) -> Conversation:
    """What a caller may ask of any model."""
    tools = draw(tool_lists())
    choice: ToolChoice | None = None
    if tools:
        one = draw(st.sampled_from(tools)).full_name
        choice = draw(
            st.sampled_from(
                [
                    None,
                    ToolChoice(mode="auto"),
                    ToolChoice(mode="any"),
                    ToolChoice(mode="none"),
                    ToolChoice(mode="one", name=one),
                    *([] if tidy else [ToolChoice(mode="auto", allowed=(one,))]),
                ]
            )
        )
    conversation = Conversation(
        turns=draw(turn_lists(tools, tidy=tidy)),
        system=[Text(text=text) for text in draw(st.lists(plain, max_size=2))],
        tools=tools,
        tool_choice=choice,
        parallel=draw(st.sampled_from([None, False])) if tools else None,
        max_tokens=draw(st.sampled_from([None, 1, 16, 1000, 60_000])),
        stream=draw(st.booleans()),
    )
    if not tidy:
        settings: dict[str, Any] = {
            "temperature": st.sampled_from([None, 0, 0.7, 1.5]),
            "top_p": st.sampled_from([None, 0.5]),
            "top_k": st.sampled_from([None, 40]),
            "stop": st.sampled_from([(), ("END",), ("a", "b", "c", "d", "e")]),
            "user": st.sampled_from(["", "u1", "a" * 80]),
            "tier": st.sampled_from([None, "auto", "default", "priority", "flex"]),
            "reasoning": st.sampled_from(
                [
                    None,
                    Reasoning(effort="none"),
                    Reasoning(effort="minimal"),
                    Reasoning(effort="high", shown=True),
                    Reasoning(effort="max"),
                    Reasoning(mode="enabled", budget=2000),
                    Reasoning(mode="adaptive"),
                    Reasoning(mode="disabled"),
                ]
            ),
            "output": st.sampled_from(
                [
                    None,
                    OutputFormat(kind="json_object"),
                    OutputFormat(kind="json_schema", schema={"type": "object", "properties": {}}),
                    OutputFormat(
                        kind="json_schema",
                        schema={"type": "object", "properties": {"a": {"type": "string"}}},
                        strict=True,
                    ),
                ]
            ),
        }
        for name, strategy in settings.items():
            setattr(conversation, name, draw(strategy))
        if conversation.output is not None:  # OpenAI requires the word for any object
            conversation.system.append(Text(text="Answer in JSON."))
    return conversation
