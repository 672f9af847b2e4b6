"""Speech of the simulator: formats, pace, events, refusals."""

import json
from base64 import b64decode
from typing import Any

import pytest

from edge.upstreams import Disconnected
from edge.upstreams.simulator import SimulatorServer, SimulatorUpstream
from edge.upstreams.simulator.media.sounds import FORMATS, seconds_of, words_of
from tests.edge.upstreams.simulated import ask, connect, events, post, until, whole, wire

SPEECH = b"/v1/audio/speech"
MAGIC = {"mp3": b"ID3", "opus": b"OggS", "aac": b"ID3", "flac": b"fLaC", "wav": b"RIFF", "pcm": b""}


def said(text: str = "The gate opens.", **fields: Any) -> dict[str, Any]:
    return {"model": "sim-voice", "voice": "alloy", "input": text, **fields}


@pytest.mark.parametrize("name", FORMATS)
def test_speech_has_the_type_and_the_magic_of_its_format(name: str) -> None:
    found = ask(post(SPEECH, said(response_format=name)))
    assert found.status == 200 and found.length is None
    assert (b"content-type", FORMATS[name][1]) in found.headers
    assert whole(found).startswith(MAGIC[name])
    if name != "pcm":
        assert words_of(whole(found)) == "The gate opens."


def test_speech_is_mp3_unless_another_format_is_wanted() -> None:
    assert (b"content-type", b"audio/mpeg") in ask(post(SPEECH, said())).headers


def test_speech_comes_in_pieces_at_the_pace_of_the_controls() -> None:
    found = ask(post(SPEECH, said("Hi [[sim tokens=5 rate=5 first=1]]", response_format="wav")))
    assert [at for at, _ in found.steps] == pytest.approx([1.0, 1.2, 1.4, 1.6, 1.8])
    assert words_of(whole(found)) == "Hi"


def test_speech_as_events_carries_the_same_bytes_and_usage() -> None:
    plain = whole(ask(post(SPEECH, said(response_format="wav"))))
    found = ask(post(SPEECH, said(response_format="wav", stream_format="sse")))
    heard = events(whole(found))
    deltas = [event for event in heard if event["type"] == "speech.audio.delta"]
    assert b"".join(b64decode(event["audio"]) for event in deltas) == plain
    usage = heard[-1]["usage"]
    assert heard[-1]["type"] == "speech.audio.done"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert found.used is not None and found.used.output == usage["output_tokens"]


def test_speech_without_usage_reports_none() -> None:
    found = ask(post(SPEECH, said("Hi [[sim usage=none]]", stream_format="sse")))
    assert "usage" not in events(whole(found))[-1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "x" * 4097}, "input"),
        ({"input": ""}, "input"),
        ({"voice": ""}, "voice"),
        ({"speed": 5}, "speed"),
        ({"response_format": "midi"}, "response_format"),
        ({"stream_format": "words"}, "stream_format"),
    ],
)
def test_speech_with_an_impossible_field_is_refused(fields: dict[str, Any], param: str) -> None:
    found = ask(post(SPEECH, {**said(), **fields}))
    assert found.status == 400
    assert json.loads(whole(found))["error"]["param"] == param


def test_faster_speech_is_shorter() -> None:
    found = ask(post(SPEECH, said("x" * 300, speed=2, response_format="wav")))
    assert seconds_of(whole(found)) == 10


def test_faults_apply_to_speech() -> None:
    assert ask(post(SPEECH, said("[[sim fault=status:503]] x"))).status == 503
    cut = ask(post(SPEECH, said("some words here [[sim fault=cut:1]]")))
    assert cut.ending == "cut" and len(cut.steps) == 1
    html = ask(post(SPEECH, said("Hi [[sim fault=html]]")))
    assert (b"content-type", b"text/html") in html.headers


async def test_hang_up_during_speech_is_counted() -> None:
    request = post(SPEECH, said("some words here [[sim fault=hold:1]]", response_format="wav"))
    async with SimulatorServer() as server:
        async with connect(server) as (reader, writer):
            writer.write(wire(request))
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await until(lambda: server.stats.hangups == 1)
        assert server.stats.last_hangups[0].target == SPEECH.decode()
        assert server.stats.speeches == 1


async def test_lost_answer_breaks_the_connection_before_the_head() -> None:
    request = post(SPEECH, said("Hi [[sim fault=lost]]"))
    upstream = SimulatorUpstream()
    with pytest.raises(Disconnected) as lost:
        await upstream.open(request)
    assert lost.value.sent
    assert upstream.stats.running == 0
    async with SimulatorServer() as server:
        async with connect(server) as (reader, writer):
            writer.write(wire(request, close=False))
            assert await reader.read() == b""
        await until(lambda: server.stats.connections == 0)
        assert (server.stats.running, server.stats.hangups) == (0, 0)
