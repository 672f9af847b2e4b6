"""What the Open Responses compliance suite asks of an implementation, over each upstream dialect.

Source: openresponses.org, the HTTP tests of its suite, rewritten against the checks of
`tests.schemas`. Every response object and every event of a stream is checked whole.
"""

import base64
import json
import struct
import zlib
from typing import Any

import pytest

from tests.schemas import check, check_stream

from .program import Gateway
from .surfaces import MODELS, RESPONSES
from .wire import Reply, ask, events

everywhere = pytest.mark.parametrize("model", MODELS.values())

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}


def message(role: str, content: Any, **members: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **members}


def png() -> str:
    """A red picture of 2 by 2, as a data URL."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0\xff\0\0" * 2)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


PDF = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()


async def post(gateway: Gateway, path: str, **body: Any) -> Reply:
    return await ask(gateway.url, path, body, gateway.bearer)


async def respond(gateway: Gateway, model: str, given: Any, **more: Any) -> dict[str, Any]:
    reply = await post(gateway, RESPONSES, model=model, input=given, **more)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = check("response", reply.body)
    assert found["status"] == "completed"
    assert found["output"]
    return found


def text_of(response: dict[str, Any]) -> str:
    parts = [part for item in response["output"] for part in item.get("content") or ()]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


@everywhere
async def test_basic_response(gateway: Gateway, model: str) -> None:
    found = await respond(gateway, model, [message("user", "Say hello in exactly 3 words.")])
    assert "Say hello in exactly 3 words." in text_of(found)


@everywhere
async def test_streaming_response(gateway: Gateway, model: str) -> None:
    body = {"model": model, "input": [message("user", "Count from 1 to 5.")], "stream": True}
    reply = await ask(gateway.url, RESPONSES, body, gateway.bearer)
    said = check_stream("responses", reply.body)
    assert "Count from 1 to 5." in said.text
    last = events(reply.body)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.completed", "completed")


@everywhere
async def test_system_prompt(gateway: Gateway, model: str) -> None:
    given = [message("system", "You are a pirate."), message("user", "Say hello.")]
    assert "Say hello." in text_of(await respond(gateway, model, given))


@everywhere
async def test_tool_calling(gateway: Gateway, model: str) -> None:
    given = [message("user", "The weather in Rome? [[sim tools=1]]")]
    found = await respond(gateway, model, given, tools=[WEATHER])
    (call,) = [item for item in found["output"] if item["type"] == "function_call"]
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"location": "sample"})


@everywhere
async def test_tool_calling_streaming(gateway: Gateway, model: str) -> None:
    given = [message("user", "The weather in Rome? [[sim tools=1]]")]
    body = {"model": model, "input": given, "tools": [WEATHER], "stream": True}
    reply = await ask(gateway.url, RESPONSES, body, gateway.bearer)
    check_stream("responses", reply.body)
    kinds = [event["type"] for event in events(reply.body)]
    assert "response.function_call_arguments.delta" in kinds
    assert "response.function_call_arguments.done" in kinds
    added = [e for e in events(reply.body) if e["type"] == "response.output_item.added"]
    assert "function_call" in {event["item"]["type"] for event in added}


@everywhere
async def test_function_call_roundtrip(gateway: Gateway, model: str) -> None:
    asked = message("user", "The weather in Rome? [[sim tools=1]]")
    first = await respond(gateway, model, [asked], tools=[WEATHER])
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]
    result = {
        "type": "function_call_output",
        "call_id": call["call_id"],
        "output": '{"temperature": 21}',
    }
    second = await respond(gateway, model, [asked, *first["output"], result], tools=[WEATHER])
    assert '"temperature": 21' in text_of(second)


@everywhere
async def test_image_input(gateway: Gateway, model: str) -> None:
    parts = [
        {"type": "input_text", "text": "What do you see?"},
        {"type": "input_image", "image_url": png()},
    ]
    assert "What do you see?" in text_of(await respond(gateway, model, [message("user", parts)]))


@everywhere
async def test_file_input(gateway: Gateway, model: str) -> None:
    parts = [
        {"type": "input_text", "text": "What is in it?"},
        {"type": "input_file", "filename": "a.pdf", "file_data": PDF},
    ]
    assert "What is in it?" in text_of(await respond(gateway, model, [message("user", parts)]))


@everywhere
async def test_multi_turn(gateway: Gateway, model: str) -> None:
    given = [
        message("user", "My name is Alice."),
        message("assistant", "Hello Alice!"),
        message("user", "What is my name?"),
    ]
    assert "What is my name?" in text_of(await respond(gateway, model, given))


@everywhere
async def test_assistant_phase(gateway: Gateway, model: str) -> None:
    given = [
        message("user", "Look into it."),
        message("assistant", [{"type": "output_text", "text": "Looking."}], phase="commentary"),
        message("assistant", [{"type": "output_text", "text": "Found."}], phase="final_answer"),
        message("user", "And now?"),
    ]
    assert "And now?" in text_of(await respond(gateway, model, given))


@everywhere
async def test_previous_response_id(gateway: Gateway, model: str) -> None:
    first = await respond(gateway, model, "My name is Alice.", store=True)
    assert first["store"] is True
    second = await respond(
        gateway, model, "What is my name?", previous_response_id=first["id"], store=True
    )
    assert second["previous_response_id"] == first["id"]
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]


@everywhere
async def test_a_previous_response_that_is_not_there(gateway: Gateway, model: str) -> None:
    reply = await post(
        gateway, RESPONSES, model=model, input="Hi", previous_response_id="resp_none"
    )
    assert reply.status == 400
    assert reply.error["code"] == "previous_response_not_found"
    assert reply.error["param"] == "previous_response_id"


@everywhere
async def test_compact_response(gateway: Gateway, model: str) -> None:
    given = [
        message("user", "My name is Alice. " * 40),
        message("assistant", "Noted."),
        message("user", "Carry on."),
    ]
    reply = await post(gateway, f"{RESPONSES}/compact", model=model, input=given)
    assert reply.status == 200, reply.body
    found = check("response.compaction", reply.body)
    assert found["object"] == "response.compaction"
    assert "compaction" in {item["type"] for item in found["output"]}
    onwards = [*found["output"], message("user", "What is my name?")]
    assert "What is my name?" in text_of(await respond(gateway, model, onwards))


async def test_compact_without_a_model(gateway: Gateway) -> None:
    reply = await post(gateway, f"{RESPONSES}/compact", input="Hi")
    assert reply.status == 400
    assert reply.error["param"] == "model"
