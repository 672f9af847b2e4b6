"""POST /v1/images/generations: whole answers, events, and what they cost."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest

from edge.proxy import long_strings
from edge.upstreams import Disconnected, Request
from tests.asgi import Call, http_scope, request
from tests.edge.scripted import JSON, SSE, Answer, Scripted, ScriptedGateway

PATH = "/v1/images/generations"
ASKED = {"model": "painter", "prompt": "a gate and water"}
PIXELS = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(30)).decode()
LARGE = b64encode(bytes(range(256)) * 2000).decode()
USAGE = {
    "input_tokens": 20,
    "output_tokens": 1056,
    "total_tokens": 1076,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
}


def sent_body(sent: Request) -> Any:
    assert isinstance(sent.body, bytes)
    return json.loads(sent.body)


def gateway(
    *answers: Answer, price: dict[str, str] | None = None, document: Any = None
) -> ScriptedGateway:
    models = [
        {
            "id": "painter",
            "targets": ["oai/paint-x", "both/paint-y"],
            "price": price or {"image": "0.04"},
        }
    ]
    return ScriptedGateway(Scripted(*answers), document={"models": models, **(document or {})})


def drawn(*images: dict[str, Any], **members: Any) -> Answer:
    body = {"created": 1_790_000_000, "data": list(images or [{"b64_json": PIXELS}]), **members}
    return Answer([json.dumps(body).encode()], headers=[JSON])


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": f"image_generation.{kind}", **members}).encode()
    return b"event: image_generation." + kind.encode() + b"\ndata: " + data + b"\n\n"


PARTIAL = event("partial_image", b64_json=PIXELS, partial_image_index=0)
DONE = event("completed", b64_json=PIXELS, usage=USAGE, size="1024x1024")


async def test_image_is_requested_in_base64_and_members_pass() -> None:
    home = gateway(drawn({"b64_json": PIXELS, "revised_prompt": "a gate"}, size="1024x1024"))
    asked = {**ASKED, "n": 1, "size": "1024x1024", "background": "auto", "own": {"a": 1}}
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.status == 200, answer.text
    assert answer.json() == {
        "created": 1_790_000_000,
        "size": "1024x1024",
        "data": [{"b64_json": PIXELS, "revised_prompt": "a gate"}],
    }
    (sent,) = home.upstream.requests
    assert sent.target == b"/v1/images/generations"
    assert sent_body(sent) == {**asked, "model": "paint-x", "response_format": "b64_json"}
    assert answer.header("x-credits-used") == "0.04"
    assert answer.header("content-length") == str(len(answer.body))


async def test_names_of_the_vendor_do_not_pass() -> None:
    home = gateway(
        drawn(
            {"b64_json": PIXELS, "model": "paint-x", "provider": "SimProvider"},
            model="paint-x",
            provider="SimProvider",
            system_fingerprint="fp-x",
            safety_identifier="user-1",
            svg_usage={"model": "draw-z", "input_tokens": 3, "output_tokens": 4},
            images=[{"url": "https://files.vendor.example/1?sig=secret"}],
        )
    )
    answer = await request(home.app, "POST", PATH, json=ASKED)
    said = answer.json()
    assert said["model"] == said["svg_usage"]["model"] == said["data"][0]["model"] == "painter"
    assert said["safety_identifier"] == "user-1"
    for word in ("paint-x", "draw-z", "SimProvider", "fp-x", "vendor", "sig="):
        assert word not in answer.text


async def test_refused_response_format_is_left_out_and_that_is_remembered() -> None:
    refusal = {
        "error": {
            "message": "Unknown parameter: 'response_format'.",
            "type": "x",
            "param": "response_format",
            "code": "unknown_parameter",
        }
    }
    home = gateway(Answer([json.dumps(refusal).encode()], status=400, headers=[JSON]), drawn())
    for _ in range(2):
        asked = {**ASKED, "response_format": "b64_json"}  # as Open WebUI does for an unknown name
        answer = await request(home.app, "POST", PATH, json=asked)
        assert (answer.status, answer.json()["data"]) == (200, [{"b64_json": PIXELS}])
    bodies = [sent_body(sent) for sent in home.upstream.requests]
    assert ["response_format" in body for body in bodies] == [True, False, False]


async def test_member_that_a_setting_of_the_model_drops_is_not_sent() -> None:
    models = [{"id": "painter", "targets": ["oai/x"], "drop_params": ["Response_Format", "style"]}]
    home = gateway(drawn(), document={"models": models})
    asked = {**ASKED, "response_format": "b64_json", "style": "vivid", "size": "auto"}
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.status == 200
    (sent,) = home.upstream.requests
    assert sent_body(sent) == {"model": "x", "prompt": ASKED["prompt"], "size": "auto"}


@pytest.mark.parametrize(
    ("member", "value"),
    [("n", 0), ("n", 11), ("n", "2"), ("n", 1.5), ("response_format", "png"), ("prompt", "")],
)
async def test_member_out_of_bounds_is_refused_by_name(member: str, value: Any) -> None:
    home = gateway(drawn())
    answer = await request(home.app, "POST", PATH, json={**ASKED, member: value})
    assert (answer.status, answer.json()["error"]["param"]) == (400, member)
    assert not home.upstream.requests


@pytest.mark.parametrize(
    "failing",
    [
        Answer([b'{"created":1,"data":[]}'], headers=[JSON]),
        Answer([b'{"created":1,"data":[{"b64_json":""}]}'], headers=[JSON]),
        Answer([b'{"error":{"message":"paint-host-7 is overloaded"}}'], headers=[JSON]),
        Answer([b"<html>paint-host-7</html>"], headers=[(b"content-type", b"text/html")]),
        Answer([b'{"data":[{"b64_json":"' + LARGE.encode()], headers=[JSON]),
        Answer([b'{"data":[{"b64_json":"', LARGE.encode(), Disconnected("cut")], headers=[JSON]),
        Answer([b"{}"], status=500, headers=[JSON]),
    ],
)
async def test_answer_without_an_image_is_a_failed_attempt(failing: Answer) -> None:
    answer = await request(gateway(failing, drawn()).app, "POST", PATH, json=ASKED)
    assert (answer.status, answer.json()["data"]) == (200, [{"b64_json": PIXELS}])
    answer = await request(gateway(failing).app, "POST", PATH, json=ASKED)
    assert answer.status == 502
    assert "paint-host-7" not in answer.text
    assert long_strings.HELD_BYTES.held == 0


async def test_refusal_by_policy_is_a_filtered_request() -> None:
    refusal = {
        "error": {
            "message": "Your request was rejected by the safety system.",
            "type": "image_generation_user_error",
            "code": "moderation_blocked",
        }
    }
    home = gateway(Answer([json.dumps(refusal).encode()], status=400, headers=[JSON]))
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "content_filtered")


# Large ones


@pytest.mark.parametrize("cut", [1000, 65_536, 1 << 20])
async def test_large_images_pass_byte_for_byte(cut: int) -> None:
    """However the upstream's bytes are cut; in files, since they are long."""
    body = json.dumps({"created": 1, "data": [{"b64_json": LARGE}, {"b64_json": PIXELS}]}).encode()
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    home = gateway(Answer(pieces, headers=[JSON]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "n": 2})
    assert answer.json()["data"] == [{"b64_json": LARGE}, {"b64_json": PIXELS}]
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("x-credits-used") == "0.08"
    assert home.sample("penstock_units_total", model="painter", kind="images") == 2
    assert long_strings.HELD_BYTES.held == 0


