"""Controls of the simulator: speed, shape and faults of an answer.

Controls are words `key=value`. They come from the defaults of a server, from a request header
`x-sim: tokens=50 rate=50`, and from a directive in the text of the last user message,
`[[sim tokens=50 fault=cut:5]]`, which every SDK and gateway passes on. Later ones take precedence.

    tokens=N        text tokens of the answer; without it, an echo and a sentence. 0: no text
    rate=R          tokens per second; 0 sends all at once. An unstreamed answer takes as long
    first=S         seconds from the response head to the first token
    tools=N         call tools N times, in turn, when the request has any
    thinking=N      sentences of thinking; 0 switches thinking off, whatever the request says
    cached=N        prompt tokens read from the cache
    written=N       prompt tokens written to the cache
    canary=1        every text token is the longest word of the last user message
    dated=1         the answer names the model with a date: `sim-1` answers as `sim-1-2026-01-01`
    refusal=1       the model declines: `content_filter`, stop reason `refusal`
    strict=1        refuse what the vendor refuses, in its words; see `strictness`
    see=1           say which media the request holds, as models called `sim-eye` always do
    usage=KIND      usage of a media answer: `tokens`, `duration`, `cost` or `none`
    refuse=A,B:V    media fields, or values of one, that the model does not support, with a 400
    life=A,B:N      the life of a job, see below
    call=NAME:ARGS  a step of a tool script, see below
    retry-after=S   seconds, the header of an error answer
    fault=A,B:N     one fault or several, some with a number
    share=P         percent of requests that have the faults; the bytes of one decide whether it has

Faults; N counts events, or is seconds:

    status:N        this status, with an error body as the vendor writes it
    overflow        400: the prompt is longer than the context window
    html            200 with a page of text/html
    empty           200 and no byte of body
    slow-headers:N  N seconds until the response head
    slow-first:N    N seconds from the head to the first event of any kind
    pings:N         N pings or role-only frames, 20 ms apart, before the first content
    garbage:N       after N events a frame that is not JSON; then the stream goes on
    overlong:N      after N events one that is 17 MiB long and does not end; then the stream does
    error-event:N   after N events the dialect's error event; then the stream ends
    cut:N           after N events the connection breaks
    lost            the connection breaks before the head; a job or a file has been made
    end:N           after N events the stream ends as if it were whole
    stall:N         after N events silence, until the client hangs up
    hold:N          after N events silence, until the server is asked for /release
    crlf            lines of the stream end with CR LF
    split-utf8      multi-byte text, cut inside code points, 2 ms between the parts
    byte-by-byte    each byte is a write of its own

Lives of a job, several at once if need be; N counts polls:

    slow:N          it runs for N polls; without it, the first poll finds it complete
    held            it runs until the server is asked for /release
    fail            it fails
    flaky:N         the first N polls get 503
    gone:N          after N polls the job is unknown
    expire:N        its content can be fetched N times

A tool script leads a coding client through a task: `[[sim call=Bash:%7B%22command%22%3A%22ls%22%7D
call=Read:...]]` in a user message. Each assistant turn after it makes the call that is due: the
first, and after n tool results the one with the index n; when all are done, it says the last result
in text. NAME is a tool as the request offers it. ARGS is percent-encoded (`call_word` does it): a
JSON object, or the text for a custom tool, or for the only argument of any other. The script is
found although the client puts other user text behind it, and the other words of its directive hold
for all its turns. It is over with an assistant turn that calls nothing. A request without tools, as
clients make them for titles, is answered plainly.

An unstreamed answer is cut or stalls in its middle, is no JSON where a stream is garbage or too
long, and an error where a stream has an error event. It is held as a whole.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec

FAULTS: Mapping[str, float | None] = {
    "status": None,
    "overflow": 0,
    "html": 0,
    "empty": 0,
    "slow-headers": 1.0,
    "slow-first": 1.0,
    "pings": 5,
    "garbage": 1,
    "overlong": 1,
    "error-event": 1,
    "cut": 1,
    "lost": 0,
    "end": 1,
    "stall": 1,
    "hold": 1,
    "crlf": 0,
    "split-utf8": 0,
    "byte-by-byte": 0,
}
"""Fault names and default numbers; None: the number is required."""

LIVES: Mapping[str, float | None] = {
    "slow": 1,
    "held": 0,
    "fail": 0,
    "flaky": 1,
    "gone": 0,
    "expire": 0,
}
"""Names of a job's lives and default numbers."""

MAX_TOKENS = 100_000
_USAGES = ("tokens", "duration", "cost", "none")

_DIRECTIVE = re.compile(r"\[\[sim\b([^\]]*)\]\]")


