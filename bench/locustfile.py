"""Plain and streamed load in both dialects, as locust users.

    PENSTOCK_KEY=sk-… locust -f bench/locustfile.py --host http://127.0.0.1:8080
    PENSTOCK_KEY=sk-… locust -f bench/locustfile.py --host http://127.0.0.1:8080 \\
        --headless --users 50 --spawn-rate 50 --run-time 30s

Beside locust's own rows there are, for each streamed call, `ttft` (from sending the request to the
first content) and `gap` (between two pieces of content), both in ms. A stream counts as failed
when it lacks content or the end its dialect prescribes, or carries an error event. One dialect
alone: `--tags openai` or `--tags anthropic`.

Environment: PENSTOCK_KEY (none: no key is sent), PENSTOCK_MODEL (sim-1), PENSTOCK_PROMPT (the
default asks a simulator for 50 tokens, one each 20 ms; a real model takes it as odd text),
PENSTOCK_MAX_TOKENS (256), PENSTOCK_WAIT (seconds between the calls of a user, 0.1).
"""

import json
import os
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

from locust import HttpUser, constant, tag, task

KEY = os.environ.get("PENSTOCK_KEY", "")
MODEL = os.environ.get("PENSTOCK_MODEL", "sim-1")
PROMPT = os.environ.get("PENSTOCK_PROMPT", "Tell me of rivers. [[sim tokens=50 rate=50]]")
MAX_TOKENS = int(os.environ.get("PENSTOCK_MAX_TOKENS", "256"))

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


class BrokenStream(Exception):
    """A stream that did not say or end what it should have."""


def headers(path: str) -> dict[str, str]:
    """As the dialect of `path` sends the key."""
    if path == MESSAGES:
        return {"anthropic-version": "2023-06-01", **({"x-api-key": KEY} if KEY else {})}
    return {"authorization": f"Bearer {KEY}"} if KEY else {}


def body(*, stream: bool) -> dict[str, Any]:
    """A request that both dialects understand."""
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": MODEL, "max_tokens": MAX_TOKENS, "stream": stream, "messages": messages}


def events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event, as soon as its line has come."""
    for line in lines:
        if line.startswith(b"data:"):
            yield line[5:].strip()


def content(data: bytes) -> bool:
    """Whether an event carries text. Raises BrokenStream for an error event."""
    if data == b"[DONE]":
        return False
    event = json.loads(data)
    if "error" in event:
        raise BrokenStream(f"error event: {data.decode()[:200]}")
    if event.get("type") == "content_block_delta":
        return bool(event["delta"].get("text"))
    return any(choice["delta"].get("content") for choice in event.get("choices", ()))


def is_end(path: str, data: bytes) -> bool:
    """Whether an event is the last one of its dialect."""
    if path == MESSAGES:
        return data.startswith(b"{") and json.loads(data).get("type") == "message_stop"
    return data == b"[DONE]"


def reason(text: str) -> str:
    """The message of an error answer, without the ids that would make every failure its own."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


class ModelUser(HttpUser):
    """A client that calls, waits a little, and calls again."""

    wait_time = constant(float(os.environ.get("PENSTOCK_WAIT", "0.1")))

    @tag("openai")
    @task(1)
    def chat(self) -> None:
        self._plain(CHAT, "choices")

    @tag("anthropic")
    @task(1)
    def messages(self) -> None:
        self._plain(MESSAGES, "content")

    @tag("openai")
    @task(3)
    def chat_streamed(self) -> None:
        self._streamed(CHAT)

    @tag("anthropic")
    @task(3)
    def messages_streamed(self) -> None:
        self._streamed(MESSAGES)

    def _plain(self, path: str, wanted: str) -> None:
        with self.client.post(
            path, json=body(stream=False), headers=headers(path), catch_response=True
        ) as response:
            if response.status_code == 200 and not response.json().get(wanted):
                response.failure(f"no {wanted} in the answer")

    def _streamed(self, path: str) -> None:
        name = f"{path} (stream)"
        began = perf_counter()
        with self.client.post(
            path,
            name=name,
            json=body(stream=True),
            headers=headers(path),
            stream=True,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {reason(response.text)}")
                return
            try:
                self._read(path, response, began)
            except (BrokenStream, ValueError, KeyError, OSError) as error:
                response.failure(f"{type(error).__name__}: {error}")

    def _read(self, path: str, response: Any, began: float) -> None:
        last, seen, size = began, 0, 0
        ended = False
        for data in events(lines(response)):
            size += len(data)
            if ended:
                raise BrokenStream("events after the end")
            if content(data):
                now = perf_counter()
                self._fire("gap" if seen else "ttft", path, now - last, len(data))
                last, seen = now, seen + 1
            ended = is_end(path, data)
        if not seen:
            raise BrokenStream("no content")
        if not ended:
            raise BrokenStream("the stream has no end")

    def _fire(self, kind: str, path: str, seconds: float, size: int) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=path,
            response_time=seconds * 1000,
            response_length=size,
            exception=None,
            context={},
        )


def lines(response: Any) -> Iterator[bytes]:
    """The lines of a body as they arrive."""
    rest = b""
    for piece in response.iter_content(None):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
