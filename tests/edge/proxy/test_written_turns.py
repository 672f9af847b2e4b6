"""Turns that were written with an earlier request are sent again with the same bytes, and are those
of that caller, target, and tools only."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from edge.dialects.codec import TargetModel
from edge.dialects.conversation import Conversation
from edge.dialects.passthrough import Fields
from edge.endpoints import BY_NAME, Codec
from edge.proxy.long_body import LEAST, LongBodies
from edge.proxy.translate import CLIENTS, UPSTREAMS
from edge.proxy.written_turns import written_once
from edge.requests.kept_values import KeptValues
from middlewares.exchange import Dialect, Exchange

Turn = dict[str, Any]
Messages = list[Turn]

WAYS: tuple[tuple[Codec, Dialect, str], ...] = (
    ("chat", "anthropic", "claude-sonnet-4-5"),
    ("messages", "openai", "gpt-4.1"),
)
POISON = b'{"role":"user","content":"poison"}'


def target_of(model: str) -> TargetModel:
    return TargetModel(model=model, max_output=64_000, context=200_000, origin="0" * 12)


class Agent:
    """A conversation in the caller's dialect that grows, and what it is sent as."""

    def __init__(self, codec: Codec, dialect: Dialect, model: str, seed: int = 0) -> None:
        self.codec = codec
        self.dialect = dialect
        self.model = model
        self.bodies = LongBodies()
        self.tools = ["Read", "Edit.file"]
        self.turns: Messages = [{"role": "user", "content": "Größe 1! " * (LEAST // 8)}]
        self.read_turns: list[int] = []
        self._random = Random(seed)
        self._calls = 0

    def grow(self, *, calls: int = 1, images: bool = False, thinking: bool = False) -> None:
        """A turn of the assistant with calls, and their results."""
        ids = [f"toolu_{self._calls + number:05d}" for number in range(calls)]
        self._calls += calls
        text, result = self._text(), [{"type": "text", "text": self._text()}]
        if self.codec == "chat":
            made = [
                {
                    "id": id_,
                    "type": "function",
                    "function": {"name": "Edit.file", "arguments": '{"a": 1.50}'},
                }
                for id_ in ids
            ]
            said: Turn = {"role": "assistant", "content": text, "tool_calls": made or None}
            if thinking:
                said["reasoning_content"] = "hm"
            self.turns += [
                said,
                *({"role": "tool", "tool_call_id": id_, "content": result} for id_ in ids),
            ]
            if not calls:
                self.turns.append({"role": "user", "content": self._text()})
            return
        image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
        shown = [*result, {"type": "image", "source": image}] if images else result
        blocks: Messages = [{"type": "text", "text": text}]
        if thinking:
            blocks.insert(0, {"type": "thinking", "thinking": "hm", "signature": "EqQ"})
        blocks += [
            {"type": "tool_use", "id": id_, "name": "Read", "input": {"a": "b"}} for id_ in ids
        ]
        results = [{"type": "tool_result", "tool_use_id": id_, "content": shown} for id_ in ids]
        results = results or [{"type": "text", "text": self._text()}]
        self.turns += [
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": results},
        ]

    def _text(self) -> str:
        return "".join(self._random.choices('aé日😀\n"\\ ', k=self._random.randrange(1, 80))) + "."

    def sent(self, caller: str = "key ann", bodies: LongBodies | None = None) -> tuple[Any, ...]:
        """The upstream's body and what else is made of a request with all turns now."""
        messages = [dict(turn) for turn in self.turns]
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        whole: dict[str, Any] = {"model": "m", "max_tokens": 9}
        if self.codec == "chat":
            messages.insert(0, {"role": "system", "content": "Be brief."})
            whole["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": schema}}
                for name in self.tools
            ]
        else:
            whole["tools"] = [{"name": name, "input_schema": schema} for name in self.tools]
            if isinstance(content := messages[-1]["content"], list):  # as Claude Code marks it
                marked = {**content[-1], "cache_control": {"type": "ephemeral"}}
                messages[-1]["content"] = [*content[:-1], marked]
        whole["messages"] = messages
        body = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
        row = BY_NAME["chat.completions" if self.codec == "chat" else self.codec]
        read = (bodies or self.bodies).read(row, (), body, caller, large=True)
        assert read.problem is None and read.marks is not None
        exchange = Exchange(row=row, fields=read.fields, turn_marks=read.marks, repeatable=False)
        client, upstream = CLIENTS[self.codec], UPSTREAMS[self.dialect]
        decoded, sent = written_once(
            exchange, read.fields, self._counted, client, upstream, target_of(self.model)
        )
        return (
            sent.body,
            sent.dropped,
            sent.names,
            decoded.weight,
            decoded.conversation.dropped,
            list(decoded.calls()),
        )

    def _counted(self, fields: Fields) -> Conversation:
        self.read_turns.append(len(msgspec.json.decode(fields["messages"])))
        return CLIENTS[self.codec].read(fields)

    def check(self) -> None:
        """The request is sent as if nothing was known."""
        assert self.sent() == self.sent(bodies=LongBodies())


agents = pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])


@agents
def test_written_once_of_a_growing_conversation_reads_only_its_last_turns(
    way: tuple[Codec, Dialect, str],
) -> None:
    agent = Agent(*way)
    for number in range(40):
        agent.grow(calls=1 + number % 3, thinking=number % 2 == 0)
        agent.read_turns.clear()
        agent.check()
        if number > 5:
            assert agent.read_turns[0] <= 24
            assert agent.read_turns[1] > len(agent.turns) - 1


