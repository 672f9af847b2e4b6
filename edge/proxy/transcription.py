"""The translator of transcriptions: the target is asked for the richest form of an answer, and the
form that was requested is made of what comes."""

from edge.billing.media_units import (
    estimated_tokens,
    has_tokens,
    most_audio,
    settled,
    transcript_tokens,
)
from edge.dialects.codec import Spelled, TargetModel
from edge.dialects.openai_transcription import (
    Measured,
    TranscriptRelay,
    content_type,
    encoded,
    read_transcript,
)
from edge.dialects.passthrough import KEEP_ALIVE, Relay
from edge.dialects.token_counts import output_tokens, plausible_usage
from edge.media.forms import Form, FormBody, FormField, Part, plain_name
from edge.requests.transcript_request import transcript_request_of
from middlewares.exchange import Dialect, Exchange, Usage
from middlewares.pricing import Price
from middlewares.problem import Problem, expected

from .form_settings import with_fields

_TRANSLATIONS = "audio.translations"
_FORMAT, _DETAILS = "response_format", "timestamp_granularities"


class MissingDetails(Exception):
    """An answer lacks what only its upstream knows. usage: of the answer, which was made."""

    def __init__(self, problem: Problem, usage: Usage) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.usage = usage


class TranscriptTranslator:
    """Translates one attempt. See `edge.proxy.translate.FormTranslator`.

    price: of the model. disclose: whether the answer may name its vendor. Raises Problem for an
    answer that the target is known not to have.
    """

    def __init__(
        self,
        exchange: Exchange,
        target_model: TargetModel,
        price: Price | None,
        *,
        disclose: bool = False,
    ) -> None:
        row = exchange.row
        translated = row.name == _TRANSLATIONS
        asked = transcript_request_of(
            exchange.fields, stream=exchange.stream, translated=translated
        )
        if _FORMAT in target_model.drop_params:
            if asked.words:
                raise _no_words()
            if asked.speakers:
                raise _no_speakers()
        self.dialect: Dialect = exchange.dialect
        self.path: bytes = row.upstream_path
        self.ping = KEEP_ALIVE
        self.dropped: list[str] = []
        self.spelled: Spelled | None = None
        self.content_type = content_type(asked.format)
        """Of an unstreamed answer."""
        self._asked = asked
        self._task = "translate" if translated else "transcribe"
        self._exchange = exchange
        self._disclose = disclose
        self._price = price
        self._context = target_model.context
        self._model = target_model.model

    def take_form(self) -> FormBody:
        """The caller's fields and file, with the target's model and form of an answer."""
        exchange, asked = self._exchange, self._asked
        form = exchange.form
        assert isinstance(form, Form)
        wanted = asked.upstream_format
        if not asked.speakers and (exchange.stream or self._needs_only_json):
            wanted = "json"
        left_out = {"models"}
        if not exchange.stream:
            left_out.add("stream")
        if asked.format != "verbose_json" or wanted != "verbose_json":
            left_out.add(_DETAILS)
        kept: list[Part] = [
            part
            for part in form.parts
            if not (isinstance(part, FormField) and plain_name(part.name) in left_out)
        ]
        return FormBody(with_fields(kept, {"model": self._model, _FORMAT: wanted}))

    @property
    def _needs_only_json(self) -> bool:
        """Whether the form `json` is enough: it has the tokens where they are priced, and
        `verbose_json` often only seconds."""
        return self._asked.format in ("json", "text") and has_tokens(self._price)

    def take_body(self) -> bytes:
        """Audio is sent as a form."""
        raise NotImplementedError("audio is sent as a form")

    def relay(self) -> Relay:
        """See `Translator.relay`."""
        return TranscriptRelay(self._exchange.model, disclose=self._disclose)

    def finish_body(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The form of the answer that was requested. Raises UpstreamError, and MissingDetails
        for words or speakers that did not come."""
        exchange, asked = self._exchange, self._asked
        transcript = read_transcript(body, exchange.model, disclose=self._disclose)
        usage, measured = self._settled(transcript.measured, transcript.text_size)
        if asked.words and "words" not in transcript.fields:
            raise MissingDetails(_no_words(), usage)
        if asked.speakers and "segments" not in transcript.fields:
            raise MissingDetails(_no_speakers(), usage)
        made = encoded(
            transcript,
            asked.format,
            task=self._task,
            seconds=exchange.audio_ms / 1000,
            language=asked.language,
        )
        return made, usage, measured

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """A stream that broke after its first words is charged by its audio, all of which was
        heard, and the words that came."""
        assert isinstance(relay, TranscriptRelay)
        if relay.complete:
            return self._settled(relay.measured, relay.text_size)
        if not relay.content:
            return None, False
        return self._settled(Measured(), relay.text_size)[0], False

    def _settled(self, measured: Measured, text_size: int) -> tuple[Usage, bool]:
        exchange = self._exchange
        audio_ms, most = exchange.audio_ms, most_audio(exchange.audio_ms)
        if measured.milliseconds is not None:
            audio_ms = min(measured.milliseconds, most)
        tokens = measured.tokens
        if tokens is not None:
            tokens = plausible_usage(tokens, self._context)
        return settled(
            self._price,
            tokens,
            Usage(audio_ms=audio_ms),
            input_tokens=self._asked.text_tokens + estimated_tokens(audio_ms),
            output=min(
                output_tokens(text_size),
                transcript_tokens(exchange.audio_ms),
                exchange.max_output,
            ),
        )


def _no_words() -> Problem:
    return expected(_DETAILS, "only `segment`: this model gives no times of words")


def _no_speakers() -> Problem:
    return expected(_FORMAT, "another form: this model does not distinguish speakers")
