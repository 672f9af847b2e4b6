"""An upstream that answers in three dialects and lies in every figure.

What it says depends on nothing but the request's body, so that a run can be repeated. It does as
the name of the model says:

    lie-    every figure is a lie
    true-   every figure is true, and always the same: `TRUTH`
    obey-   it makes as much as it is asked for by any bound that it finds, and reads as much as may
            be behind a link; it counts truly
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from zlib import crc32

TRUTH = {"input": 11, "output": 7, "cache_read": 5, "cache_write": 3}
"""Tokens of an honest answer, disjoint."""
CONTEXT = 200_000
UNBOUNDED = 32_000
MAX_OUTPUT = 64_000
"""What its models make of an answer that nothing bounds, and at most."""
_READ = frozenset(
    ("maxtokens", "maxcompletiontokens", "maxoutputtokens", "npredict", "maxnewtokens", "mintokens")
)
_LINKS = ("file_id", "video_url", "https://", "web_search", "mcp", "unheard_of", "audio_url")

_NO_COUNTS: tuple[Any, ...] = (
    None, "many", "", "12.5", -1, -(2**63), True, [], [5], {}, {"n": 5}, 1e300, 12.5, 2**53 + 1,
    2**63 - 1, 2**64 - 1, 10**30, CONTEXT + 1,
)  # fmt: skip
_COUNTS = (0, 0, 1, 5, 77.0, "90", 500, 5_000, 60_000, CONTEXT)
_REASONS = {
    "chat": ("stop", "stop", "length", "", None, "tool_calls", "weird", 7, "content_filter"),
    "messages": ("end_turn", "end_turn", "max_tokens", "", None, "weird", 7, "pause_turn"),
    "responses": ("completed", "completed", "incomplete", "", None, "weird", "failed"),
}
_WORDS = ("word ", "слово ", "言葉", "0x7f ", "🙂")


class Liar:
    """The server. calls: how many requests have come, by what it does with them."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.lower().split("\r\n")
                length = next(
                    (int(line[15:]) for line in lines if line.startswith("content-length:")), 0
                )
                body = await reader.readexactly(length)
                path = head.split(" ")[1].partition("?")[0]
                if not await self.answer(path, body, writer):
                    break
        writer.close()

    async def answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        asked = json.loads(body)
        way = str(asked.get("model")).partition("-")[0]
        self.calls[way] += 1
        dice = random.Random(crc32(body))
        truth = None if way == "lie" else TRUTH if way == "true" else obeyed(asked, len(body))
        made = Made(dice, truth, stream=asked.get("stream") is True)
        fate = dice.random() if way == "lie" else 1.0
        if fate < 0.03:
            await _write(writer, 503, b"{}", b"application/json")
            return True
        kind = {"/v1/chat/completions": "chat", "/v1/messages": "messages"}.get(path, "responses")
        if path == "/v1/embeddings":
            text, media = made.embeddings(), b"application/json"
        elif path == "/v1/responses/compact":
            text, media = made.compaction(), b"application/json"
        elif made.stream:
            text, media = getattr(made, f"{kind}_events")(), b"text/event-stream"
        else:
            text, media = json.dumps(getattr(made, kind)()), b"application/json"
        data = text.encode("utf-8", "surrogatepass")
        if fate < 0.1:  # a part of it, and then nothing more
            data = data[: dice.randrange(len(data))]
            await _write(writer, 200, data, media, length=len(data) + 100)
            return False
        await _write(writer, 200, data, media)
        return True


