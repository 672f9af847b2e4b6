"""What a visitor asks, as a request of a dialect and as a line for curl."""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from edge.dashboard.snippets import curl
from edge.dashboard.snippets.setup import Setup
from middlewares.problem import expected

MOST_TOKENS = 1_000_000
HOTTEST = 2.0
_MESSAGES_MAX_TOKENS = 1024
"""Messages requires a limit."""
_NUMBER = re.compile(r"\d{1,7}", re.ASCII).fullmatch
_DECIMAL = re.compile(r"\d(?:\.\d{1,4})?", re.ASCII).fullmatch


class Prompt(msgspec.Struct, frozen=True):
    """The fields of the form. max_tokens, temperature: None to leave them to the model."""

    model: str = ""
    dialect: str = "chat"
    system: str = ""
    user: str = ""
    max_tokens: int | None = None
    temperature: float | None = None


class PromptDialect(NamedTuple):
    """A dialect of the playground. endpoint: name of its row. write: its request."""

    label: str
    endpoint: str
    write: Callable[[Prompt], dict[str, Any]]
    curl: Callable[[Setup, Mapping[str, Any]], str]


def offered_dialects(paths: Container[str]) -> dict[str, PromptDialect]:
    """The dialects whose endpoint a gateway offers. paths: names of endpoints."""
    return {name: one for name, one in DIALECTS.items() if one.endpoint in paths}


def prompt_of(form: Mapping[str, Sequence[str]], dialects: Mapping[str, PromptDialect]) -> Prompt:
    """The fields of a form. Raises Problem for one that cannot be sent.

    dialects: of `offered_dialects`.
    """

    def field(name: str) -> str:
        return form.get(name, [""])[-1].replace("\r\n", "\n").strip()

    first = next(iter(dialects), "")
    dialect, model, user = field("dialect") or first, field("model"), field("user")
    if dialect not in dialects:
        raise expected("dialect", f"one of {', '.join(dialects)}")
    if not 0 < len(model) <= 200:
        raise expected("model", "the name of a model")
    if not user:
        raise expected("user", "a text to send")
    limit, heat = field("max_tokens"), field("temperature")
    if limit and not (_NUMBER(limit) and 1 <= int(limit) <= MOST_TOKENS):
        raise expected("max_tokens", f"a whole number from 1 to {MOST_TOKENS}")
    if heat and not (_DECIMAL(heat) and float(heat) <= HOTTEST):
        raise expected("temperature", f"a number from 0 to {HOTTEST:g}, such as 0.7")
    return Prompt(
        model=model,
        dialect=dialect,
        system=field("system"),
        user=user,
        max_tokens=int(limit) if limit else None,
        temperature=float(heat) if heat else None,
    )


def request_of(prompt: Prompt, *, stream: bool) -> dict[str, Any]:
    """The request in the prompt's dialect."""
    request = DIALECTS[prompt.dialect].write(prompt)
    if not stream:
        return request
    request["stream"] = True
    if prompt.dialect == "chat":
        request["stream_options"] = {"include_usage": True}
    return request


def body_of(prompt: Prompt, *, stream: bool) -> bytes:
    """The same as JSON."""
    return orjson.dumps(request_of(prompt, stream=stream))


def curl_of(setup: Setup, prompt: Prompt) -> str:
    """The streamed request as a line for a shell."""
    return DIALECTS[prompt.dialect].curl(setup, request_of(prompt, stream=True))


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.user}]


def _chat(prompt: Prompt) -> dict[str, Any]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return {
        "model": prompt.model,
        "messages": [*system, *_turns(prompt)],
        **_given(max_tokens=prompt.max_tokens, temperature=prompt.temperature),
    }


def _messages(prompt: Prompt) -> dict[str, Any]:
    return {
        "model": prompt.model,
        "max_tokens": prompt.max_tokens or _MESSAGES_MAX_TOKENS,
        **_given(system=prompt.system or None, temperature=prompt.temperature),
        "messages": _turns(prompt),
    }


def _responses(prompt: Prompt) -> dict[str, Any]:
    return {
        "model": prompt.model,
        **_given(
            instructions=prompt.system or None,
            max_output_tokens=prompt.max_tokens,
            temperature=prompt.temperature,
        ),
        "input": prompt.user,
        "store": False,
    }


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


DIALECTS: Final[Mapping[str, PromptDialect]] = {
    "chat": PromptDialect("Chat Completions", "chat.completions", _chat, curl.chat),
    "messages": PromptDialect("Messages", "messages", _messages, curl.messages),
    "responses": PromptDialect("Responses", "responses", _responses, curl.responses),
}
"""By the value of the form's field."""