@agents
def test_written_once_of_talk_without_tools_reads_only_its_last_turns(
    way: tuple[Codec, Dialect, str],
) -> None:
    agent = Agent(*way)
    agent.tools = []
    for number in range(8):
        agent.grow(calls=0)
        agent.read_turns.clear()
        agent.check()
        assert number < 5 or agent.read_turns[0] <= 9
    agent.grow()
    agent.check()


@agents
def test_written_turns_are_kept_for_few_targets(way: tuple[Codec, Dialect, str]) -> None:
    agent = Agent(*way)
    for _ in range(3):
        agent.grow()
        agent.sent()
    sizes = []
    for number in range(8):
        agent.model = f"{way[2]}-{number}"
        agent.check()
        sizes.append(agent.bodies.written.size)
    assert len(set(sizes[4:])) == 1


def poisoned(agent: Agent) -> None:
    """All that is kept becomes another message."""
    for place in agent.bodies.written:
        assert place.value is not None
        place.value = msgspec.structs.replace(place.value, messages=(POISON,))


def other_caller(agent: Agent) -> bytes:
    return b"".join(agent.sent("key bob")[0] for _ in range(3))


def other_model(agent: Agent) -> bytes:
    agent.model += "-latest"
    return b"".join(agent.sent()[0] for _ in range(3))


def other_tools(agent: Agent) -> bytes:
    agent.tools = agent.tools[::-1]
    return b"".join(agent.sent()[0] for _ in range(3))


def other_beginning(agent: Agent) -> bytes:
    agent.turns[0] = {"role": "user", "content": "Größe 2! " * (LEAST // 8)}
    return b"".join(agent.sent()[0] for _ in range(3))


OTHERS = (other_caller, other_model, other_tools, other_beginning)


@agents
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.__name__)
def test_written_turns_are_found_by_the_same_caller_for_the_same_target_only(
    way: tuple[Codec, Dialect, str], other: Callable[[Agent], bytes]
) -> None:
    agent = Agent(*way)
    for _ in range(5):
        agent.grow()
        agent.sent()
    poisoned(agent)
    assert POISON in agent.sent()[0]
    assert POISON not in other(agent)


def reminded(agent: Agent) -> None:
    agent.turns.append({"role": "system", "content": "Mind the time."})


def cut(agent: Agent) -> None:
    del agent.turns[-3:]


def unanswered(agent: Agent) -> None:
    del agent.turns[-1]


def swapped(agent: Agent) -> None:
    agent.turns[4], agent.turns[6] = agent.turns[6], agent.turns[4]


def blank(agent: Agent) -> None:
    agent.turns.append({"role": "assistant", "content": " "})


def asked(agent: Agent) -> None:
    agent.turns.append({"role": "user", "content": "And?"})


def prefilled(agent: Agent) -> None:
    agent.turns.append({"role": "assistant", "content": "It is "})


def repeated(agent: Agent) -> None:
    agent.turns += agent.turns[-2:]


def pictured(agent: Agent) -> None:
    agent.grow(images=True)


def noted(agent: Agent) -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    agent.turns += [
        {"role": "assistant", "content": [block] if agent.codec == "messages" else "x"},
        {"role": "user", "content": "So?"},
    ]


def marked(agent: Agent) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    agent.turns += [
        {"role": "assistant", "content": [{"type": "text", "text": "Done.", **mark}]},
        {"role": "user", "content": [{"type": "text", "text": "Next.", **mark}]},
    ]


def untooled(agent: Agent) -> None:
    agent.tools = []


def legacy(agent: Agent) -> None:
    if agent.codec == "chat":
        call = {"name": "Read", "arguments": "{}"}
        agent.turns += [
            {"role": "assistant", "content": "I read.", "function_call": call},
            {"role": "function", "name": "Read", "content": "text"},
        ]


CHANGES: tuple[Callable[[Agent], None], ...] = (
    *(reminded, cut, unanswered, swapped, blank, asked, prefilled, repeated, pictured, noted),
    *(marked, untooled, legacy),
)


@agents
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_written_once_of_an_unusual_conversation_is_as_if_nothing_was_known(
    way: tuple[Codec, Dialect, str], change: Callable[[Agent], None]
) -> None:
    agent = Agent(*way)
    for _ in range(5):
        agent.grow()
        agent.check()
    for _ in range(2):
        change(agent)
        agent.check()
        for _ in range(4):
            agent.grow(calls=2)
            agent.check()


@agents
def test_written_once_of_turns_that_were_dropped_writes_them_again(
    way: tuple[Codec, Dialect, str],
) -> None:
    agent = Agent(*way)
    kept: KeptValues[Any] = KeptValues(100_000)
    agent.bodies.written = kept
    for _ in range(8):
        agent.grow()
        agent.check()
        assert kept.size <= 100_000
    assert kept.size
    for place in kept:
        kept.drop(place)
    agent.check()
    assert kept.size
    agent.check()


def test_written_once_of_turns_with_other_bytes_reads_them_all() -> None:
    agent = Agent(*WAYS[1])
    for _ in range(3):
        agent.grow()
        agent.sent()
    row = BY_NAME["messages"]
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": agent.turns}).encode()
    for _ in range(2):
        read = agent.bodies.read(row, (), body, "key ann", large=True)
    exchange = Exchange(row=row, fields=read.fields, turn_marks=read.marks, repeatable=False)
    short = {**read.fields, "messages": msgspec.Raw(b'[{"role":"user","content":"hello"}]')}
    client, upstream = CLIENTS["messages"], UPSTREAMS["openai"]
    decoded, sent = written_once(
        exchange, short, client.read, client, upstream, target_of("gpt-4.1")
    )
    assert len(decoded.conversation.turns) == 1
    assert b"hello" in sent.body and len(sent.body) < 200
