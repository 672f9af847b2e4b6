"""Translators of images and speech, whose endpoints only OpenAI's dialect has: bodies pass, with
the target's model and the parameters that the gateway needs."""

from msgspec import Raw

from edge.billing.media_tokens import LARGEST_IMAGE
from edge.billing.media_units import settled, speech_tokens, units_of_speech
from edge.dialects import openai_images, openai_speech
from edge.dialects.codec import Spelled, TargetModel
from edge.dialects.openai_images import ImageAnswer
from edge.dialects.passthrough import KEEP_ALIVE, Fields, Relay, encode
from edge.dialects.token_counts import plausible_usage
from edge.dialects.typed_events import TypedEventRelay
from edge.media.forms import Form, FormBody, Part, form_fields, plain_name
from edge.requests.image_request import image_request_of
from edge.requests.speech_request import speech_of
from edge.upstreams import RequestBody
from middlewares.exchange import Dialect, Exchange, Usage
from middlewares.pricing import Price

from .edit_body import EditBody, nested
from .form_settings import with_fields

_FORMAT = "response_format"
_BASE64 = Raw(b'"b64_json"')
_OURS = ("models",)
"""Fields of a form that the gateway reads, and upstreams do not know."""


class _MediaPassthrough:
    """What both have in common. See `edge.proxy.translate.Translator`."""

    def __init__(
        self,
        exchange: Exchange,
        target_model: TargetModel,
        price: Price | None,
        output: int,
        *,
        disclose: bool,
        fields: Fields,
    ) -> None:
        row = exchange.row
        self.dialect: Dialect = exchange.dialect
        self.path: bytes = row.upstream_path
        self.ping = KEEP_ALIVE
        self.dropped: list[str] = []
        self.spelled: Spelled | None = None
        self._exchange = exchange
        self._disclose = disclose
        self._price = price
        self._context = target_model.context
        self._output = output
        self._model = target_model.model
        self._given = 0
        """Images of the request."""
        self._fields = {**fields, "model": Raw(encode(target_model.model))}

    def take_body(self) -> bytes:
        """The caller's members, with the target's model."""
        fields, self._fields = self._fields, {}
        return encode(fields)

    def _settled(self, reported: Usage | None, units: Usage, parts: int) -> tuple[Usage, bool]:
        if reported is not None:
            reported = plausible_usage(reported, self._context, parts)
        return settled(
            self._price,
            reported,
            units,
            input_tokens=self._exchange.estimate + self._given * LARGEST_IMAGE,
            output=min(self._output, self._exchange.max_output),
        )


class ImagesPassthrough(_MediaPassthrough):
    """Images, and edits of them. links: whether the caller wants links instead of base64."""

    def __init__(
        self,
        exchange: Exchange,
        target_model: TargetModel,
        price: Price | None,
        *,
        disclose: bool = False,
        vendor_links: bool = False,
        json_edits: bool = False,
    ) -> None:
        """vendor_links: whether links of the vendor are passed to callers who want links.
        json_edits: whether the upstream takes edits as JSON."""
        asked = image_request_of(exchange.fields)
        self.links = asked.links
        self._count = asked.count
        form = exchange.form
        self._form = form if isinstance(form, Form) else None
        self._json = json_edits
        self._passes_form = asked.links and vendor_links
        fields = dict(exchange.fields)
        if self._form is not None:
            fields = nested(fields)
            if not self._passes_form:
                fields.pop(_FORMAT, None)
        elif not exchange.stream and not self._passes_form:
            # Some servers answer links unless they are asked for base64. Where the member is
            # refused, it is dropped (`edge.proxy.corrections`), or a setting says so.
            fields[_FORMAT] = _BASE64
        super().__init__(
            exchange, target_model, price, asked.output, disclose=disclose, fields=fields
        )
        if self._form is not None:
            self._given = len(self._form.files())

    def take_form(self) -> FormBody | None:
        """See `FormTranslator`. The form of an edit has no `response_format`: a refusal of it could
        not be corrected, and an upstream that answers links has its images fetched."""
        form = self._form
        if form is None or self._json:
            return None
        if not any(form.fields()):  # it was JSON
            fields = {name: raw for name, raw in self._fields.items() if name != "model"}
            parts: list[Part] = [*form_fields(fields), *form.parts]
        else:
            left_out = _OURS if self._passes_form else (*_OURS, _FORMAT)
            parts = [part for part in form.parts if plain_name(part.name) not in left_out]
        self._fields = {}
        return FormBody(with_fields(parts, {"model": self._model}))

    def with_files(self, body: bytes) -> RequestBody:
        """See `FilesTranslator`."""
        assert self._form is not None
        return EditBody(body, self._form.files())

    def relay(self) -> Relay:
        """See `Translator.relay`."""
        return openai_images.relay(self._exchange.model, self._count, disclose=self._disclose)

    def read(self, body: bytes) -> tuple[ImageAnswer, Usage, bool]:
        """The answer, its usage, and whether all of that was counted. Raises UpstreamError."""
        answer = openai_images.read_answer(body, self._exchange.model, disclose=self._disclose)
        count = len(answer.images)
        return answer, *self._settled(answer.usage, Usage(images=count), count)

    def finish_body(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """See `Translator.finish_body`."""
        answer, usage, measured = self.read(body)
        return answer.encode(), usage, measured

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """A stream that broke is charged for the images that came, and for one that had begun."""
        assert isinstance(relay, TypedEventRelay)
        if relay.complete:
            return self._settled(relay.usage, Usage(images=relay.ended), relay.ended)
        if not relay.content:
            return None, False
        usage, _ = self._settled(None, Usage(images=relay.ended + 1), relay.ended + 1)
        return usage, False


class SpeechPassthrough(_MediaPassthrough):
    """Speech."""

    def __init__(
        self,
        exchange: Exchange,
        target_model: TargetModel,
        price: Price | None,
        *,
        disclose: bool = False,
    ) -> None:
        speech = speech_of(exchange.fields)
        self.format = speech.format
        self._units = units_of_speech(speech, price)
        super().__init__(
            exchange,
            target_model,
            price,
            speech_tokens(speech),
            disclose=disclose,
            fields=exchange.fields,
        )

    def relay(self) -> Relay:
        """See `Translator.relay`."""
        return openai_speech.relay(self._exchange.model, disclose=self._disclose)

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """The same for a stream that broke: the vendor made the rest too."""
        assert isinstance(relay, TypedEventRelay)
        if not (relay.complete or relay.content):
            return None, False
        return self._settled(relay.usage if relay.complete else None, self._units, 1)

    def measured(self) -> tuple[Usage, bool]:
        """The usage of an answer of bytes, which is known before it begins."""
        return self._settled(None, self._units, 1)

    def finish_body(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """Such answers pass as they come."""
        raise NotImplementedError("speech is not read whole")


def media_passthrough(
    exchange: Exchange,
    target_model: TargetModel,
    *,
    price: Price | None,
    disclose: bool,
    vendor_links: bool,
    json_edits: bool,
) -> ImagesPassthrough | SpeechPassthrough:
    """The translator for the endpoint of `exchange`. Raises Problem for a request that cannot be
    counted."""
    if exchange.row.codec == "speech":
        return SpeechPassthrough(exchange, target_model, price, disclose=disclose)
    return ImagesPassthrough(
        exchange,
        target_model,
        price,
        disclose=disclose,
        vendor_links=vendor_links,
        json_edits=json_edits,
    )
