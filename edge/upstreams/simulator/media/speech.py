"""POST /audio/speech: a sound that is as long as its words, in pieces."""

from base64 import b64encode
from collections.abc import Iterator

import msgspec

from edge.upstreams.simulator.answer import FaultFrames, SimulatedAnswer, stream
from edge.upstreams.simulator.chat import Frame
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.refusals import error_event
from edge.upstreams.simulator.request import SimulatorRequest, refused, vendor_headers
from edge.upstreams.simulator.stats import Used
from edge.upstreams.simulator.tokens import count

from .fields import read_fields
from .sounds import FORMATS, seconds_of_words

_LONGEST_INPUT = 4096
_TOKENS_A_SECOND = 20
_encode = msgspec.json.Encoder().encode


def speak(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /audio/speech. One piece per token of the input, or as many as the control `tokens`."""
    request, fields = read_fields(request, "input", takes="json")
    if len(fields.values["input"]) > _LONGEST_INPUT:
        raise PromptRejected(
            400,
            f"Invalid 'input': string too long. Expected at most {_LONGEST_INPUT} characters.",
            "input",
            "string_above_max_length",
        )
    if not fields.values.get("voice"):
        raise PromptRejected(
            400, "Missing required parameter: 'voice'.", "voice", "missing_required_parameter"
        )
    speed = fields.number("speed", 1.0)
    if not 0.25 <= speed <= 4:
        raise PromptRejected(400, "Invalid 'speed': expected 0.25 to 4.", "speed")
    form = fields.choice("response_format", tuple(FORMATS), "mp3")
    events = fields.choice("stream_format", ("audio", "sse"), "audio") == "sse"
    if refusal := refused(request):
        return refusal
    controls = request.controls
    make, kind = FORMATS[form]
    seconds = seconds_of_words(fields.text, speed)
    data = make(fields.text, seconds)
    tokens = count(fields.text)
    used = Used(fields.model, tokens, 0, 0, round(seconds * _TOKENS_A_SECOND) or 1)
    pieces = _pieces(data, controls.tokens or tokens or 1)
    headers = vendor_headers(request)
    if events:
        fault_frames = FaultFrames(
            b'data: {"type":"speech\n\n', error_event("openai", request.identity)
        )
        frames = _events(pieces, used, controls.usage != "none")
        found = stream(frames, controls, fault_frames, headers=headers, used=used)
    else:
        fault_frames = FaultFrames(b"<html>", b"")
        frames = ((piece, True) for piece in pieces)
        found = stream(frames, controls, fault_frames, headers=headers, used=used, kind=kind)
    return msgspec.structs.replace(found, model=fields.model, counts=(("speeches", 1),))


def _pieces(data: bytes, wanted: int) -> Iterator[bytes]:
    size = -(-len(data) // wanted)
    return (data[at : at + size] for at in range(0, len(data), size))


def _events(pieces: Iterator[bytes], used: Used, reports: bool) -> Iterator[Frame]:
    for piece in pieces:
        event = {"type": "speech.audio.delta", "audio": b64encode(piece).decode()}
        yield b"data: %s\n\n" % _encode(event), True
    done: dict[str, object] = {"type": "speech.audio.done"}
    if reports:
        done["usage"] = {
            "input_tokens": used.input,
            "output_tokens": used.output,
            "total_tokens": used.input + used.output,
        }
    yield b"data: %s\n\n" % _encode(done), False
