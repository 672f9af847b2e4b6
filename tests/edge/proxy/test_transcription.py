"""POST /v1/audio/transcriptions and /translations: forms sent on, formats made, money."""

import asyncio
import json
import struct
from base64 import b64encode
from typing import Any

import pytest

from edge.media.forms import FormBody, FormBounds, FormFile, read_form
from edge.proxy.audio_source import AudioSource
from edge.upstreams import Disconnected, Request, Response
from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.media.forms.wire import deleted_files, form, part, scope, sender
from tests.edge.scripted import JSON, SSE, Answer, Scripted, ScriptedGateway

PATH, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
FORM = {"content-type": "multipart/form-data; boundary=B"}
PER_MINUTE = {"audio_minute": "0.6"}
PER_TOKEN = {"input": "6", "output": "10"}
FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")


def wav(seconds: float, rate: int = 8000) -> bytes:
    samples = bytes(int(seconds * rate) * 2)
    fmt = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(samples))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(samples)) + b"WAVE" + chunks + samples


SOUND = wav(12.5)
SEGMENTS = [
    {"id": 0, "start": 0.0, "end": 1.5, "text": " Hello, wörld.", "tokens": [1]},
    {"id": 1, "start": 61.5, "end": 3725.25, "text": " It --> works.\n\nYes."},
]
VERBOSE: dict[str, Any] = {
    "task": "transcribe",
    "language": "english",
    "duration": 12.4,
    "text": "Hello, wörld. It --> works. Yes.",
    "segments": SEGMENTS,
    "usage": {"type": "duration", "seconds": 13},
}
TOKENS: dict[str, Any] = {
    "text": "Hello.",
    "usage": {
        "type": "tokens",
        "input_tokens": 130,
        "output_tokens": 20,
        "total_tokens": 150,
        "input_token_details": {"audio_tokens": 125, "text_tokens": 5},
    },
}
DIARIZED = {
    "task": "transcribe",
    "duration": 12.4,
    "text": "Hello.",
    "segments": [
        {
            "id": "seg_0",
            "type": "transcript.text.segment",
            "start": 0,
            "end": 2,
            "speaker": "A",
            "text": "Hello.",
        }
    ],
    "usage": VERBOSE["usage"],
}


