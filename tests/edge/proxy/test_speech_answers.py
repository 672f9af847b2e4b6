"""POST /v1/audio/speech: bytes as they come, events, and what they cost."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest

from edge.upstreams import Disconnected, Request
from tests.asgi import Call, http_scope, request
from tests.edge.scripted import JSON, SSE, Answer, Scripted, ScriptedGateway

PATH = "/v1/audio/speech"
TEXT = "Hello, wörld."
ASKED = {"model": "voice", "input": TEXT, "voice": "alloy"}
MP3 = (b"content-type", b"audio/mpeg")
SOUND = b"ID3\x04\x00\x00" + bytes(64)
PER_CHARACTER = {"character": "0.00001"}

FORMATS: dict[str, tuple[bytes, str]] = {
    "mp3": (b"\xff\xf3\x44\xc4" + bytes(32), "audio/mpeg"),
    "opus": (b"OggS\x00\x02" + bytes(32), "audio/ogg"),
    "aac": (b"\xff\xf1\x50\x80" + bytes(32), "audio/aac"),
    "flac": (b"fLaC\x00\x00" + bytes(32), "audio/flac"),
    "wav": (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(32), "audio/wav"),
    "pcm": (b"\x00\x01" * 32, "audio/pcm"),
}
TAGGED = b"ID3\x04" + bytes(32)


def sent_body(sent: Request) -> Any:
    assert isinstance(sent.body, bytes)
    return json.loads(sent.body)


def gateway(*answers: Answer, price: dict[str, str] | None = None, **known: Any) -> ScriptedGateway:
    document = {
        "models": [
            {"id": "voice", "targets": ["oai/tts-x", "both/tts-y"], "price": price or PER_CHARACTER}
        ]
    }
    return ScriptedGateway(
        Scripted(*answers), document={**document, **known.pop("document", {})}, **known
    )


def speech(*steps: Any, headers: Any = (MP3,), **members: Any) -> Answer:
    return Answer(steps or (SOUND,), headers=list(headers), **members)


def event(kind: str, **members: Any) -> bytes:
    return b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


DELTA = event("speech.audio.delta", audio=b64encode(b"abc").decode())
DONE = event(
    "speech.audio.done", usage={"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
)


@pytest.mark.parametrize("pumping", [False, True])
async def test_first_chunk_reaches_the_client_while_the_upstream_holds_the_second(
    pumping: bool,
) -> None:
    gate = asyncio.Event()
    home = gateway(speech(SOUND, gate, b"more", pumping=pumping))
    async with Call(home.app, http_scope("POST", PATH), body=json.dumps(ASKED).encode()) as call:
        await call.started()
        assert (call.status, call.header("content-type")) == (200, "audio/mpeg")
        assert call.header("content-length") is None
        assert await call.chunk() == SOUND
        assert not gate.is_set()
        gate.set()
        assert await call.chunk() == b"more"
        seen = await call.done()
    assert seen.body == SOUND + b"more"
    assert home.upstream.responses[0].closed.is_set()
    (exchange,) = home.exchanges
    assert exchange.outcome == "completed"


async def test_disconnect_closes_the_upstream_and_is_charged_in_full() -> None:
    home = gateway(speech(SOUND, asyncio.Event()))
    await home.ledger_writer.start()
    async with Call(home.app, http_scope("POST", PATH), body=json.dumps(ASKED).encode()) as call:
        await call.chunk()
        call.hang_up()
        await call.done()
    assert home.upstream.responses[0].closed.is_set()
    await home.ledger_writer.aclose()
    (entry,) = await home.ledger.page()
    assert (entry.ended, entry.characters, entry.measured) == ("hung_up", len(TEXT), True)
    assert entry.cost == len(TEXT) * 10_000


async def test_disconnect_before_the_first_byte_is_charged_too() -> None:
    home = gateway(speech(asyncio.Event()))
    await home.ledger_writer.start()
    async with Call(home.app, http_scope("POST", PATH), body=json.dumps(ASKED).encode()) as call:
        await home.upstream.opening.wait()
        call.hang_up()
        await call.done()
    await home.ledger_writer.aclose()
    (entry,) = await home.ledger.page()
    assert (entry.ended, entry.characters) == ("hung_up", len(TEXT))


async def test_disconnect_before_the_first_byte_is_charged_by_tokens_as_a_whole_answer() -> None:
    costs = []
    for waits in (True, False):
        home = gateway(
            speech(asyncio.Event()) if waits else speech(), price={"input": "1", "output": "12"}
        )
        await home.ledger_writer.start()
        body = json.dumps(ASKED).encode()
        async with Call(home.app, http_scope("POST", PATH), body=body) as call:
            await home.upstream.opening.wait()
            if waits:
                call.hang_up()
            await call.done()
        await home.ledger_writer.aclose()
        (entry,) = await home.ledger.page()
        assert entry.output > 0
        costs.append(entry.cost)
    assert costs[0] == costs[1] > 0


async def test_request_passes_with_the_model_of_the_target() -> None:
    home = gateway(speech())
    asked = {**ASKED, "voice": {"id": "v-1"}, "instructions": "calm", "speed": 1.5, "own": [1]}
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.status == 200, answer.text
    (sent,) = home.upstream.requests
    assert sent.target == b"/v1/audio/speech"
    assert sent_body(sent) == {**asked, "model": "tts-x"}
    assert answer.header("x-model-used") == "voice"
    assert answer.header("x-credits-used") == "0.00013"


async def test_content_length_of_the_upstream_passes() -> None:
    home = gateway(speech(headers=[MP3, (b"content-length", b"%d" % len(SOUND))]))
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert answer.header("content-length") == str(len(SOUND))
    assert answer.body == SOUND


@pytest.mark.parametrize("label", [b"audio/mpeg", b"application/octet-stream", b""])
@pytest.mark.parametrize("format_", FORMATS)
async def test_content_type_agrees_with_the_bytes(format_: str, label: bytes) -> None:
    sound, kind = FORMATS[format_]
    home = gateway(speech(sound, headers=[(b"content-type", label)] if label else []))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "response_format": format_})
    assert (answer.status, answer.body) == (200, sound)
    assert answer.header("content-type") == kind


@pytest.mark.parametrize(
    ("asked", "label", "kind"),
    [
        ("aac", "audio/mpeg", "audio/aac"),
        ("mp3", "audio/mp3", "audio/mpeg"),
        ("wav", "", "audio/mpeg"),
    ],
)
async def test_tag_in_front_leaves_the_choice_to_the_request(
    asked: str, label: str, kind: str
) -> None:
    home = gateway(speech(TAGGED, headers=[(b"content-type", label.encode())]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "response_format": asked})
    assert answer.header("content-type") == kind


@pytest.mark.parametrize(
    ("head", "label"),
    [
        (b"\x00\x01" * 9, b"audio/L16; rate=24000"),
        (b"RIFF....WAVE", b"audio/x-wav"),
        (b"OggS", b"audio/opus"),
    ],
)
async def test_label_of_the_upstream_passes_if_the_bytes_allow_it(
    head: bytes, label: bytes
) -> None:
    home = gateway(speech(head, headers=[(b"content-type", label)]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "response_format": "pcm"})
    assert answer.header("content-type") == label.decode().lower()


@pytest.mark.parametrize(
    ("label", "body"),
    [
        (b"application/json", b'{"error":{"message":"no voice at tts-host-7"}}'),
        (b"application/json", b'{"audio":"UklGRg=="}'),
        (b"text/html", b"<html>gateway of SimProvider</html>"),
        (b"audio/mpeg", b'{"error":{"message":"no voice"}}'),
        (b"application/octet-stream", b"\n<!DOCTYPE html>"),
        (b"audio/mpeg", b""),
    ],
)
async def test_answer_that_is_no_audio_is_a_failed_attempt(label: bytes, body: bytes) -> None:
    failing = speech(body, headers=[(b"content-type", label)])
    home = gateway(failing, speech())
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert (answer.status, answer.body) == (200, SOUND)
    first, second = home.exchanges[0].attempts
    assert (first.problem, second.problem) == ("upstream_error", "")

    home = gateway(failing)
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert (answer.status, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert "tts-host-7" not in answer.text and "SimProvider" not in answer.text


async def test_fault_after_the_first_byte_aborts_the_connection() -> None:
    home = gateway(speech(SOUND, Disconnected("cut")), speech())
    async with Call(home.app, http_scope("POST", PATH), body=json.dumps(ASKED).encode()) as call:
        assert await call.chunk() == SOUND
        with pytest.raises(Exception, match="upstream_error"):
            await call.done()
    assert all(chunk.more for chunk in call.chunks)
    assert len(home.upstream.requests) == 1


async def test_upstream_that_fails_before_its_first_byte_is_replaced() -> None:
    home = gateway(Answer([b"{}"], status=500, headers=[JSON]), speech())
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert (answer.status, answer.body) == (200, SOUND)
    assert [sent_body(sent)["model"] for sent in home.upstream.requests] == ["tts-x", "tts-y"]


# Events


async def test_events_pass_unchanged_and_their_usage_is_charged() -> None:
    price = {"input": "1", "output": "10", "character": "1"}
    home = gateway(Answer([b": ping\n\n" + DELTA, DONE]), price=price)
    await home.ledger_writer.start()
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream_format": "sse"})
    await home.ledger_writer.aclose()
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert answer.body == (b": keep-alive\n" + DELTA + b": x-credits-used 0.001024\n" + DONE)
    (entry,) = await home.ledger.page()
    assert (entry.input, entry.output, entry.cost) == (14, 101, 1_024_000)


async def test_events_without_usage_cost_as_much_as_bytes() -> None:
    done = event("speech.audio.done")
    costs = []
    for answer, more in ((speech(), {}), (Answer([DELTA, done]), {"stream_format": "sse"})):
        home = gateway(answer)
        await home.ledger_writer.start()
        await request(home.app, "POST", PATH, json={**ASKED, **more})
        await home.ledger_writer.aclose()
        (entry,) = await home.ledger.page()
        costs.append((entry.cost, entry.characters, entry.measured))
    assert costs[0] == costs[1] == (len(TEXT) * 10_000, len(TEXT), True)


async def test_fault_among_events_is_an_error_event() -> None:
    home = gateway(Answer([DELTA, Disconnected("cut")]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream_format": "sse"})
    assert answer.body.startswith(DELTA)
    assert b'"upstream_error"' in answer.body[len(DELTA) :]


@pytest.mark.parametrize(
    "body",
    [
        [event("error", error={"message": "overloaded at tts-host-7", "type": "server_error"})],
        [DONE.replace(b"speech.audio.done", b"speech.audio.unknown")],
        [b"data: {\n\n"],
        [],
    ],
)
async def test_events_without_audio_are_a_failed_attempt(body: list[bytes]) -> None:
    home = gateway(Answer(body), Answer([DELTA, DONE]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream_format": "sse"})
    assert answer.status == 200
    assert answer.body.startswith(DELTA)
    assert "tts-host-7" not in answer.text


async def test_audio_in_place_of_events_is_a_failed_attempt() -> None:
    home = gateway(speech(), Answer([DELTA, DONE], headers=[SSE]))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "stream_format": "sse"})
    assert answer.body.startswith(DELTA)


# Money


async def test_speech_by_the_minute_is_charged_at_a_slow_pace() -> None:
    home = gateway(speech(), price={"audio_minute": "0.60"})
    await home.ledger_writer.start()
    await request(home.app, "POST", PATH, json={**ASKED, "input": "x" * 120, "speed": 2})
    await home.ledger_writer.aclose()
    (entry,) = await home.ledger.page()
    assert (entry.audio_ms, entry.cost) == (5_000, 50_000_000)
    assert home.sample("penstock_units_total", model="voice", kind="audio_seconds") == 5
    assert home.sample("penstock_units_total", model="voice", kind="characters") == 120


@pytest.mark.parametrize(("spend", "status"), [("0.00012", 429), ("0.00013", 200)])
async def test_hard_budget_refuses_before_the_upstream_is_asked(spend: str, status: int) -> None:
    document = {
        "auth": {"mode": "none", "default_plan": "few"},
        "plans": [{"id": "few", "windows": [{"length": "1d", "credits": spend}]}],
    }
    home = gateway(speech(), document=document)
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert answer.status == status, answer.text
    assert len(home.upstream.requests) == (status == 200)


@pytest.mark.parametrize("text", [None, "", 7, ["a"]])
async def test_text_that_is_no_string_is_refused(text: Any) -> None:
    home = gateway(speech())
    answer = await request(home.app, "POST", PATH, json={**ASKED, "input": text})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "input")
    assert not home.upstream.requests
