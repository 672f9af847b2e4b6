"""Requests that the gateway makes to serve another: a describer of media is one.

Theory of operation. A subrequest is a request of its own, with its own exchange, reservation and
ledger row (`parent`, `purpose`), by the same principal. It passes the layers that hold for any use
of a model (metrics, log, budget, fallback), and none that hold for the caller's request alone: no
key is checked and no rate is taken again. Its answer is read whole, within a bound. It ends with
the task that waits for it, so a caller that disconnects ends it too.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from edge.billing.token_estimate import Estimator
from edge.endpoints import Endpoint
from edge.requests.body_limits import is_large
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread
from edge.untyped_json import decode_object
from middlewares.asgi import ASGIApp, Message, Scope
from middlewares.exchange import Exchange, RequestForm, attach
from middlewares.request_id import uuid7

MAX_ANSWER = 1 << 20
"""Bytes of an answer."""


class SubrequestFailed(Exception):
    """A subrequest was not answered. kind: of its Problem. error: members of the error object, in
    OpenAI's form. retry_after: seconds, 0 if none were given."""

    def __init__(self, kind: str, error: dict[str, Any], retry_after: int = 0) -> None:
        super().__init__(kind)
        self.kind = kind
        self.error = error
        self.retry_after = retry_after


class _AnswerTooLong(Exception):
    pass


class _Answer:
    """Collects an answer."""

    def __init__(self, most: int) -> None:
        self.status = 0
        self.retry_after = 0
        self.body = bytearray()
        self._most = most

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for name, value in message.get("headers", ()):
                if name == b"retry-after" and value.isdigit():
                    self.retry_after = int(value)
            return
        self.body += message.get("body", b"")
        if len(self.body) > self._most:
            raise _AnswerTooLong


async def _connected() -> Message:
    """The `receive` of a client that never disconnects."""
    await asyncio.Event().wait()
    raise AssertionError


class Subrequests:
    """Makes requests by the principal of another one.

    app: the layers around the forwarder of subrequests (`edge.chain`).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        estimator: Estimator,
        make_id: Callable[[], str] = uuid7,
    ) -> None:
        self._app = app
        self._estimator = estimator
        self._make_id = make_id

    async def ask(
        self,
        exchange: Exchange,
        row: Endpoint,
        model: Model,
        fields: dict[str, msgspec.Raw],
        *,
        purpose: str,
        form: RequestForm | None = None,
        audio_ms: int = 0,
    ) -> bytes:
        """The body of an unstreamed answer of `model` to `fields`, asked to serve `exchange`.

        form: what is sent instead, for endpoints of forms; `fields` are then its text members.
        audio_ms: milliseconds of audio in it.

        Raises SubrequestFailed.
        """
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": row.path,
            "headers": [],
            "query_string": b"",
        }
        child = await self._child(exchange, row, model, fields, purpose)
        child.form, child.audio_ms = form, audio_ms
        attach(child, scope)
        answer = _Answer(MAX_ANSWER)
        try:
            await self._app(scope, _connected, answer.send)
        except _AnswerTooLong:
            raise SubrequestFailed("upstream_error", {}) from None
        finally:
            exchange.children_cost += child.cost
        body = bytes(answer.body)
        if answer.status != 200:
            kind = child.problem or "upstream_error"
            raise SubrequestFailed(kind, _error_in(body), answer.retry_after)
        return body

    async def _child(
        self,
        parent: Exchange,
        row: Endpoint,
        model: Model,
        fields: dict[str, msgspec.Raw],
        purpose: str,
    ) -> Exchange:
        """The exchange of a subrequest, as the layers outside would have left it."""
        body = msgspec.json.encode(fields)
        principal = parent.principal
        who = "" if principal is None else principal.id
        large = is_large(body)
        estimating = partial(self._estimator.estimate_body, model.entry, body, who)
        size, estimate, _ = await run_in_thread(estimating) if large else estimating()
        exchange = Exchange(
            request_id=self._make_id(),
            error_style=parent.error_style,
            dialect=row.dialect or "openai",
            endpoint=purpose,
            row=row,
            client=parent.client,
            principal=principal,
            fields=fields,
            model=model.id,
            resolved=(model,),
            large=large,
            size=size,
            estimate=estimate,
            media=True,  # so that no estimate of text learns from it
        )
        exchange.parent, exchange.purpose = parent.request_id, purpose
        exchange.tags = parent.tags
        exchange.trace_id, exchange.parent_span_id = parent.trace_id, parent.span_id
        exchange.trace_state, exchange.sampled = parent.trace_state, parent.sampled
        return exchange


def _error_in(body: bytes) -> dict[str, Any]:
    try:
        error = decode_object(body).get("error")
    except msgspec.DecodeError:
        return {}
    return error if isinstance(error, dict) else {}
