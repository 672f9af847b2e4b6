"""Plays a case: the exchange as the forwarder leads it, without its sockets.

What comes out is text, section by section, as it stands in the file. What holds for every case is
asserted on the way: the request is one the upstream's vendor takes; the answer is one the caller's
vendor could have given; it does not depend on how the upstream's bytes were cut, nor, but for its
form, on whether it was streamed.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Literal
from unittest.mock import patch

import msgspec

from edge.billing.token_estimate import Estimator
from edge.dialects import openai_responses
from edge.dialects.codec import TargetModel
from edge.dialects.openai_responses.write_answer import ResponsesWriter
from edge.dialects.passthrough import Relay, UpstreamError
from edge.endpoints import BY_NAME
from edge.proxy import translation
from edge.proxy.translate import CLIENTS, Translator, translator_for
from edge.proxy.translation import Translation
from edge.upstreams.refusal import problem_of
from middlewares import sse
from middlewares.exchange import Dialect, Exchange, Usage
from middlewares.problem import Problem
from tests.schemas import Summary, check, check_request, check_stream, summary

from .case import Case, pretty

REQUEST_ID = "0123456789abcdef0123456789abcdef"
NOW = 1_790_000_000
ESTIMATE = 42
BREAKS = "the connection was cut"
"""The reason when a stream ends before it should; see `_fed`."""

_DIALECTS: dict[str, tuple[Dialect, Literal["chat", "completions", "messages", "responses"]]] = {
    "chat.completions": ("openai", "chat"),
    "completions": ("openai", "completions"),
    "messages": ("anthropic", "messages"),
    "responses": ("responses", "responses"),
}
_REQUESTS: dict[str, Literal["chat", "messages", "responses"]] = {
    "openai": "chat",
    "anthropic": "messages",
    "responses": "responses",
}
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "openai": ("reasoning_content", "reasoning_details", "top_k"),
    "anthropic": ("temperature", "top_k", "top_p"),
    "responses": (),
}
"""What upstreams take although the vendor's types do not have it: other servers, older models."""
_SEEDS = range(3)
_STILL = {
    **CLIENTS,
    "responses": msgspec.structs.replace(
        openai_responses.CLIENT, writer=partial(ResponsesWriter, clock=lambda: NOW)
    ),
}
"""A Responses object says when it was completed."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Fixed(Estimator):
    """Every prompt has `ESTIMATE` tokens."""

    def estimate(self, *_: Any) -> int:
        return ESTIMATE

    def learn(self, *_: Any) -> None:
        pass


def exchange_of(endpoint: str, body: dict[str, Any]) -> Exchange:
    """What the layers above the forwarder make of a request."""
    return Exchange(
        request_id=REQUEST_ID,
        dialect=_DIALECTS[endpoint][0],
        endpoint=endpoint,
        row=BY_NAME[endpoint],
        fields=_decode(json.dumps(body, ensure_ascii=False).encode()),
        model=body["model"],
        stream=body.get("stream") is True,
        catalog_id="entry",
        estimate=ESTIMATE,
    )


def cross_of(
    endpoint: str,
    body: dict[str, Any],
    dialect: str,
    model: str,
    *,
    family: str = "",
    **limits: int,
) -> tuple[Exchange, Translator]:
    """The exchange of `body` and its way to `model`, a `family`. Raises Problem."""
    exchange = exchange_of(endpoint, body)
    with patch.object(translation, "time", lambda: NOW):
        found = translator_for(
            exchange,
            (dialect,),  # type: ignore[arg-type]
            TargetModel(
                model=model,
                family=family,
                max_output=limits.get("max_output"),
                context=limits.get("context"),
            ),
            estimator=Fixed(),
            clients=_STILL,
        )
    assert found is not None, "no way across"
    return exchange, found


def crossing_of(case: Case, *, stream: bool) -> tuple[Exchange, Translator]:
    """The exchange and its way across. Raises Problem."""
    body = case.request
    if stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)
    limits: dict[str, Any] = case.limits
    return cross_of(case.endpoint, body, case.dialect, case.model, **limits)


def play(case: Case) -> dict[str, str]:
    """What has to stand in the recorded sections."""
    out: dict[str, str] = {}
    try:
        exchange, way = crossing_of(case, stream=True)
    except Problem as refused:
        exchange = exchange_of(case.endpoint, case.request)
        out["refused"] = _refused(exchange, refused)
        return out
    out["sent"] = _sent(case, way)
    if way.dropped:
        out["dropped"] = "\n".join(way.dropped)
    refusal = case.refusal()
    if refusal is not None:
        status, headers, body = refusal
        problem = problem_of(
            status,
            headers,
            body,
            dialect=exchange.dialect,
            fields=exchange.fields,
            spelled=None if way.spelled is None else way.spelled(),
            now=NOW,
        )
        out["refused"] = _refused(exchange, problem)
        return out
    streamed = _play_stream(case, out)
    plain = _play_body(case, out)
    if streamed is not None and plain is not None:
        if streamed.usage is None:
            plain = replace(plain, usage=None)
        assert streamed == plain, "the streamed and the unstreamed answer differ"
    return out


def _sent(case: Case, way: Translator) -> str:
    body = way.take_body()
    _, again = crossing_of(case, stream=True)
    assert again.take_body() == body, "the same request gives another body"
    sent = json.loads(body)
    if isinstance(way, Translation):
        check_request(_REQUESTS[case.dialect], body, extensions=EXTENSIONS[case.dialect])
    _, unstreamed = crossing_of(case, stream=False)
    plain = json.loads(unstreamed.take_body())
    for name in ("stream", "stream_options"):
        plain.pop(name, None)
    rest = {k: v for k, v in sent.items() if k not in ("stream", "stream_options")}
    assert list(plain.items()) == list(rest.items()), "the unstreamed request differs"
    return pretty(sent)


def _play_stream(case: Case, out: dict[str, str]) -> Summary | None:
    data = case.stream()
    if data is None:
        return None
    exchange, way = crossing_of(case, stream=True)
    said, relay, problem = fed(exchange, way.relay(), [data])
    for pieces in cuts(data):
        _, other = crossing_of(case, stream=True)
        again, relayed, failed = fed(exchange, other.relay(), pieces)
        assert again == said, f"cut into {len(pieces)} the answer differs"
        assert relayed.usage == relay.usage, f"cut into {len(pieces)} the usage differs"
        assert relayed.output_size == relay.output_size, (
            f"cut into {len(pieces)} the size of the text differs"
        )
        assert (failed and failed.kind) == (problem and problem.kind)
    usage, measured = way.settle(relay)
    if usage is not None:
        out["usage"] = _usage(usage, measured=measured or problem is not None)
    return _written(case, exchange, said, relay, problem, out)


def _written(
    case: Case,
    exchange: Exchange,
    said: bytes,
    relay: Relay,
    problem: Problem | None,
    out: dict[str, str],
) -> Summary | None:
    if problem is not None:
        out["failed"] = f"{problem.kind}\n{problem.reason}"
    if problem is not None and not relay.content:
        out["refused"] = _refused(exchange, problem)
        return None
    assert said.endswith(b"\n\n")
    out["caller stream"] = said.decode().removesuffix("\n\n")
    asked = (case.request.get("stream_options") or {}).get("include_usage") is True
    return check_stream(
        _DIALECTS[case.endpoint][1],
        said,
        error=problem is not None,
        include_usage=asked if exchange.dialect == "openai" else None,
    )


def _play_body(case: Case, out: dict[str, str]) -> Summary | None:
    data = case.body()
    if data is None:
        return None
    exchange, way = crossing_of(case, stream=False)
    try:
        body, usage, measured = way.finish_body(data)
    except UpstreamError as broke:
        problem = Problem(broke.kind, reason=broke.reason)
        failed = f"{problem.kind}\n{problem.reason}"
        assert out.setdefault("failed", failed).split("\n")[0] == problem.kind
        refused = _refused(exchange, problem)
        assert out.setdefault("refused", refused) == refused
        return None
    out["caller body"] = pretty(json.loads(body))
    counted = _usage(usage, measured=measured)
    assert out.setdefault("usage", counted) == counted, "the usage differs"
    return summary(_DIALECTS[case.endpoint][1], body)


def fed(
    exchange: Exchange, relay: Relay, pieces: list[bytes]
) -> tuple[bytes, Relay, Problem | None]:
    """What the caller reads when the upstream's bytes come in `pieces`, as the forwarder does it.

    The third is what broke the stream, whose bytes are then the last.
    """
    splitter = sse.Splitter()
    said: list[bytes] = []
    try:
        for piece in pieces:
            block = splitter.split(piece)
            if block:
                said.append(relay.relay(block))
            if relay.enough:
                return b"".join(said), relay, None
        rest = splitter.rest()
        if rest:
            said.append(relay.relay(rest + b"\n\n"))
        said.append(relay.relay_end())
    except UpstreamError as broke:
        problem = Problem(broke.kind, reason=broke.reason)
        exchange.failure_encoder = relay
        said += [broke.passed, problem.event(exchange)]
        return b"".join(said), relay, problem
    return b"".join(said), relay, None


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` by event, by byte, and cut at random, always the same."""
    yield list(sse.split(data))
    yield [data[at : at + 1] for at in range(len(data))]
    for seed in _SEEDS:
        random, pieces, at = Random(seed), [], 0
        while at < len(data):
            size = random.choice((1, 2, 7, 60, 400))
            pieces.append(data[at : at + size])
            at += size
        yield pieces


def _refused(exchange: Exchange, problem: Problem) -> str:
    content = problem.content(exchange)
    check("anthropic.error" if exchange.dialect == "anthropic" else "openai.error", content)
    wait = f" retry-after: {problem.retry_after}" if problem.retry_after else ""
    return f"{problem.status(exchange)}{wait}\n{pretty(content)}"


def _usage(usage: Usage, *, measured: bool) -> str:
    tokens = ("input", "output", "cache_read", "cache_write", "reasoning")
    said: dict[str, Any] = {name: getattr(usage, name) for name in tokens}
    said |= {
        name: value for name in ("cache_write_1h", "hosted") if (value := getattr(usage, name))
    }
    if any(tier not in ("", "default", "standard", "not_available") for tier in usage.tiers):
        said["tiers"] = list(usage.tiers)
    if not measured:
        said["measured"] = False
    return pretty(said)
