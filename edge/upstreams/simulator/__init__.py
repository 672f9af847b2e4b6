"""Deterministic OpenAI and Anthropic provider for tests, benchmarks and demos.

It speaks Chat Completions, Messages and Responses. One behaviour has three entry points: `answer`
turns a request into a head and timed steps without I/O; `SimulatorUpstream` is an `Upstream` in
this process; `SimulatorServer` speaks HTTP. `controls` documents how a request selects speed, shape
and faults.

    POST /v1/chat/completions   POST /v1/messages   POST /v1/messages/count_tokens
    POST /v1/responses          POST /v1/responses/compact   POST /v1/responses/input_tokens
    POST /v1/embeddings         GET /v1/models      GET /v1/models/ID
    images, speech, transcription, files, video and music of several vendors: see `media`
    POST to any other endpoint of `edge.endpoints` that is a plain JSON object
    GET /stats                  (server only) counters and hang-ups, see `stats`

    controls    options of a request
    prompt      a request in one form for all dialects
    read_chat, read_messages, read_responses    request -> Prompt; conversation: its input items
    turns       text and tokens of messages; directives: the directives in them
    reply       Prompt -> Reply, in tokens
    strictness  rules by which vendors refuse requests
    chat, messages, responses, response_items, embeddings, objects, models   the bytes of each
    request, form, account    what all endpoints read; multipart bodies; files and jobs
    media       images, speech, transcription, files, video, music, and the media themselves
    answer      bytes -> timed steps, and the faults in them
    behaviour   the endpoints together
    reported    usage reported by an answer that broke off
    upstream    entry point in this process
    server      entry point over HTTP: connection, wire, timer_wheel, stats; command
"""

from .answer import SimulatedAnswer, Step
from .behaviour import answer
from .command import run_simulator
from .connection import Bounds
from .controls import FAULTS, Controls, call_word
from .refusals import SECRETS
from .server import SimulatorServer, serve
from .stats import HangUp, Stats
from .upstream import SimulatorUpstream

__all__ = [
    "FAULTS",
    "SECRETS",
    "Bounds",
    "Controls",
    "HangUp",
    "SimulatedAnswer",
    "SimulatorServer",
    "SimulatorUpstream",
    "Stats",
    "Step",
    "answer",
    "call_word",
    "run_simulator",
    "serve",
]
