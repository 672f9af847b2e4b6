"""Music as MiniMax, ElevenLabs and Suno offer it."""

from typing import Any

import msgspec

from edge.upstreams.simulator.account import SimulatedJob
from edge.upstreams.simulator.answer import FaultFrames, SimulatedAnswer, plain, seconds_for, stream
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.request import SimulatorRequest, refused, vendor_headers
from edge.upstreams.simulator.tokens import count

from . import jobs
from .fields import MediaFields, read_fields
from .jobs import JobContent
from .sounds import FORMATS

_SECONDS = 5.0
_SHORTEST, _LONGEST = 3_000, 600_000
_PIECE = 8192
_CLIPS = 2
_encode = msgspec.json.Encoder().encode


def minimax(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /music_generation: synchronous, with the sound as hexadecimal digits or as a link.

    A failure is a 200 with another `status_code`.
    """
    request, fields = read_fields(request, "prompt", takes="json")
    if refusal := refused(request):
        return refusal
    setting = fields.values.get("audio_setting") or {}
    kind = setting.get("format", "mp3") if isinstance(setting, dict) else "mp3"
    if kind not in FORMATS:
        return _minimax(request, None, 2013, "invalid params, audio_setting.format")
    content = _content(fields, str(kind), _SECONDS)
    job = jobs.create(request, fields, "minimax", "", content)
    job.polls = 1
    job.life = {name: number for name, number in job.life.items() if name in ("fail", "expire")}
    counts = (("jobs", 1),)
    if job.failed:
        message = "SimProvider found sensitive content"
        return _minimax(request, None, 1026, message, counts=counts)
    linked = fields.choice("output_format", ("hex", "url"), "hex") == "url"
    audio = jobs.link(request, job) if linked else content.data.hex()
    data = {"audio": audio, "status": 2}
    return _minimax(request, data, 0, "success", content, counts, job.model)


def elevenlabs(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /music: synchronous, bytes as they are made; `output_format` is in the query."""
    request, fields = read_fields(request, "prompt", takes="json", required=False)
    if not fields.text and not fields.values.get("composition_plan"):
        raise PromptRejected(422, "Either prompt or composition_plan is required.", "prompt")
    length = fields.whole("music_length_ms", round(_SECONDS * 1000), _SHORTEST, _LONGEST)
    if refusal := refused(request):
        return refusal
    kind = request.query.get("output_format", "mp3_44100_128").partition("_")[0]
    if kind not in FORMATS:
        raise PromptRejected(422, f"Invalid output_format '{kind}'.", "output_format")
    content = _content(fields, kind, length / 1000)
    data = content.data
    pieces = ((data[at : at + _PIECE], True) for at in range(0, len(data), _PIECE))
    found = stream(
        pieces,
        request.controls,
        FaultFrames(b"<html>", b""),
        headers=vendor_headers(request),
        kind=content.type.encode(),
    )
    return msgspec.structs.replace(found, model=fields.model, counts=(("jobs", 1),))


def create_suno(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /suno/submit/music. A refusal is a 200 with another `code`."""
    described = b'"gpt_description_prompt"' in request.body
    text = "gpt_description_prompt" if described else "prompt"
    try:
        request, fields = read_fields(request, text, takes="json", required=False)
        if not fields.text and not fields.values.get("tags"):
            raise PromptRejected(400, "prompt is required", "prompt")
    except PromptRejected as rejection:
        members = {"code": "invalid_request", "message": rejection.message, "data": None}
        return jobs.shown(request, members)
    if refusal := refused(request):
        return refusal
    job = jobs.create(request, fields, "suno", "", _content(fields, "mp3", _SECONDS))
    job.model = str(fields.values.get("mv") or job.model)
    return jobs.created(request, job, {"code": "success", "message": "", "data": job.id})


def suno_described(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /suno/fetch/ID: two clips a job."""
    job = jobs.poll(request, request.path.rpartition("/")[2], "suno")
    status = "IN_PROGRESS"
    if job.over:
        status = "FAILURE" if job.failed else "SUCCESS"
    data = {
        "task_id": job.id,
        "action": "MUSIC",
        "status": status,
        "fail_reason": "SimProvider failed" if status == "FAILURE" else "",
        "progress": f"{job.progress}%",
        "submit_time": job.created_at,
        "data": [_clip(request, job, n) for n in range(_CLIPS)] if status == "SUCCESS" else [],
    }
    return jobs.polled(request, job, {"code": "success", "message": "", "data": data})


def _clip(request: SimulatorRequest, job: SimulatedJob, number: int) -> dict[str, Any]:
    return {
        "id": f"{job.id}-{number}",
        "title": f"Clip {number + 1}",
        "audio_url": jobs.link(request, job, number),
        "status": "complete",
        "metadata": {"prompt": job.prompt, "duration": job.seconds},
    }


def _minimax(
    request: SimulatorRequest,
    data: dict[str, Any] | None,
    code: int,
    message: str,
    content: JobContent | None = None,
    counts: tuple[tuple[str, int], ...] = (),
    model: str = "",
) -> SimulatedAnswer:
    members: dict[str, Any] = {
        "data": data,
        "trace_id": request.identity[:32],
        "base_resp": {"status_code": code, "status_msg": message},
    }
    if content is not None:
        length = round(content.seconds * 1000)
        members["extra_info"] = {"music_duration": length, "music_size": len(content.data)}
    found = plain(
        _encode(members),
        request.controls,
        headers=vendor_headers(request),
        seconds=seconds_for(count(message), request.controls),
    )
    return msgspec.structs.replace(found, counts=counts, model=model)


def _content(fields: MediaFields, kind: str, seconds: float) -> JobContent:
    lyrics = str(fields.values.get("lyrics") or "")
    words = f"{fields.text} / {lyrics}" if lyrics else fields.text
    make, content_type = FORMATS[kind]
    return JobContent(make(words, seconds), content_type.decode(), seconds)
