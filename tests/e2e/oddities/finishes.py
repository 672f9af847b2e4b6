"""Finish reasons of other vendors."""

from collections.abc import Iterator, Mapping, Sequence

from tests.e2e.answers import answer
from tests.e2e.scripted_upstream import HOLD

from .oddity import HELLO, TEXT, Oddity, body, both, stream

_FINISHES: Mapping[str, Sequence[str]] = {
    "broken": (
        "abort",
        "network_error",
        "insufficient_system_resource",
        "MALFORMED_FUNCTION_CALL",
        "error",
    ),
    "filter": ("sensitive", "SAFETY", "PROHIBITED_CONTENT"),
    "length": (
        "model_length",
        "max_tokens",
        "MAX_TOKENS",
        "model_context_window_exceeded",
        "repetition_truncation",
    ),
    "end": ("STOP", "end_turn"),
}


def finishes() -> Iterator[Oddity]:
    for stop, words in _FINISHES.items():
        for word in words:
            made = answer("chat", *HELLO, stop=word)
            name = f"finish reason {word}"
            if stop != "broken":
                yield Oddity(name=name, wire="chat", whole=TEXT, stop=stop, **both(made, "chat"))
                continue
            yield Oddity(name=name, wire="chat", fails="upstream_error", plain=body(made.body))
            yield Oddity(
                name=f"{name} behind words",
                wire="chat",
                cut=TEXT,
                stream=stream("chat", *made.events[:3], HOLD, *made.events[3:]),
            )
    empty = answer("chat", *HELLO)
    for event in empty.events[:-2]:
        event["choices"][0]["finish_reason"] = ""
    whole = stream("chat", *empty.events)
    yield Oddity(name="an empty finish reason before one", wire="chat", whole=TEXT, stream=whole)
    only = stream("chat", *empty.events[:-2], HOLD, done=False)
    yield Oddity(name="empty finish reasons alone", wire="chat", cut=TEXT, stream=only)
    yield from _of_messages()
    yield from _of_responses()


def _of_messages() -> Iterator[Oddity]:
    for stop, words in _FINISHES.items():
        for word in words[:2]:
            made = answer("messages", *HELLO, stop=word)
            name = f"stop reason {word}"
            if stop != "broken":
                answers = both(made, "messages")
                yield Oddity(name=name, wire="messages", whole=TEXT, stop=stop, **answers)
                continue
            yield Oddity(name=name, wire="messages", fails="upstream_error", plain=body(made.body))
            yield Oddity(
                name=f"{name} behind words",
                wire="messages",
                cut=TEXT,
                stream=stream("messages", *made.events[:-2], HOLD, *made.events[-2:]),
            )


def _of_responses() -> Iterator[Oddity]:
    for stop, words in _FINISHES.items():
        if stop == "end":
            continue
        for word in words[:2]:
            made = answer("responses", *HELLO)
            made.body.update(status="incomplete", incomplete_details={"reason": word})
            made.events[-1]["type"] = "response.incomplete"
            name = f"incomplete for {word}"
            if stop != "broken":
                answers = both(made, "responses")
                yield Oddity(name=name, wire="responses", whole=TEXT, stop=stop, **answers)
                continue
            yield Oddity(name=name, wire="responses", fails="upstream_error", plain=body(made.body))
            yield Oddity(
                name=f"{name} behind words",
                wire="responses",
                cut=TEXT,
                stream=stream("responses", *made.events[:-1], HOLD, made.events[-1]),
            )
