"""The list of an upstream's models: the one request that costs nothing and needs the key.

Operators ask for it: the dashboard's probe, and `penstock check`.
"""

from time import perf_counter

import msgspec

from edge.upstreams import Request, Response, UpstreamFailure

from .provider import Provider, forwarded_headers

LARGEST = 8 << 20
"""Bytes of an answer that are read; OpenRouter's list has about one million."""
_PER_PAGE = b"limit=1000"
"""Anthropic's default is 20."""


class _Model(msgspec.Struct, frozen=True):
    id: str = ""
    name: str = ""


class _List(msgspec.Struct, frozen=True):
    data: tuple[_Model, ...] | None = None
    models: tuple[_Model, ...] | None = None
    has_more: bool = False


_decode = msgspec.json.Decoder(_List).decode


class ModelList(msgspec.Struct, frozen=True):
    """The answer. seconds: until it began.

    date: its header of that name. names: None when it is no list of models, or only a part of one.
    body: what was read of it, for a refusal.
    """

    status: int
    seconds: float
    date: str = ""
    names: frozenset[str] | None = None
    body: bytes = b""


async def ask_models(provider: Provider, *, read: bool = True) -> ModelList:
    """Ask an upstream over HTTP for its models, as its requests are sent. Raises UpstreamFailure.

    read: whether the body is read too.
    """
    anthropic = "anthropic" in provider.dialects
    given = [pair for pair in provider.headers if pair[0] != b"content-type"]
    known = {name for name, _ in given}
    if anthropic:  # its version is required; without `anthropic-beta` of a caller there is no other
        given += [pair for pair in forwarded_headers("anthropic", ()) if pair[0] not in known]
    target = provider.target(b"/models", _PER_PAGE if anthropic else b"")
    began = perf_counter()
    response = await provider.open(Request(b"GET", target, tuple(given)))
    seconds = perf_counter() - began
    try:
        date = next((value for name, value in response.headers if name == b"date"), b"")
        body = await read_body(response) if read else b""
    finally:
        response.close()
    names = _names(body) if response.status == 200 else None
    return ModelList(response.status, seconds, date.decode("latin-1"), names, body)


async def read_body(response: Response) -> bytes:
    """The body, at most a little more than `LARGEST`; empty where it breaks off."""
    body = bytearray()
    try:
        while len(body) <= LARGEST and (data := await response.read()):
            body += data
    except UpstreamFailure:  # it has answered; what it says of its models is not needed
        return b""
    return bytes(body)


def _names(body: bytes) -> frozenset[str] | None:
    """The names in a list of models, of OpenAI's form, or of llama.cpp's and Ollama's."""
    if len(body) > LARGEST:
        return None
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    models = found.data if found.data is not None else found.models
    if models is None or found.has_more:
        return None
    return frozenset(one.id or one.name for one in models) - {""}
