"""Odd values of members that no answer needs, and odd transport."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping

from tests.e2e.answers import HIDDEN, Json, answer
from tests.e2e.scripted_upstream import SSE, Answer

from .oddity import HELLO, TEXT, WIRES, Oddity, body, changed, stream


def _in_choices(change: Json) -> Callable[[Json], None]:
    def changed(each: Json) -> None:
        for choice in each["choices"]:
            choice.update(change)

    return changed


def _in_messages(change: Json) -> Callable[[Json], None]:
    def changed(each: Json) -> None:
        for choice in each["choices"]:
            choice["message" if "message" in choice else "delta"].update(change)

    return changed


def _in_all(change: Json) -> Callable[[Json], None]:
    return lambda each: each.update(change)


def _in_usage(change: Callable[[Json], object]) -> Callable[[Json], None]:
    """Of an answer in any dialect, or of an event, in which it may stand deeper."""

    def changed(each: Json) -> None:
        for place in (each, each.get("message"), each.get("response")):
            if isinstance(place, dict) and place.get("usage"):
                place["usage"] = change(place["usage"])

    return changed


def _as_text(usage: Json) -> Json:
    return {name: str(one) if isinstance(one, int) else one for name, one in usage.items()}


def _naming(usage: Json) -> Json:
    return {**usage, "cost": 0.1, "models": [{"model": HIDDEN}]}


_ODD = {
    **dict.fromkeys(("prompt_tokens_details", "completion_tokens_details"), "none"),
    **dict.fromkeys(("input_tokens_details", "output_tokens_details"), 7),
    **dict.fromkeys(("cache_creation", "iterations", "server_tool_use"), True),
    "total_tokens": {},
}
_USAGES: Mapping[str, tuple[Callable[[Json], object], bool]] = {
    "usage as text": (_as_text, True),
    "usage with odd details": (lambda usage: {**usage, **_ODD}, True),
    "usage is a list": (lambda _: [], False),
    "usage is text": (lambda _: "none", False),
}
"""By name: what is made of it, and whether its figures can be read."""


_NAN = {"content": [{"token": "x", "logprob": float("nan"), "top_logprobs": []}]}
_CHANGES: Mapping[str, Callable[[Json], None]] = {
    "`error` is empty text": _in_all({"error": ""}),
    "`error` is an empty object": _in_all({"error": {}}),
    "`error` is false": _in_all({"error": False}),
    "`error` is null": _in_all({"error": None}),
    "an odd `id`": _in_all({"id": 7}),
    "an odd `created`": _in_all({"created": "today"}),
    "an index as text": _in_choices({"index": "0"}),
    "an index of 1": _in_choices({"index": 1}),
    "odd `refusal`": _in_messages({"refusal": False}),
    "odd `annotations`": _in_messages({"annotations": "none"}),
    "`tool_calls` of null": _in_messages({"tool_calls": [None]}),
    "odd `logprobs`": _in_choices({"logprobs": "none"}),
    "NaN": _in_choices({"logprobs": _NAN}),
}


def lenient() -> Iterator[Oddity]:
    for name, change in _CHANGES.items():
        yield Oddity(name=name, wire="chat", whole=TEXT, **changed("chat", change))
    for wire in WIRES:
        for name, (odd, counted) in _USAGES.items():
            answers = changed(wire, _in_usage(odd))
            yield Oddity(name=name, wire=wire, whole=TEXT, counted=counted, **answers)
        made = answer(wire, *HELLO)
        plain = json.dumps(made.body).encode()
        events = stream(wire, *made.events)
        mark = b"\xef\xbb\xbf"
        marked = [mark + events.pieces[0], *events.pieces[1:]]
        yield Oddity(
            name="a byte order mark",
            wire=wire,
            whole=TEXT,
            plain=body(mark + plain),
            stream=Answer(headers=SSE, pieces=marked),
        )
        yield Oddity(
            name="status 201",
            wire=wire,
            whole=TEXT,
            plain=body(plain, status=201),
            stream=Answer(status=201, headers=SSE, pieces=events.pieces),
        )
        packed = gzip.compress(b"".join(events.pieces))
        yield Oddity(
            name="gzip",
            wire=wire,
            whole=TEXT,
            plain=body(gzip.compress(plain), content_encoding="gzip"),
            stream=Answer(
                headers={**SSE, "content-encoding": "gzip"}, pieces=[packed[:40], packed[40:]]
            ),
        )
        for label in ("text/plain; charset=utf-8", "application/octet-stream"):
            yield Oddity(
                name=f"a stream under {label}",
                wire=wire,
                whole=TEXT,
                stream=Answer(headers={"content-type": label}, pieces=events.pieces),
            )
        halves = answer(wire, "hi \ud83d", "\ude00 there")
        yield Oddity(
            name="an emoji in two halves",
            wire=wire,
            whole="hi \N{GRINNING FACE} there",
            stream=stream(wire, *halves.events),
        )
    for label in ("text/html", "application/json"):
        page = Answer(headers={"content-type": label}, pieces=[b"<html>vendor-secret</html>"])
        yield Oddity(name=f"a page as {label}", wire="chat", fails="upstream_error", stream=page)
    null = answer("messages", *HELLO)
    null.events[1]["content_block"]["text"] = None
    yield Oddity(
        name="null text at the start of a block",
        wire="messages",
        whole=TEXT,
        stream=stream("messages", *null.events),
    )
    for wire in WIRES:
        naming = _in_all(
            {
                "provider": HIDDEN,
                "system_fingerprint": f"fp_{HIDDEN}",
                "x_groq": {"id": HIDDEN},
            }
        )
        answers = changed(wire, naming)
        yield Oddity(name="the provider by name", wire=wire, whole=TEXT, **answers)
        answers = changed(wire, _in_usage(_naming))
        yield Oddity(name="models in the usage", wire=wire, whole=TEXT, **answers)
    values: Json = {"index": "0", "id": 7, "error": {}}
    for name, value in values.items():
        for wire in WIRES[1:]:
            answers = changed(wire, _in_all({name: value}))
            yield Oddity(name=f"odd `{name}`", wire=wire, whole=TEXT, **answers)
