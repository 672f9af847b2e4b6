"""Attempts at transcriptions, whose answers are JSON or plain text, or events."""

from collections.abc import Awaitable
from functools import partial
from time import perf_counter

from edge.dialects.openai_transcription import stream_of_transcript
from edge.runtime.worker_thread import run_to_completion
from edge.upstreams import Response
from edge.upstreams.bodies import read_all
from middlewares.asgi import Receive, Send

from .answer_memory import LARGE, HeldAnswer
from .attempt import UpstreamAttempt
from .response_form import event_stream
from .stream import release_request
from .transcription import MissingDetails, TranscriptTranslator
from .watchdog import Watchdog


class TranscriptAttempt(UpstreamAttempt):
    """One attempt at a transcription or translation of audio."""

    __slots__ = ()

    async def _events(self, response: Response) -> Response:
        limit = self._limits.max_answer
        return await event_stream(response, self._translator.dialect, limit, stream_of_transcript)

    async def _run_unstreamed(
        self, opening: Awaitable[Response], receive: Receive, send: Send
    ) -> None:
        exchange, translator = self._exchange, self._translator
        assert isinstance(translator, TranscriptTranslator)
        held = HeldAnswer()
        try:
            body = await self._read_transcript(translator, opening, receive, held)
            release_request(exchange)
            exchange.first_content = perf_counter()
            if exchange.outcome == "hung_up":
                return
            exchange.outcome = "completed"
            headers = [
                (b"content-type", translator.content_type),
                (b"content-length", b"%d" % len(body)),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            held.close()

    async def _read_transcript(
        self,
        translator: TranscriptTranslator,
        opening: Awaitable[Response],
        receive: Receive,
        held: HeldAnswer,
    ) -> bytes:
        """The client's body. A disconnect meanwhile sets the outcome."""
        exchange = self._exchange
        async with Watchdog(
            receive, drain=self._drain_seconds(), on_disconnect=self._on_disconnect
        ):
            response = await opening
            try:
                body = await read_all(response, self._limits.max_answer, held.grow)
            finally:
                response.close()
            exchange.upstream_seconds = perf_counter() - exchange.attempts[0].started
            step = partial(translator.finish_body, body)
            try:
                made = step() if len(body) < LARGE else await run_to_completion(step)
            except MissingDetails as missing:
                exchange.usage = missing.usage
                raise missing.problem from None
            body, exchange.usage, exchange.usage_reported = made
            exchange.output_estimate = exchange.usage.output
            return body