def obeyed(asked: dict[str, Any], size: int) -> dict[str, int]:
    """Tokens of an answer as long as any bound in the body allows, to a prompt as long as what is
    linked may be."""
    bounds = [value for name, value in asked.items() if _plain(name) in _READ]
    bounds = [value for value in map(_number, bounds) if value is not None]
    made = min(max(bounds), CONTEXT) if bounds and min(bounds) > 0 else UNBOUNDED
    choices = [_number(value) or 1 for name, value in asked.items() if _plain(name) == "n"]
    text = json.dumps([asked.get("messages"), asked.get("input"), asked.get("tools")])
    linked = any(mark in text for mark in _LINKS) or "web_search_options" in asked
    return {
        "input": CONTEXT - 10 if linked else size // 8,
        "output": min(made, MAX_OUTPUT) * min(128, max(1, *choices, 1)),
        "cache_read": 0,
        "cache_write": 0,
    }


def _plain(name: str) -> str:
    return name.casefold().replace("_", "")


def _number(value: Any) -> int | None:
    """As a lenient server reads it; None for no number at all."""
    try:
        return int(min(float(value), 1e9))
    except (TypeError, ValueError, OverflowError):
        return None


class Made:
    """One answer, in whichever dialect it is wanted. truth: tokens, None to lie."""

    def __init__(self, dice: random.Random, truth: dict[str, int] | None, stream: bool) -> None:
        self.dice = dice
        self.true = truth is not None
        self.truth = truth or TRUTH
        self.stream = stream
        self.text = "Hello there, my friend."
        if truth is None:
            self.text = dice.choice(_WORDS) * dice.choice((0, 1, 3, 40, 400, 3000))

    def count(self, truth: int) -> Any:
        if self.true:
            return truth
        return self.dice.choice(_NO_COUNTS if self.dice.random() < 0.5 else _COUNTS)

    def reason(self, kind: str) -> Any:
        return _REASONS[kind][0] if self.true else self.dice.choice(_REASONS[kind])

    def less(self, usage: dict[str, Any]) -> Any:
        """All of it, a part of it, nothing, or what is no usage."""
        fate = 1.0 if self.true else self.dice.random()
        if fate < 0.1:
            return self.dice.choice((None, {}, [], "usage", 5))
        if fate < 0.3:
            return dict(self.dice.sample(sorted(usage.items()), self.dice.randint(1, len(usage))))
        return usage

    def openai_usage(self) -> Any:
        given = self.truth["input"] + self.truth["cache_read"] + self.truth["cache_write"]
        details = {
            "cached_tokens": self.count(self.truth["cache_read"]),
            "cache_write_tokens": self.count(self.truth["cache_write"]),
        }
        return self.less(
            {
                "prompt_tokens": self.count(given),
                "completion_tokens": self.count(self.truth["output"]),
                "total_tokens": self.count(given + self.truth["output"]),
                "prompt_tokens_details": details,
                "completion_tokens_details": {"reasoning_tokens": self.count(0)},
            }
        )

    def responses_usage(self) -> Any:
        given = self.truth["input"] + self.truth["cache_read"] + self.truth["cache_write"]
        details = {
            "cached_tokens": self.count(self.truth["cache_read"]),
            "cache_write_tokens": self.count(self.truth["cache_write"]),
        }
        return self.less(
            {
                "input_tokens": self.count(given),
                "output_tokens": self.count(self.truth["output"]),
                "total_tokens": self.count(given + self.truth["output"]),
                "input_tokens_details": details,
                "output_tokens_details": {"reasoning_tokens": self.count(0)},
            }
        )

    def anthropic_usage(self) -> Any:
        usage = {
            "input_tokens": self.count(self.truth["input"]),
            "output_tokens": self.count(self.truth["output"]),
            "cache_read_input_tokens": self.count(self.truth["cache_read"]),
            "cache_creation_input_tokens": self.count(self.truth["cache_write"]),
        }
        if not self.true:
            usage["cache_creation"] = {
                "ephemeral_5m_input_tokens": self.count(0),
                "ephemeral_1h_input_tokens": self.count(0),
            }
            usage["server_tool_use"] = {"web_search_requests": self.count(0)}
            usage["service_tier"] = self.dice.choice(("standard", "priority", "free", None, 7))
            usage["iterations"] = self.dice.choice((None, [], "x", [{}], [{"input_tokens": -5}]))
        return self.less(usage)

    # Whole answers

    def chat(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.reason("chat")}
        found = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        return {**found, "choices": [choice], "usage": self.openai_usage()}

    def messages(self) -> dict[str, Any]:
        found = {"id": "m", "type": "message", "role": "assistant", "model": "m"}
        content = [{"type": "text", "text": self.text}]
        end = {"stop_reason": self.reason("messages"), "stop_sequence": None}
        return {**found, "content": content, **end, "usage": self.anthropic_usage()}

    def responses(self) -> dict[str, Any]:
        content = [{"type": "output_text", "text": self.text, "annotations": []}]
        item = {"type": "message", "id": "i", "role": "assistant", "content": content}
        found = {"id": "r", "object": "response", "created_at": 1, "model": "m"}
        status = self.reason("responses")
        return {**found, "status": status, "output": [item], "usage": self.responses_usage()}

    def embeddings(self) -> str:
        vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
        return json.dumps({"object": "list", "data": [vector], "usage": self.openai_usage()})

    def compaction(self) -> str:
        item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "c2VhbGVk"}
        found = {"id": "r", "object": "response.compaction", "created_at": 1, "output": [item]}
        return json.dumps({**found, "usage": self.responses_usage()})

    # The same as events

    def chat_events(self) -> str:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        choices: list[Any] = [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        ]
        choices += [
            {"index": 0, "delta": {"content": piece}, "finish_reason": None}
            for piece in _pieces(self.text)
        ]
        choices.append({"index": 0, "delta": {}, "finish_reason": self.reason("chat")})
        chunks = [{**chunk, "choices": [choice]} for choice in choices]
        chunks.append({**chunk, "choices": [], "usage": self.openai_usage()})
        return "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"

    def messages_events(self) -> str:
        start = {**self.messages(), "content": [], "stop_reason": None}
        block = {"type": "text", "text": ""}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": block},
        ]
        for piece in _pieces(self.text):
            delta = {"type": "text_delta", "text": piece}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        end = {"stop_reason": self.reason("messages"), "stop_sequence": None}
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": self.anthropic_usage()},
            {"type": "message_stop"},
        ]
        return _named(events)

    def responses_events(self) -> str:
        whole = self.responses()
        item = whole["output"][0]
        opened = {**whole, "status": "in_progress", "output": [], "usage": None}
        place = {"item_id": "i", "output_index": 0, "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": opened},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**item, "content": []},
            },
            {"type": "response.content_part.added", **place, "part": part},
        ]
        events += [
            {"type": "response.output_text.delta", **place, "delta": piece}
            for piece in _pieces(self.text)
        ]
        events += [
            {"type": "response.output_text.done", **place, "text": self.text},
            {"type": "response.content_part.done", **place, "part": item["content"][0]},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return _named([{**event, "sequence_number": n} for n, event in enumerate(events)])


def _pieces(text: str) -> list[str]:
    return [text[at : at + 300] for at in range(0, len(text), 300)]


def _named(events: list[dict[str, Any]]) -> str:
    return "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)


async def _write(
    writer: asyncio.StreamWriter, status: int, data: bytes, media: bytes, length: int = -1
) -> None:
    size = len(data) if length < 0 else length
    head = f"HTTP/1.1 {status} Said\r\ncontent-length: {size}\r\ncontent-type: ".encode()
    writer.write(head + media + b"\r\n\r\n" + data)
    await writer.drain()


@asynccontextmanager
async def lying() -> AsyncIterator[Liar]:
    """The upstream, listening. asyncio sends at once what is written (TCP_NODELAY)."""
    liar = Liar()
    server = await asyncio.start_server(liar.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    liar.url = f"http://{host}:{port}"
    try:
        yield liar
    finally:
        server.close()