@pytest.mark.parametrize("cut", [1000, 1 << 20])
async def test_large_events_pass_byte_for_byte(cut: int) -> None:
    events = event("partial_image", b64_json=LARGE) * 2 + event("completed", b64_json=LARGE)
    pieces = [events[at : at + cut] for at in range(0, len(events), cut)]
    home = gateway(Answer(pieces))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream": True})
    cost = b": x-credits-used 0.04\n"
    assert answer.body.replace(cost, b"") == events
    assert answer.body.count(cost) == 1
    assert long_strings.HELD_BYTES.held == 0


async def test_one_event_at_most_is_held() -> None:
    """The second one, of which half has come, is all that is held once the first is sent."""
    gate = asyncio.Event()
    partial = event("partial_image", b64_json=LARGE)
    home = gateway(Answer([partial, partial[: len(partial) // 2], gate, DONE]))
    asked = {**ASKED, "stream": True}
    async with Call(home.app, http_scope("POST", PATH), body=json.dumps(asked).encode()) as call:
        got = b""
        while len(got) < len(partial):
            got += await call.chunk()
        assert got == partial
        await asyncio.sleep(0)
        assert 0 < long_strings.HELD_BYTES.held < len(LARGE)
        call.hang_up()
        await call.done()
    assert long_strings.HELD_BYTES.held == 0
    assert home.upstream.responses[0].closed.is_set()


@pytest.mark.simulated_time
async def test_drained_stream_drops_what_its_client_will_not_read() -> None:
    """And is charged for what the upstream counted."""
    gate = asyncio.Event()
    partial = event("partial_image", b64_json=LARGE)
    models = [
        {
            "id": "painter",
            "targets": ["oai/x"],
            "price": {"output": "40"},
            "on_hangup": "drain",
        }
    ]
    done = event("completed", b64_json=LARGE, usage=USAGE)
    home = gateway(Answer([partial, gate, partial, done]), document={"models": models})
    await home.ledger_writer.start()
    asked = {**ASKED, "stream": True}
    async with Call(home.app, http_scope("POST", PATH), body=json.dumps(asked).encode()) as call:
        await call.chunk()
        call.hang_up()
        await asyncio.sleep(1)  # the disconnect is noticed meanwhile
        gate.set()
        await call.done()
    await home.ledger_writer.aclose()
    assert long_strings.HELD_BYTES.held == 0
    (entry,) = await home.ledger.page()
    assert (entry.ended, entry.output, entry.measured) == ("drained", 1056, True)


async def test_too_much_for_one_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        long_strings.LongStrings.__init__, "__kwdefaults__", {"lines": False, "limit": 100_000}
    )
    answer = await request(gateway(drawn({"b64_json": LARGE})).app, "POST", PATH, json=ASKED)
    assert (answer.status, answer.json()["error"]["code"]) == (502, "upstream_error")


# Events


async def test_events_pass_unchanged_and_their_usage_is_charged() -> None:
    home = gateway(Answer([b": hi\n\n", PARTIAL, DONE]), price={"input": "5", "output": "40"})
    await home.ledger_writer.start()
    asked = {**ASKED, "stream": True, "partial_images": 1}
    answer = await request(home.app, "POST", PATH, json=asked)
    await home.ledger_writer.aclose()
    said = b": keep-alive\n" + PARTIAL + b": x-credits-used 0.04234\n" + DONE
    assert answer.body == said
    (sent,) = home.upstream.requests
    assert sent_body(sent) == {**asked, "model": "paint-x"}
    (entry,) = await home.ledger.page()
    assert (entry.input, entry.output, entry.cost) == (20, 1056, 42_340_000)


async def test_several_images_are_complete_after_the_last() -> None:
    home = gateway(Answer([DONE, DONE]))
    asked = {**ASKED, "stream": True, "n": 2}
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.body == DONE + b": x-credits-used 0.08\n" + DONE


async def test_model_in_an_event_is_the_callers() -> None:
    done = event("completed", b64_json=PIXELS, model="paint-x", provider="SimProvider")
    answer = await request(
        gateway(Answer([done])).app, "POST", PATH, json={**ASKED, "stream": True}
    )
    assert b'"model":"painter"' in answer.body
    assert b"paint-x" not in answer.body and b"SimProvider" not in answer.body


async def test_whole_answer_in_place_of_events_is_made_into_events() -> None:
    home = gateway(drawn({"b64_json": LARGE}, usage=USAGE, size="1024x1024"))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream": True})
    data = [line for line in answer.body.splitlines() if line.startswith(b"data: ")]
    assert [json.loads(line[6:]) for line in data] == [
        {
            "type": "image_generation.completed",
            "b64_json": LARGE,
            "created_at": 1_790_000_000,
            "size": "1024x1024",
            "usage": USAGE,
        }
    ]


async def test_error_event_before_an_image_is_a_failed_attempt() -> None:
    error = b'data: {"type":"error","error":{"message":"paint-host-7"}}\n\n'
    home = gateway(Answer([error]), Answer([PARTIAL, DONE]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream": True})
    assert answer.body.startswith(PARTIAL)
    assert b"paint-host-7" not in answer.body


async def test_broken_stream_ends_with_an_error_and_is_charged_for_what_had_begun() -> None:
    home = gateway(Answer([PARTIAL, Disconnected("cut")]))
    await home.ledger_writer.start()
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream": True})
    await home.ledger_writer.aclose()
    assert answer.body.startswith(PARTIAL) and b'"upstream_error"' in answer.body
    (entry,) = await home.ledger.page()
    assert (entry.ended, entry.images, entry.cost, entry.measured) == ("cut", 1, 40_000_000, False)


async def test_quotation_mark_in_a_comment_is_no_string() -> None:
    home = gateway(Answer([b': say "hi\n\n' + PARTIAL, b': say "\r\n' + DONE], headers=[SSE]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream": True})
    assert PARTIAL in answer.body and DONE in answer.body


# Money


@pytest.mark.parametrize(("spend", "status"), [("0.11", 429), ("0.12", 200)])
@pytest.mark.parametrize("stream", [False, True])
async def test_hard_budget_refuses_before_the_upstream_is_asked(
    spend: str, status: int, stream: bool
) -> None:
    document = {
        "auth": {"mode": "none", "default_plan": "few"},
        "plans": [{"id": "few", "windows": [{"length": "1d", "credits": spend}]}],
    }
    made = Answer([DONE] * 3) if stream else drawn(*[{"b64_json": PIXELS}] * 3)
    home = gateway(made, document=document)
    asked = {**ASKED, "n": 3, "stream": stream}
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.status == status, answer.text
    assert len(home.upstream.requests) == (status == 200)


@pytest.mark.parametrize(
    ("price", "usage", "cost", "measured"),
    [
        ({"image": "0.04"}, None, 40_000_000, True),
        ({"image": "0.04"}, USAGE, 40_000_000, True),
        ({"input": "5", "output": "40"}, USAGE, 42_340_000, True),
        ({"input": "5", "output": "40", "image": "0.04"}, USAGE, 42_340_000, True),
        ({"input": "5", "output": "40", "image": "0.04"}, None, 40_000_000, True),
        ({"output": "40"}, None, 1056 * 40_000, False),
    ],
)
async def test_tokens_are_charged_if_counted_and_images_else(
    price: dict[str, str], usage: Any, cost: int, measured: bool
) -> None:
    home = gateway(drawn(**({"usage": usage} if usage else {})), price=price)
    await home.ledger_writer.start()
    asked = {**ASKED, "size": "1024x1024", "quality": "medium"}
    answer = await request(home.app, "POST", PATH, json=asked)
    await home.ledger_writer.aclose()
    assert answer.status == 200
    (entry,) = await home.ledger.page()
    assert (entry.cost, entry.measured) == (cost, measured)


async def test_tokens_of_the_drawing_model_are_charged() -> None:
    drawing = {"model": "draw-z", "input_tokens": 10, "output_tokens": 44, "total_tokens": 54}
    home = gateway(drawn(usage=USAGE, svg_usage=drawing), price={"output": "40"})
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert answer.header("x-credits-used") == "0.044"