class Controls(msgspec.Struct, frozen=True):
    """The controls of one request, documented in the module's docstring."""

    tokens: int | None = None
    rate: float = 0.0
    first: float = 0.0
    tools: int | None = None
    thinking: int | None = None
    cached: int | None = None
    written: int | None = None
    canary: bool = False
    dated: bool = False
    refusal: bool = False
    strict: bool = False
    see: bool = False
    usage: str = ""
    refuse: tuple[str, ...] = ()
    life: Mapping[str, float] = {}
    call: tuple[tuple[str, str], ...] = ()
    retry_after: int | None = None
    fault: Mapping[str, float] = {}
    share: int = 100

    def with_words(self, text: str) -> "Controls":
        """These controls, changed by the words of `text`.

        Raises ValueError that names every unknown control.
        """
        values: dict[str, str] = {}
        unknown: list[str] = []
        for word in text.split():
            key, equals, value = word.partition("=")
            if key.replace("-", "_") not in _READERS:
                unknown.append(key)
            elif not equals and _READERS[key.replace("-", "_")] is _switch:
                values[key] = "1"
            elif not equals:
                raise ValueError(f"sim control {key!r} has no value")
            elif key == "call" and key in values:
                values[key] += f" {value}"
            else:
                values[key] = value
        if unknown:
            known = ", ".join(sorted(name.replace("_", "-") for name in _READERS))
            raise ValueError(f"unknown sim control {', '.join(unknown)}; one of {known}")
        return self.with_values(values)

    def with_values(self, values: Mapping[str, Any]) -> "Controls":
        """These controls, changed by `values`: text or plain Python values, by key.

        Raises ValueError that names the key and what it accepts.
        """
        changes: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in _READERS:
                raise ValueError(f"unknown sim control {key}")
            if value is not None:
                text = str(int(value)) if isinstance(value, bool) else str(value)
                changes[name] = _READERS[name](key, text)
        return msgspec.structs.replace(self, **changes)


def take_directive(text: str) -> tuple[str, str]:
    """`text` without its directives, and the words of all of them."""
    if "[[sim" not in text:
        return text, ""
    words = " ".join(_DIRECTIVE.findall(text))
    return _DIRECTIVE.sub("", text).strip(), words


def has_calls(text: str) -> bool:
    """Whether a directive in `text` contains a tool script."""
    return any(
        word.startswith("call=") for found in _DIRECTIVE.findall(text) for word in found.split()
    )


def call_word(name: str, arguments: Mapping[str, Any] | str) -> str:
    """The word of a directive that has the tool `name` called: `call=NAME:ARGS`.

    arguments: a JSON object, or the text for a custom tool.
    """
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return f"call={quote(name, safe='')}:{quote(text, safe='')}"


def _calls(key: str, text: str) -> tuple[tuple[str, str], ...]:
    found = []
    for word in text.split():
        name, colon, arguments = word.partition(":")
        if not (name and colon):
            raise ValueError(f"sim control {key}={word}: NAME:ARGS is expected")
        found.append((unquote(name), unquote(arguments)))
    return tuple(found)


def _count(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_TOKENS):
        raise ValueError(f"sim control {key}={text}: a whole number up to {MAX_TOKENS} is expected")
    return int(text)


def _percent(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 100):
        raise ValueError(f"sim control {key}={text}: a whole number up to 100 is expected")
    return int(text)


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise ValueError(f"sim control {key}={text}: a number of 0 or more is expected")
    return value


def _switch(key: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"sim control {key}={text}: 0 or 1 is expected")
    return text == "1"


def _usage(key: str, text: str) -> str:
    if text not in _USAGES:
        raise ValueError(f"sim control {key}={text}: one of {', '.join(_USAGES)} is expected")
    return text


def _names(key: str, text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _faults(key: str, text: str) -> dict[str, float]:
    return dict(_numbered(key, text, FAULTS))


def _lives(key: str, text: str) -> dict[str, float]:
    return dict(_numbered(key, text, LIVES))


def _numbered(
    key: str, text: str, known: Mapping[str, float | None]
) -> Iterator[tuple[str, float]]:
    for item in filter(None, text.split(",")):
        name, colon, number = item.partition(":")
        if name not in known:
            raise ValueError(f"unknown {key} {name}; one of {', '.join(sorted(known))}")
        default = known[name]
        value = _number(f"{key} {name}", number) if colon else default
        if value is None:
            raise ValueError(f"{key} {name} needs a number, e.g. {name}:503")
        if value > MAX_TOKENS:
            raise ValueError(f"{key} {item}: a number up to {MAX_TOKENS} is expected")
        if name == "status" and not (value.is_integer() and 400 <= value <= 599):
            raise ValueError(f"fault status:{number}: a status from 400 to 599 is expected")
        yield name, value


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "tokens": _count,
    "rate": _number,
    "first": _number,
    "tools": _count,
    "thinking": _count,
    "cached": _count,
    "written": _count,
    "canary": _switch,
    "dated": _switch,
    "refusal": _switch,
    "strict": _switch,
    "see": _switch,
    "usage": _usage,
    "refuse": _names,
    "life": _lives,
    "call": _calls,
    "retry_after": _count,
    "fault": _faults,
    "share": _percent,
}
