"""GET /v1/models and /v1/models/{id}: the models that the key may use; and of those that speak,
GET /v1/audio/models and /v1/audio/voices.

Each object and its envelope carry the members of both vendors, so that either SDK reads them
(field sources: OpenAI API reference, "List models"; Anthropic API reference, "List Models").
Prices are decimal strings in credits: per million tokens, and for each call of a hosted tool,
image, minute of audio, character, second of video or music, and job.
"""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import orjson

from edge.routing.catalog import Catalog, Model
from edge.routing.paths import plain_path
from edge.routing.unknown_model import not_found
from middlewares.asgi import Receive, Scope, Send, send_json
from middlewares.exchange import Exchange, Principal
from middlewares.problem import Problem, invalid_value

_PRICES = (
    *("input", "output", "cache_read", "cache_write", "cache_write_1h", "hosted_call"),
    *("image", "audio_minute", "character", "second", "job"),
)
_AUDIO = ("audio.voices", "audio.models")
_DEFAULT_PAGE = 20
_LONGEST_PAGE = 1000


class ModelsApp:
    """Answers /v1/models from the catalog."""

    def __init__(self, catalog: Catalog, brand: str) -> None:
        self._catalog = catalog
        self._brand = brand
        self._written: dict[int, tuple[Model, orjson.Fragment]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        principal = exchange.principal or Principal(id="")
        below = plain_path(scope["path"]).partition("/models/")[2]
        content: Any
        if exchange.endpoint in _AUDIO:
            content = self._audio(exchange.endpoint, self._catalog.visible(principal))
        elif below:
            content = self._one(below, principal, exchange)
        else:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            content = self._page(self._catalog.visible(principal), query, exchange)
        exchange.outcome = "completed"
        body = orjson.dumps(content)
        await send_json(scope, send, body)

    def _audio(self, endpoint: str, models: list[Model]) -> dict[str, Any]:
        """Speech models, or their voices, as chat UIs ask speech servers for them."""
        models = [model for model in models if model.voices or "audio" in model.output]
        if endpoint == "audio.models":
            return {"models": [{"id": model.id} for model in models]}
        voices = dict.fromkeys(voice for model in models for voice in model.voices)
        return {"voices": [{"id": voice, "name": voice} for voice in voices]}

    def _one(self, name: str, principal: Principal, exchange: Exchange) -> dict[str, Any]:
        model = self._catalog.find(name)
        if model is None or model.internal or not self._catalog.allows(principal, model):
            said = not_found(self._catalog, principal, name[:200], exchange.dialect)
            raise Problem("model_not_found", message=said, param="model")
        return self._describe(model)

    def _page(
        self, models: list[Model], query: dict[str, list[str]], exchange: Exchange
    ) -> dict[str, Any]:
        """All models for OpenAI callers, whose API has no pages; a page for Anthropic callers."""
        more = False
        if exchange.dialect == "anthropic":
            ids = [model.id for model in models]
            if (after := _cursor(query, "after_id", ids)) is not None:
                models = models[after + 1 :]
            elif (before := _cursor(query, "before_id", ids)) is not None:
                models = models[:before]
            limit = _limit(query)
            more = len(models) > limit
            backwards = "before_id" in query and "after_id" not in query
            models = models[-limit:] if backwards else models[:limit]
        return {
            "object": "list",
            "data": [self._listed(model) for model in models],
            "first_id": models[0].id if models else None,
            "last_id": models[-1].id if models else None,
            "has_more": more,
        }

    def _listed(self, model: Model) -> orjson.Fragment:
        """`_describe` as JSON, written once for each model of the catalog."""
        found = self._written.get(id(model))
        if found is None:
            # The model is kept with it, so that no other gets its id.
            written = orjson.Fragment(orjson.dumps(self._describe(model)))
            found = self._written[id(model)] = model, written
        return found[1]

    def _describe(self, model: Model) -> dict[str, Any]:
        created = datetime.fromtimestamp(model.created, UTC)
        about: dict[str, Any] = {
            "id": model.id,
            "object": "model",
            "type": "model",
            "created": model.created,
            "created_at": created.isoformat().replace("+00:00", "Z"),
            "owned_by": self._brand,
            "display_name": model.display_name,
            "lifecycle": "active",
            "aliases": list(model.aliases),
            "modalities": {"input": list(model.modalities), "output": list(model.output)},
        }
        if model.context is not None:
            about["context_window"] = about["max_input_tokens"] = model.context
        if model.max_output is not None:
            about["max_tokens"] = model.max_output
        if model.price is not None:
            about["price"] = {
                name: str(value)
                for name in _PRICES
                if (value := getattr(model.price, name)) is not None
            }
        return about


def _cursor(query: dict[str, list[str]], name: str, ids: list[str]) -> int | None:
    if name not in query:
        return None
    try:
        return ids.index(query[name][0])
    except ValueError:
        raise invalid_value(name, "expected the id of a model") from None


def _limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(_DEFAULT_PAGE)])[0]
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= _LONGEST_PAGE:
        raise invalid_value("limit", f"expected 1 to {_LONGEST_PAGE}")
    return int(text)
