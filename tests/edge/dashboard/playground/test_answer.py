"""Unstreamed answers of the playground, in each dialect and in none."""

from typing import Any

import orjson
import pytest
from starlette.responses import JSONResponse, Response

from edge.dashboard.playground.answer import Collected, read_answer
from tests.asgi import http_scope


async def collected(response: Response) -> Collected:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    found = Collected()
    await found.of(response, http_scope("POST", "/"), receive)
    return found


CHAT = {"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3, "cost": 0.1}}
MESSAGE = {"content": [{"type": "thinking", "thinking": "No"}, {"type": "text", "text": "Hi"}]}
RESPONSE = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]}


@pytest.mark.parametrize("content", [CHAT, MESSAGE, RESPONSE])
async def test_text_of_each_dialect_is_found(content: dict[str, Any]) -> None:
    answer = read_answer(await collected(JSONResponse(content)))
    assert (answer.text, answer.fault) == ("Hi", "")
    assert orjson.loads(answer.raw) == content


async def test_usage_has_whole_numbers_only() -> None:
    assert read_answer(await collected(JSONResponse(CHAT))).usage == (("prompt_tokens", 3),)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"choices": None, "output": [None], "content": "text", "usage": []},
        {"choices": [{"message": None}, {}], "content": [{"text": 5}]},
    ],
)
async def test_answer_of_no_dialect_has_no_text(content: dict[str, Any]) -> None:
    answer = read_answer(await collected(JSONResponse(content)))
    assert (answer.text, answer.fault, answer.usage) == ("", "", ())


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        (JSONResponse({"error": {"message": "Too much."}}, 429), "Too much."),
        (JSONResponse({"type": "error", "error": {}}, 500), "The request failed."),
        (Response(b"<html>", 502), "The answer is no JSON."),
        (JSONResponse([1]), "The answer is no object."),
        (Response(b'"' + b"x" * (5 << 20) + b'"'), "The answer is too large to show."),
    ],
)
async def test_fault_is_said(response: Response, fault: str) -> None:
    found = await collected(response)
    assert found.status == response.status_code
    assert read_answer(found).fault == fault
