"""One attempt's request to its target, corrected and sent again when the target refuses a
member.

A correction is part of its attempt: it does not count for `fallback.max_attempts`, costs nothing
and is named in the log line (`dropped`). What the target takes in no request is remembered.
"""

from functools import partial
from time import time

import msgspec

from edge.dialects.codec import Spelled
from edge.proxy.corrections.change import Correction
from edge.proxy.corrections.learned import LearnedCorrections
from edge.proxy.corrections.remedy import find_remedy
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams import Request, Response
from edge.upstreams.bodies import read_some
from edge.upstreams.decompression import decompressed
from edge.upstreams.provider import Provider
from edge.upstreams.refusal import problem_of
from edge.vendors.errors.redact import redacted
from middlewares.exchange import Attempt, Dialect, Exchange, Target
from middlewares.problem import Problem

_REFUSAL_BYTES = 64 << 10
_REASON = 1000
"""Characters of what an upstream said that a log line may hold."""
_MAX_CORRECTIONS = 3
"""Of one attempt; each is for another member, since what was dropped is not refused again."""


async def open_response(
    exchange: Exchange,
    provider: Provider,
    request: Request,
    attempt: Attempt,
    *,
    dialect: Dialect,
    spelled: Spelled | None,
    learned: LearnedCorrections,
) -> Response:
    """A response with a status of success; any other is raised as the Problem it amounts to.

    dialect: of `request`. spelled: see `problem_of`. learned: remembers what was apply_corrections.
    """
    made: list[Correction] = []
    while True:
        response = decompressed(await provider.upstream.open(request))
        attempt.status = response.status
        if 200 <= response.status < 300:
            if made:
                learned.add(attempt.target, made)
            return response
        refusal = await _refusal_of(response, provider)
        if attempt.corrections >= _MAX_CORRECTIONS or not isinstance(request.body, bytes):
            break
        finding = partial(find_remedy, response.status, refusal, request.body, dialect)
        remedy = await run_in_thread(finding) if exchange.large else finding()
        del finding
        if remedy is None:
            break
        attempt.corrections += 1
        attempt.status = 0  # what is sent now has not been answered
        made += remedy.changes
        exchange.dropped += [change.note for change in remedy.changes]
        request = msgspec.structs.replace(request, body=remedy.body)
    problem = _problem_of(exchange, provider, attempt, request.target, response, refusal, spelled)
    try:
        raise problem
    finally:  # its traceback holds this frame; the two, and the request, would stay for long
        del problem


def _problem_of(
    exchange: Exchange,
    provider: Provider,
    attempt: Attempt,
    path: bytes,
    response: Response,
    refusal: bytes,
    spelled: Spelled | None,
) -> Problem:
    """What a refusal amounts to, with its reason for the log, which `attempt` gets too."""
    problem = problem_of(
        response.status,
        response.headers,
        refusal,
        dialect=exchange.dialect,
        fields=exchange.fields,
        spelled=None if spelled is None else spelled(),
        chosen=exchange.model if exchange.catalog_id.endswith("*") else "",
        disclosing=provider.disclose,
        now=time(),
    )
    reason = problem.reason
    if response.status in (404, 405):  # the base URL is wrong more often than the model's name
        reason = f"POST {provider.url(path)}: {reason}"
    problem.reason = attempt.error = reason_of(attempt.target, reason)
    return problem


async def _refusal_of(response: Response, provider: Provider) -> bytes:
    """The beginning of a body that says why, without what is secret."""
    try:
        body = await read_some(response, _REFUSAL_BYTES)
    finally:
        response.close()
    if provider.secrets:
        body = provider.without_secrets(body.decode("utf-8", "replace")).encode()
    return body


def reason_of(target: Target, reason: str) -> str:
    """Why an attempt at `target` failed, for the log."""
    return f"{target.name}: {redacted(reason[:_REASON])}"
