"""The vendors' own clients read passed streams of servers that speak their dialect only nearly."""

import json
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from openai import OpenAI

from edge.dialects.anthropic_messages.passthrough import MessagesRelay
from edge.dialects.openai_responses.passthrough import ResponsesRelay
from middlewares import sse

from .items import MARKS, stream_of


def answering(stream: bytes) -> httpx2.Client:
    """An HTTP client whose every answer is `stream`."""
    headers = {"content-type": "text/event-stream"}
    return httpx2.Client(
        transport=httpx2.MockTransport(
            lambda _: httpx2.Response(200, headers=headers, content=stream)
        )
    )


def passed(relay: MessagesRelay | ResponsesRelay, blocks: list[bytes]) -> bytes:
    return b"".join([*map(relay.relay, blocks), relay.relay_end()])


def delta(text: str) -> dict[str, Any]:
    actual = {"type": "text_delta", "text": text}
    return {"type": "content_block_delta", "index": "0", "delta": actual}


MESSAGE = {"id": "m", "role": "assistant", "model": "up", "content": None, "usage": None}
BLOCK = {"type": "text", "text": None}
NEARLY_MESSAGES: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE},
    {},
    {"type": "content_block_start", "index": "0", "content_block": BLOCK},
    delta("Hi \ud83d"),
    delta("\ude00"),
    {"type": "content_block_stop", "index": "0"},
    {"type": "message_delta", "delta": {"stop_reason": "length"}, "usage": None},
]


def test_anthropic_reads_a_stream_without_lines_usage_or_end() -> None:
    blocks = [sse.encode(json.dumps(event).encode()) for event in NEARLY_MESSAGES]
    with answering(passed(MessagesRelay({}, "ours"), blocks)) as http:
        client = Anthropic(api_key="x", base_url="http://up.test", http_client=http)
        with client.messages.stream(
            model="ours", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == ["Hi \U0001f600"]
    assert (message.model, message.stop_reason) == ("ours", "max_tokens")


DELTAS = ("response.output_text.delta", "response.function_call_arguments.delta")


@pytest.mark.parametrize("marks", MARKS)
def test_openai_puts_items_together_however_they_were_marked(marks: str) -> None:
    begun = {
        "id": "resp_1",
        "object": "response",
        "status": "in_progress",
        "output": [],
        "tools": [],
    }
    events = [{"type": "response.created", "response": begun}, *stream_of("all", marks, "all")]
    blocks = [sse.encode(json.dumps(event).encode(), event["type"]) for event in events]
    with answering(passed(ResponsesRelay({}, "ours"), blocks)) as http:
        client = OpenAI(api_key="x", base_url="http://up.test", http_client=http)
        texts: dict[str, str] = {}
        with client.responses.stream(model="ours", input="Hi") as stream:
            for event in stream:
                if (
                    event.type == "response.output_text.delta"
                    or event.type == "response.function_call_arguments.delta"
                ):
                    texts[event.item_id] = event.snapshot
    assert list(texts.values()) == [
        "let me look",
        '{"city":"Rome"}',
        '{"city":"Oslo"}',
        "and more",
    ]
