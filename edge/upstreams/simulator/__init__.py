"""A deterministic OpenAI and Anthropic provider, for tests, benches and demos.

It speaks Chat Completions, Messages and Responses. One behaviour with three ways in: `answer`
turns a request into a head and timed steps without I/O; `SimulatorUpstream` stands behind the
upstream seam in this process; `SimulatorServer` speaks HTTP. How a request asks for speed, shape
and faults is told in `controls`.

    POST /v1/chat/completions   POST /v1/messages   POST /v1/messages/count_tokens
    POST /v1/responses          POST /v1/responses/compact   POST /v1/responses/input_tokens
    POST /v1/embeddings         GET /v1/models      GET /v1/models/ID
    POST to any other endpoint of `edge.endpoints` that is a plain JSON object
    GET /stats                  (server only) counters and hang-ups, see `stats`

    controls    what a caller may ask for
    prompt      what a request says, in one form for all dialects
    read_chat, read_messages, read_responses    request -> Prompt; conversation: its input items
    turns       what messages say and weigh; script: where directives stand in them
    reply       Prompt -> Reply, in tokens
    strictness  what the vendors would refuse
    chat, messages, responses, response_items, embeddings, objects, models   the bytes of each
    answer      bytes -> timed steps, and the faults in them
    behaviour   the endpoints together
    reported    what an answer that broke off has told of its usage
    upstream    the way to reach it in this process
    server      the way over HTTP: connection, wire, wheel, stats; command
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