class Listening(Scripted):
    """Reads each form while it is there. forms: the fields of each, as they came; files: theirs."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.forms: list[list[tuple[str, str]]] = []
        self.files: list[tuple[str, str, bytes]] = []
        self.types: list[bytes] = []

    async def open(self, request: Request) -> Response:
        assert isinstance(request.body, FormBody)
        whole = b"".join([piece async for piece in request.body])
        assert len(whole) == request.body.length
        (kind,) = [value for name, value in request.headers if name == b"content-type"]
        self.types.append(kind)
        read = await read_form(
            scope(kind), sender(whole), bounds=FormBounds(size=1 << 30, file=1 << 30), idle=5
        )
        self.forms.append([(each.name, each.value) for each in read.fields()])
        for each in read.files():
            self.files.append((each.filename, each.content_type, await each.spool.read()))
        assert any(isinstance(each, FormFile) for each in read.parts)
        read.close()
        return await super().open(request)


def answer(body: Any, status: int = 200) -> Answer:
    return Answer([json.dumps(body).encode()], headers=[JSON], status=status)


def refusal(message: str, param: str) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return answer({"error": error}, 400)


NO_VERBOSE = refusal(
    "response_format 'verbose_json' is not compatible with model 'x'. Use 'json' instead.",
    "response_format",
)


def gateway(*answers: Answer, price: Any = PER_MINUTE, **known: Any) -> ScriptedGateway:
    model = {
        "id": "ears",
        "targets": ["oai/stt-x", "both/stt-y"],
        "price": price,
        **known.pop("model", {}),
    }
    document = {"models": [model], **known.pop("document", {})}
    known.setdefault("form_sources", {"transcription": AudioSource()})
    return ScriptedGateway(Listening(*answers), document=document, **known)


def parts(*fields: tuple[str, str], sound: bytes = SOUND, filename: str = "a.wav") -> bytes:
    made = [part(name, value.encode()) for name, value in fields]
    return form(part("file", sound, filename), part("model", b"ears"), *made)


async def post(
    home: ScriptedGateway, *fields: tuple[str, str], path: str = PATH, **more: Any
) -> Recorded:
    return await request(home.app, "POST", path, headers=FORM, body=parts(*fields, **more))


def upstream(home: ScriptedGateway) -> Listening:
    assert isinstance(home.upstream, Listening)
    return home.upstream


def charged(home: ScriptedGateway) -> int:
    """Nano-credits of the last request."""
    return home.exchanges[-1].cost


# The form that is sent


async def test_transcription_form_is_sent_in_order_with_the_targets_model() -> None:
    home = gateway(answer(VERBOSE))
    found = await post(
        home, ("language", "en"), ("unknown", "ü"), ("keywords[]", "a"), ("keywords[]", "b")
    )
    assert (found.status, found.json()["text"]) == (200, VERBOSE["text"])
    assert upstream(home).forms == [
        [
            ("response_format", "verbose_json"),
            ("model", "stt-x"),
            ("language", "en"),
            ("unknown", "ü"),
            ("keywords[]", "a"),
            ("keywords[]", "b"),
        ]
    ]
    assert upstream(home).files == [("a.wav", "audio/wav", SOUND)]
    assert upstream(home).requests[0].target == b"/v1/audio/transcriptions"


async def test_transcription_file_without_an_extension_gets_that_of_its_bytes() -> None:
    """Open WebUI and others send `blob`, or nothing."""
    home = gateway(answer(VERBOSE))
    await post(home, filename="blob")
    assert upstream(home).files[0][:2] == ("blob.wav", "audio/wav")


async def test_transcription_settings_of_the_upstream_change_the_form() -> None:
    document = {
        "upstreams": [
            {
                "name": "oai",
                "dialect": "openai",
                "base_url": "http://127.0.0.1:9/v1",
                "extra_body": {"temperature": 0.5, "chunking_strategy": {"type": "auto"}},
                "drop_body": ["user", "keywords"],
            }
        ]
    }
    home = gateway(
        answer(VERBOSE),
        document=document,
        configured=True,
        model={"targets": ["oai/stt-x"], "drop_params": ["language"]},
    )
    found = await post(
        home, ("temperature", "1"), ("user", "u"), ("keywords[]", "k"), ("language", "en")
    )
    assert found.status == 200
    assert sorted(upstream(home).forms[0]) == [
        ("chunking_strategy[type]", "auto"),
        ("model", "stt-x"),
        ("response_format", "verbose_json"),
        ("temperature", "0.5"),
    ]


async def test_transcription_second_target_gets_the_whole_file() -> None:
    before = deleted_files()
    sound = wav(60)  # more than is held in memory
    home = gateway(answer({}, 500), answer(VERBOSE))
    assert (await post(home, sound=sound)).status == 200
    assert [data for _, _, data in upstream(home).files] == [sound, sound]
    assert [dict(fields)["model"] for fields in upstream(home).forms] == ["stt-x", "stt-y"]
    assert len(set(upstream(home).types)) == 2  # each form has a boundary of its own
    assert deleted_files() == before


class OneBroken(Listening):
    """Its first model fails at each request."""

    async def open(self, request: Request) -> Response:
        response = await super().open(request)
        response.status = 500 if dict(self.forms[-1])["model"] == "stt-x" else 200
        return response


async def test_transcription_target_that_keeps_failing_is_left_out() -> None:
    home = gateway()
    home.upstream = OneBroken(answer(VERBOSE))
    model = home.document["models"]
    home = ScriptedGateway(home.upstream, document={"models": model})
    for _ in range(20):
        assert (await post(home)).status == 200
    last = [dict(fields)["model"] for fields in upstream(home).forms][-3:]
    assert last == ["stt-y"] * 3


# Formats


async def test_transcription_formats_are_made_of_the_richest_one() -> None:
    made = {}
    for name in FORMATS[:-1]:
        home = gateway(answer(VERBOSE))
        found = await post(home, ("response_format", name))
        assert found.status == 200
        assert dict(upstream(home).forms[0])["response_format"] == "verbose_json"
        made[name] = (found.header("content-type"), found.body.decode())
    plain = "text/plain; charset=utf-8"
    assert made["text"] == (plain, VERBOSE["text"] + "\n")
    assert made["srt"] == (
        plain,
        "1\n00:00:00,000 --> 00:00:01,500\nHello, wörld.\n\n"
        "2\n00:01:01,500 --> 01:02:05,250\nIt -> works. Yes.\n\n",
    )
    assert made["vtt"] == (
        plain,
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello, wörld.\n\n"
        "00:01:01.500 --> 01:02:05.250\nIt -> works. Yes.\n\n",
    )
    assert json.loads(made["json"][1]) == {"text": VERBOSE["text"], "usage": VERBOSE["usage"]}
    assert json.loads(made["verbose_json"][1]) == VERBOSE
    assert made["json"][0] == made["verbose_json"][0] == "application/json"


async def test_transcription_of_speakers_is_asked_for_and_passed() -> None:
    home = gateway(answer(DIARIZED))
    found = await post(home, ("response_format", "diarized_json"), ("known_speaker_names[]", "A"))
    assert dict(upstream(home).forms[0])["response_format"] == "diarized_json"
    assert found.json() == DIARIZED


@pytest.mark.parametrize("name", FORMATS[:-1])
async def test_transcription_of_a_target_that_only_has_json_is_derived(name: str) -> None:
    """Its refusal of the richer form is answered with `json`, and remembered."""
    home = gateway(NO_VERBOSE, answer(TOKENS))
    details = [("timestamp_granularities[]", "segment")] if name == "verbose_json" else []
    for asked in (2, 3):
        found = await post(home, ("response_format", name), ("language", "de"), *details)
        assert found.status == 200, found.text
        assert len(upstream(home).requests) == asked
        sent = dict(upstream(home).forms[-1])
        assert sent["response_format"] == "json"
        assert "timestamp_granularities[]" not in sent
    if name == "verbose_json":
        made = found.json()
        assert (made["task"], made["language"], made["duration"]) == ("transcribe", "de", 12.5)
        assert [(s["start"], s["end"], s["text"]) for s in made["segments"]] == [
            (0.0, 12.5, "Hello.")
        ]
    if name == "srt":
        assert found.body == b"1\n00:00:00,000 --> 00:00:12,500\nHello.\n\n"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("response_format", "verbose_json"), ("timestamp_granularities[]", "word")], "time"),
        ([("response_format", "diarized_json")], "response_format"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["known before", "seen in the answer"])
async def test_transcription_without_words_or_speakers_is_refused_by_name(
    fields: list[tuple[str, str]], param: str, known: bool
) -> None:
    model = {"drop_params": ["response_format"]} if known else {}
    home = gateway(answer(TOKENS), model=model)
    found = await post(home, *fields)
    assert found.status == 400
    assert found.json()["error"]["param"].startswith(param)
    assert len(upstream(home).requests) == (0 if known else 1)
    assert (charged(home) == 0) is known  # it was made, and has to be paid


async def test_transcription_words_are_asked_for_and_passed() -> None:
    words = {**VERBOSE, "words": [{"word": "Hello", "start": 0, "end": 1}]}
    del words["segments"]
    home = gateway(answer(words))
    found = await post(
        home, ("response_format", "verbose_json"), ("timestamp_granularities[]", "word")
    )
    assert ("timestamp_granularities[]", "word") in upstream(home).forms[0]
    assert found.json() == words


async def test_transcription_probabilities_need_json() -> None:
    home = gateway(answer({**TOKENS, "logprobs": [{"token": "H", "logprob": -0.1}]}))
    found = await post(home, ("include[]", "logprobs"))
    assert dict(upstream(home).forms[0])["response_format"] == "json"
    assert found.json()["logprobs"] == [{"token": "H", "logprob": -0.1}]


async def test_transcript_that_looks_like_json_stays_text() -> None:
    said = '{"text": "not me", "error": "boom"}'
    home = gateway(answer({**VERBOSE, "text": said}))
    found = await post(home, ("response_format", "text"))
    assert (found.body.decode(), found.header("content-type")) == (
        said + "\n",
        "text/plain; charset=utf-8",
    )


async def test_transcript_of_silence_is_an_empty_text() -> None:
    home = gateway(answer({"text": ""}))
    assert (await post(home)).json() == {"text": ""}
    assert (await post(home, ("response_format", "text"))).body == b"\n"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "boom"}},
        {},
        {"text": None},
        {"text": 5},
        [],
        "words",
        {"segments": []},
    ],
)
async def test_transcription_answer_without_a_text_is_a_failed_attempt(body: Any) -> None:
    home = gateway(answer(body), answer(VERBOSE))
    found = await post(home)
    assert (found.status, found.json()["text"]) == (200, VERBOSE["text"])
    assert len(upstream(home).requests) == 2


async def test_transcription_names_no_vendor() -> None:
    named = {**VERBOSE, "model": "whisper-large", "x_groq": {"id": "req_1"}, "provider": "Groq"}
    home = gateway(answer(named))
    made = (await post(home, ("response_format", "verbose_json"))).json()
    assert made["model"] == "ears"
    assert not {"x_groq", "provider"} & made.keys()


async def test_translation_has_its_own_path_and_no_speakers() -> None:
    home = gateway(answer({"text": "Hello."}))
    found = await post(home, ("response_format", "verbose_json"), path=TRANSLATIONS)
    assert (found.json()["task"], found.json()["language"]) == ("translate", "unknown")
    assert upstream(home).requests[0].target == b"/v1/audio/translations"
    refused = await post(home, ("response_format", "diarized_json"), path=TRANSLATIONS)
    assert refused.json()["error"]["param"] == "response_format"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("response_format", "xml")], "response_format"),
        ([("timestamp_granularities[]", "letter")], "timestamp_granularities"),
        ([("timestamp_granularities[]", "word")], "timestamp_granularities"),
        *(
            (
                [("response_format", name), ("timestamp_granularities[]", "word")],
                "timestamp_granularities",
            )
            for name in FORMATS
            if name != "verbose_json"
        ),
        (
            [
                ("response_format", "verbose_json"),
                ("timestamp_granularities[]", "word"),
                ("stream", "true"),
            ],
            "timestamp_granularities",
        ),
    ],
)
async def test_transcription_that_cannot_be_is_refused_by_name(
    fields: list[tuple[str, str]], param: str
) -> None:
    home = gateway(answer(VERBOSE))
    found = await post(home, *fields)
    assert (found.status, found.json()["error"]["param"]) == (400, param)
    assert not upstream(home).requests


# Streams


def event(kind: str, **members: Any) -> bytes:
    return b"data: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


DELTA = event("transcript.text.delta", delta="Hel")
DONE = event("transcript.text.done", text="Hello.", usage=TOKENS["usage"])
EVENTS = [DELTA, event("transcript.text.delta", delta="lo."), DONE, b"data: [DONE]\n\n"]


async def test_transcription_events_pass_and_are_metered() -> None:
    home = gateway(Answer(EVENTS, headers=[SSE]), price=PER_TOKEN)
    found = await post(home, ("stream", "true"))
    assert found.body == b"".join([*EVENTS[:2], b": x-credits-used 0.00098\n", *EVENTS[2:]])
    assert (found.header("content-type") or "").startswith("text/event-stream")
    assert dict(upstream(home).forms[0])["response_format"] == "json"
    assert ("stream", "true") in upstream(home).forms[0]
    assert charged(home) == 130 * 6000 + 20 * 10_000


async def test_transcription_of_a_target_that_does_not_stream_is_made_into_events() -> None:
    """As of whisper servers, which take `stream` and do not know it."""
    home = gateway(answer(VERBOSE))
    found = await post(home, ("stream", "true"))
    events = [line for line in found.body.decode().split("\n") if line.startswith("data")]
    assert json.loads(events[0].removeprefix("data: ")) == {
        "type": "transcript.text.delta",
        "delta": VERBOSE["text"],
    }
    assert json.loads(events[1].removeprefix("data: ")) == {
        "type": "transcript.text.done",
        "text": VERBOSE["text"],
        "usage": VERBOSE["usage"],
    }
    assert events[2] == "data: [DONE]"


async def test_transcription_stream_that_breaks_is_charged_by_its_audio() -> None:
    cut = Answer([DELTA, Disconnected("cut", sent=True)], headers=[SSE])
    home = gateway(cut)
    found = await post(home, ("stream", "true"))
    assert found.body.startswith(DELTA)
    assert b"error" in found.body
    assert charged(home) == 12_500 * 600_000_000 // 60_000


async def test_transcription_client_that_leaves_closes_the_upstream() -> None:
    held = asyncio.Event()
    before = deleted_files()
    home = gateway(Answer([DELTA, held], headers=[SSE]))
    body = parts(("stream", "true"))
    async with Call(home.app, http_scope("POST", PATH, headers=FORM), body=body) as call:
        assert await call.chunk() == DELTA
        call.hang_up()
        await call.done()
    assert home.upstream.responses[0].closed.is_set()
    assert deleted_files() == before


# Money


@pytest.mark.parametrize("price", [PER_MINUTE, PER_TOKEN, {**PER_MINUTE, **PER_TOKEN}])
@pytest.mark.parametrize("body", [VERBOSE, TOKENS, {"text": "Hello."}])
async def test_transcription_costs_the_same_in_every_format_streamed_or_not(
    price: Any, body: dict[str, Any]
) -> None:
    costs = set()
    usage = {"usage": body["usage"]} if "usage" in body else {}
    done = event("transcript.text.done", text=body["text"], **usage)
    for name in FORMATS:
        given = {**DIARIZED, "text": body["text"], **usage} if name == "diarized_json" else body
        if "usage" not in body:
            given = {key: value for key, value in given.items() if key not in ("usage", "duration")}
        for stream in ("true", "false"):
            streamed = Answer([DELTA, done], headers=[SSE])
            home = gateway(streamed if stream == "true" else answer(given), price=price)
            found = await post(home, ("response_format", name), ("stream", stream))
            assert found.status == 200
            costs.add(charged(home))
    assert len(costs) == 1
    assert costs.pop() > 0


@pytest.mark.parametrize("price", [PER_TOKEN, {**PER_MINUTE, **PER_TOKEN}])
@pytest.mark.parametrize("name", ["json", "text"])
async def test_transcription_priced_by_tokens_is_asked_for_the_form_that_has_them(
    name: str, price: Any
) -> None:
    home = gateway(answer(TOKENS), price=price)
    assert (await post(home, ("response_format", name))).status == 200
    assert dict(upstream(home).forms[0])["response_format"] == "json"
    assert charged(home) == 130 * 6000 + 20 * 10_000


@pytest.mark.parametrize("name", ["srt", "vtt", "verbose_json"])
async def test_transcription_without_counted_tokens_is_charged_by_its_text_and_audio(
    name: str,
) -> None:
    """By ten tokens of each second that the upstream says, and four bytes a token."""
    home = gateway(answer(VERBOSE), price=PER_TOKEN)
    assert (await post(home, ("response_format", name))).status == 200
    assert dict(upstream(home).forms[0])["response_format"] == "verbose_json"
    assert len(VERBOSE["text"].encode()) == 33
    assert charged(home) == 130 * 6000 + 9 * 10_000
    assert not home.exchanges[-1].usage_reported


async def test_transcription_text_that_is_long_for_its_audio_is_charged_up_to_the_bound() -> None:
    home = gateway(answer({**VERBOSE, "text": "a" * 100_000}), price=PER_TOKEN)
    assert (await post(home, ("response_format", "srt"))).status == 200
    assert charged(home) == 130 * 6000 + (150 + 200) * 10_000


@pytest.mark.parametrize(
    ("events", "tokens"),
    [
        ([event("transcript.text.delta", delta="ü" * 20)], 10),
        ([event("transcript.text.segment", text="a" * 40)], 10),
        ([event("transcript.text.delta", delta="a" * n) for n in (20, 20)], 10),
        (
            [
                event("transcript.text.delta", delta="a" * 40),
                event("transcript.text.segment", text="a" * 40),
            ],
            10,
        ),
        ([event("transcript.text.delta", delta=None, text=5)], 0),
    ],
    ids=["two bytes a letter", "segment", "two events", "the same twice", "no text"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
async def test_transcription_stream_without_counted_tokens_is_charged_by_the_text_that_came(
    events: list[bytes], tokens: int, whole: bool
) -> None:
    end: Any = event("transcript.text.done", text="") if whole else Disconnected("cut", sent=True)
    home = gateway(Answer([*events, end], headers=[SSE]), price=PER_TOKEN)
    assert (await post(home, ("stream", "true"))).status == 200
    assert charged(home) == 125 * 6000 + tokens * 10_000


@pytest.mark.parametrize(
    ("body", "price", "cost"),
    [
        (VERBOSE, PER_MINUTE, 13_000 * 10_000),
        ({**VERBOSE, "usage": None}, PER_MINUTE, 12_400 * 10_000),
        ({**VERBOSE, "usage": None, "duration": "12.25"}, PER_MINUTE, 12_250 * 10_000),
        ({"text": ""}, PER_MINUTE, 12_500 * 10_000),
        ({"text": "", "duration": 99999}, PER_MINUTE, 13_000 * 10_000),
        ({"text": "", "duration": -1}, PER_MINUTE, 12_500 * 10_000),
        (TOKENS, PER_TOKEN, 130 * 6000 + 20 * 10_000),
    ],
    ids=["usage", "duration", "text of it", "measured", "too long", "negative", "tokens"],
)
async def test_transcription_is_charged_by_what_was_counted(
    body: dict[str, Any], price: Any, cost: int
) -> None:
    home = gateway(answer(body), price=price)
    assert (await post(home)).status == 200
    assert charged(home) == cost


async def test_transcription_that_the_budget_does_not_allow_is_not_sent() -> None:
    """12.5 s cost 0.125 credits, 13 s are reserved: 0.13."""
    plans = [{"id": "few", "windows": [{"length": "1h", "credits": "0.129"}]}]
    document = {"auth": {"mode": "none", "default_plan": "few"}, "plans": plans}
    home = gateway(answer(VERBOSE), document=document)
    found = await post(home)
    assert found.status == 429
    assert not upstream(home).requests
    plans[0]["windows"] = [{"length": "1h", "credits": "0.13"}]
    home = gateway(answer(VERBOSE), document=document)
    assert [(await post(home)).status for _ in range(2)] == [200, 429]


# Files and JSON


async def test_transcription_larger_than_the_setting_is_413_before_it_is_read() -> None:
    home = gateway(answer(VERBOSE), document={"audio": {"max_size": 100_000}})
    small = await post(home)
    assert (small.status, small.json()["error"]["param"]) == (413, "file")
    asked = []

    async def receive() -> Any:
        asked.append(1)
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {**FORM, "content-length": "30000000"}
    await home.app(http_scope("POST", PATH, headers=headers), receive, send)
    assert sent[0]["status"] == 413
    assert len(asked) == 1  # after the answer, to drop the rest


@pytest.mark.parametrize("member", ["file", "audio"])
@pytest.mark.parametrize("prefix", ["", "data:audio/wav;base64,"])
async def test_transcription_in_json_is_sent_as_a_form(member: str, prefix: str) -> None:
    home = gateway(answer(VERBOSE), document={"server": {"max_body": 2 << 20}})
    sound = wav(30)
    body = {
        "model": "ears",
        member: prefix + b64encode(sound).decode(),
        "format": "wav",
        "language": "en",
        "languages": ["en", "de"],
        "chunking_strategy": {"type": "server_vad", "silence_duration_ms": 5},
        "response_format": "text",
    }
    found = await request(home.app, "POST", PATH, json=body)
    assert found.body == f"{VERBOSE['text']}\n".encode()
    assert upstream(home).files == [("audio.wav", "audio/wav", sound)]
    assert upstream(home).forms == [
        [
            ("model", "stt-x"),
            ("language", "en"),
            ("languages[]", "en"),
            ("languages[]", "de"),
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[silence_duration_ms]", "5"),
            ("response_format", "verbose_json"),
        ]
    ]
    assert charged(home) == 13_000 * 10_000


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({}, "file"),
        ({"file": ""}, "file"),
        ({"file": "data:audio/wav;base64,"}, "file"),
        ({"file": "%%%%"}, "file"),
        ({"file": 5}, "file"),
        ({"audio": "data:audio/wav,abc"}, "audio"),
        ({"audio": "YWJj", "file": "YWJj"}, "audio"),
        ({"file": "YWJj", "format": 5}, "format"),
        ({"file_id": "file-1"}, "file"),  # nothing opens it here
    ],
)
async def test_transcription_in_json_without_audio_is_refused_by_name(
    members: dict[str, Any], param: str
) -> None:
    before = deleted_files()
    home = gateway(answer(VERBOSE))
    found = await request(home.app, "POST", PATH, json={"model": "ears", **members})
    assert (found.status, found.json()["error"]["param"]) == (400, param)
    assert deleted_files() == before


async def test_transcription_repeated_with_its_key_is_the_same_request() -> None:
    """Also when the boundary is another, as each client makes a new one for a retry."""
    home = gateway(answer(VERBOSE))
    headers = {**FORM, "idempotency-key": "once"}
    first = await request(home.app, "POST", PATH, headers=headers, body=parts())
    again = {"content-type": "multipart/form-data; boundary=other", "idempotency-key": "once"}
    repeated = form(part("file", SOUND, "a.wav"), part("model", b"ears"), boundary=b"other")
    second = await request(home.app, "POST", PATH, headers=again, body=repeated)
    assert first.body == second.body
    assert len(upstream(home).requests) == 1
    changed = form(part("file", SOUND + b"\0", "a.wav"), part("model", b"ears"))
    third = await request(home.app, "POST", PATH, headers=headers, body=changed)
    assert third.status == 422
