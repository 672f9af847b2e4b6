"""A streamed call of a running demo, printed as it comes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import msgspec

_CREDITS = ": x-credits-used "
"""Beginning of the comment of a stream that says what it cost."""


def streamed_call(
    url: str, body: Mapping[str, Any], headers: Mapping[str, str], shown: Sequence[str]
) -> Iterator[str]:
    """Pieces of what is printed: the answer's text, and those of its headers that are `shown`.

    body: a request of Chat Completions or Messages that asks for a stream. Raises HTTPError.
    """
    cost = ""
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", url, json=body, headers=headers) as response,
    ):
        if response.status_code != 200:
            response.read()
            yield f"{response.status_code} {response.text}\n"
            return
        for line in response.iter_lines():
            if line.startswith("data: {"):
                yield from _text(msgspec.json.decode(line[6:]))
            elif line.startswith(_CREDITS):
                cost = line.removeprefix(_CREDITS)
        yield "\n\nStamped on the response:\n\n"
        for name in shown:
            if name in response.headers:
                yield f"  {name}: {response.headers[name]}\n"
        if cost:
            yield f"  x-credits-used: {cost} (a comment at the end of the stream)\n"


def _text(event: dict[str, Any]) -> Iterator[str]:
    for choice in event.get("choices", ()):
        yield choice["delta"].get("content") or ""
    if event.get("type") == "content_block_delta":
        yield event["delta"].get("text", "")
