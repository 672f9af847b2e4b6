"""One attempt's request to its target, corrected and sent again when the target refuses a
member.

A correction is part of its attempt: it does not count for `fallback.max_attempts`, costs nothing
and is named in the log line (`dropped`). Lasting corrections are remembered by target.
"""

from functools import partial
from time import time

import msgspec

from edge.dialects.codec import Spelled
from edge.media.forms import Form, FormBody, plain_name
from edge.proxy.corrections.change import Correction
from edge.proxy.corrections.form_remedy import FormRemedy, find_form_remedy
from edge.proxy.corrections.learned import LearnedCorrections
from edge.proxy.corrections.remedy import Remedy, find_remedy
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
"""Characters of an upstream's message in a log line."""
_MAX_CORRECTIONS = 3
"""Corrections of one attempt, each for another member."""


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
    """Open the upstream response. Raises Problem for any status but success.

    dialect: of `request`. spelled: see `problem_of`. learned: remembers what was apply_corrections.
    """
    made: list[Correction] = []
    while True:
        response = decompressed(await provider.upstream.open(request))
        attempt.status = response.status
        if 200 <= response.status < 300:
            if made:
                learned.add(attempt.target, request.target.partition(b"?")[0], made)
            return response
        refusal = await _refusal_of(response, provider)
        if attempt.corrections >= _MAX_CORRECTIONS:
            break
        remedy: Remedy | FormRemedy | None = None
        if isinstance(request.body, bytes):
            finding = partial(find_remedy, response.status, refusal, request.body, dialect)
            remedy = await run_in_thread(finding) if exchange.large else finding()
            del finding
        elif isinstance(request.body, FormBody):
            remedy = find_form_remedy(response.status, refusal, request.body)
        if remedy is None:
            break
        attempt.corrections += 1
        attempt.status = 0  # the corrected request has no answer yet
        made += remedy.changes
        exchange.dropped += [change.note for change in remedy.changes]
        request = msgspec.structs.replace(request, body=remedy.body)
        if isinstance(remedy, FormRemedy):
            request = with_content_type(request, remedy.body.content_type)
    problem = _problem_of(exchange, provider, attempt, request.target, response, refusal, spelled)
    try:
        raise problem
    finally:  # breaks the cycle of its traceback and this frame
        del problem


def with_content_type(request: Request, kind: bytes) -> Request:
    """`request` with the content type of its body."""
    headers = [pair for pair in request.headers if pair[0] != b"content-type"]
    return msgspec.structs.replace(request, headers=(*headers, (b"content-type", kind)))


def _problem_of(
    exchange: Exchange,
    provider: Provider,
    attempt: Attempt,
    path: bytes,
    response: Response,
    refusal: bytes,
    spelled: Spelled | None,
) -> Problem:
    """The problem of a refusal. Sets its reason for the log, also on `attempt`."""
    form = exchange.form
    problem = problem_of(
        response.status,
        response.headers,
        refusal,
        dialect=exchange.dialect,
        fields=exchange.fields,
        files={plain_name(file.name) for file in form.files()} if isinstance(form, Form) else (),
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
    """The beginning of a refusal's body, without secrets."""
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
