"""Requests from the browser, with the key that is signed in, in each dialect.

They pass the chain behind auth, so limits, budgets and the ledger see them as any request of the
key. A browser with the page's script gets the stream itself; another one gets a page. A request of
an administrator with the key of someone else is in the audit.
"""

from typing import Any

from starlette.responses import PlainTextResponse, Response

from edge.dashboard.inner import InnerAnswer
from edge.dashboard.page import SIGNED_IN, Page
from edge.dashboard.playground.answer import Answer, Collected, read_answer
from edge.dashboard.playground.prompt import (
    DIALECTS,
    Prompt,
    PromptDialect,
    body_of,
    curl_of,
    offered_dialects,
    prompt_of,
)
from edge.dashboard.request import DashboardRequest
from edge.dashboard.setup_values import models_of, setup_of
from edge.endpoints import BY_NAME, CONVERSATION_NAMES
from edge.routing.served import client_paths, served_paths
from middlewares.asgi import header
from middlewares.budget import credits_used
from middlewares.problem import Problem

_LARGEST_FORM = 256 << 10
"""Bytes. The longest texts that the page takes are less in most scripts."""


async def playground(request: DashboardRequest) -> Response:
    """The form."""
    return await _page(request, Prompt(model=request.query.get("model", "")))


async def send(request: DashboardRequest) -> Response:
    """Send the prompt of the form: a stream for the script, else a page with the answer."""
    key = await request.key_to_work_with()
    prompt = await _prompt(request)
    row = BY_NAME[DIALECTS[prompt.dialect].endpoint]
    principal = await request.principal(key, row.name)
    inner = request.parts.inner
    if inner is None:
        raise Problem("not_found", reason="the dashboard has no chain")
    await request.note_use("playground.use", key, request=request.exchange.request_id)
    stream = header(request.scope, b"accept") == b"text/event-stream"
    response = InnerAnswer(inner, row, principal, body_of(prompt, stream=stream))
    if stream:
        return response
    status, answer = await _collect(request, response)
    return await _page(request, prompt, status, answer=answer)


async def _collect(request: DashboardRequest, response: Response) -> tuple[int, Answer]:
    """Status and answer of an unstreamed request."""
    collected = Collected()
    try:
        await collected.of(response, request.scope, request.receive)
    except Problem as problem:
        problem.answered(request.exchange)
        return problem.status(request.exchange), Answer(fault=problem.text(request.exchange))
    return collected.status, read_answer(collected)


async def show_curl(request: DashboardRequest) -> Response:
    """The prompt as a line for a shell: as text for the script, else on the page."""
    prompt = await _prompt(request)
    models = await models_of(request)
    line = curl_of(setup_of(request, models), prompt)
    if header(request.scope, b"accept") == b"text/plain":
        return PlainTextResponse(line)
    return await _page(request, prompt, line=line)


async def _prompt(request: DashboardRequest) -> Prompt:
    return prompt_of(await request.form(limit=_LARGEST_FORM), _dialects(request))


def _dialects(request: DashboardRequest) -> dict[str, PromptDialect]:
    return offered_dialects(client_paths(served_paths(request.parts.settings)))


async def _page(
    request: DashboardRequest, prompt: Prompt, status: int = 200, **shown: Any
) -> Response:
    answer = shown.get("answer")
    chosen = request.visitor.key is not None or bool(request.query.get("key"))
    key = await request.key() if chosen else None
    return request.render(
        "playground.html",
        status,
        prompt=prompt,
        dialects=_dialects(request),
        keyless=request.parts.directory is None,
        models=await models_of(request),
        key=key,
        may_work=key is not None and request.may_work_with(key),
        answer=answer,
        line=shown.get("line", ""),
        cost=credits_used(request.exchange) if answer is not None else None,
        served=request.exchange.served,
        request_id=request.exchange.request_id,
    )


PAGES = (
    Page("/app/playground", ("GET",), SIGNED_IN, playground, "Playground", CONVERSATION_NAMES),
    Page("/app/playground", ("POST",), SIGNED_IN, send),
    Page("/app/playground/curl", ("POST",), SIGNED_IN, show_curl),
)
