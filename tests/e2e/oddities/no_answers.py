"""200 without an answer, and errors in other clothes."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from tests.e2e.answers import HIDDEN, answer
from tests.e2e.scripted_upstream import HOLD, Wire

from .oddity import HELLO, TEXT, WIRES, Oddity, body, stream

NO_ANSWERS: Mapping[str, Any] = {
    "an empty object": {},
    "`detail`": {"detail": f"{HIDDEN} at 10.0.0.5 gave up"},
    "`code` and `msg`": {"code": 500, "msg": f"{HIDDEN}: not found", "success": False},
    "`base_resp`": {"base_resp": {"status_code": 1008, "status_msg": f"{HIDDEN} has no funds"}},
    "`message` alone": {"message": f"{HIDDEN} is asleep", "status": "error"},
    "a list": [{"error": {"code": 503, "message": f"{HIDDEN} is full", "status": "UNAVAILABLE"}}],
    "`error` as text": {"error": f"{HIDDEN} fell over"},
}
"""Bodies under 200, and frames, that hold no answer in any dialect."""
EMBEDDINGS: Wire = "embeddings"
_LACKING: Mapping[str, Mapping[str, Any]] = {
    "chat": {
        "no choices": {"id": "x", "object": "chat.completion", "choices": []},
        "choices null": {"id": "x", "object": "chat.completion", "choices": None},
        "a choice without a message": {"id": "x", "choices": [{"index": 0, "message": None}]},
    },
    "messages": {
        "content null": {"id": "x", "type": "message", "role": "assistant", "content": None},
        "content as text": {"id": "x", "type": "message", "role": "assistant", "content": HIDDEN},
        "no content and no reason": {"id": "x", "type": "message", "content": []},
    },
    "responses": {
        "output null": {"id": "x", "object": "response", "status": "completed", "output": None},
        "an answer not ready": {"object": "response", "status": "in_progress", "output": []},
    },
    "embeddings": {
        "no data": {"object": "list", "data": [], "model": f"{HIDDEN}-model"},
    },
}


def no_answer() -> Iterator[Oddity]:
    for wire in (*WIRES, EMBEDDINGS):
        for name, said in {**NO_ANSWERS, **_LACKING[wire]}.items():
            yield Oddity(
                name=f"200 with {name}", wire=wire, fails="upstream_error", plain=body(said)
            )
    for wire in WIRES:
        for name in ("`detail`", "`code` and `msg`", "`base_resp`", "`error` as text"):
            frame = NO_ANSWERS[name]
            yield Oddity(
                name=f"first frame with {name}",
                wire=wire,
                fails="upstream_error",
                stream=stream(wire, frame),
            )
            said = answer(wire, *HELLO).events
            at = next(n for n, event in enumerate(said) if HELLO[0] in json.dumps(event)) + 1
            yield Oddity(
                name=f"frame with {name} behind words",
                wire=wire,
                cut=HELLO[0],
                stream=stream(wire, *said[:at], HOLD, frame),
            )
    in_choice = answer("chat", "")
    failing = {"error": {"code": 502, "message": f"{HIDDEN} had an error"}}
    in_choice.choice.update(finish_reason="error", **failing)
    yield Oddity(
        name="an error inside a choice",
        wire="chat",
        fails="upstream_error",
        plain=body(in_choice.body),
    )
    made = answer("chat", *HELLO)
    first, hello, *_ = made.events
    broken = deepcopy(hello)
    broken["choices"][0].update(delta={"content": ""}, **failing)
    yield Oddity(
        name="an error inside a choice behind words",
        wire="chat",
        cut=HELLO[0],
        stream=stream("chat", first, hello, HOLD, broken),
    )
    yield Oddity(
        name="`[DONE]` without a finish reason",
        wire="chat",
        cut=TEXT,
        stream=stream("chat", *made.events[:3], HOLD),
    )
    messages = answer("messages", *HELLO).events
    yield Oddity(
        name="an end without a stop reason",
        wire="messages",
        cut=TEXT,
        stream=stream("messages", *messages[:-2], HOLD),
    )
    failed = answer("responses", "").body
    failed.update(status="failed", output=[], usage=None)
    failed["error"] = {"code": "server_error", "message": f"{HIDDEN} had an error"}
    yield Oddity(
        name="a response that failed",
        wire="responses",
        fails="upstream_error",
        plain=body(failed),
        stream=stream("responses", {"type": "response.failed", "response": failed}),
    )
