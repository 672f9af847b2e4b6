"""The values that set-up text is made from, for a visitor."""

from collections.abc import Mapping, Sequence

from edge.config.load import Settings
from edge.dashboard.snippets.setup import Offered, Setup, key_variable
from edge.routing.catalog import Model
from edge.routing.public_url import public_url
from middlewares.exchange import Principal

from .request import DashboardRequest

_CHAT = "/chat/completions"
_MOST = 100
"""Models in a client's list, beside the chosen ones."""


async def models_of(request: DashboardRequest) -> list[Model]:
    """The models that write text and that the key may use; without a key, those that anyone may
    use."""
    principal = Principal(id="")
    if request.signed_in and (request.visitor.key is not None or request.query.get("key")):
        principal = await request.principal(await request.key())
    return [model for model in request.parts.catalog.visible(principal) if "text" in model.output]


def chosen_models(models: Sequence[Model], names: Mapping[str, str]) -> dict[str, Model]:
    """The model for each field of `Setup`: as named, else the first, the dearest, the cheapest.

    models: at least one.
    """
    ordered = sorted(models, key=_output_price)
    standard = {"model": models[0], "large": ordered[-1], "small": ordered[0]}
    by_id = {model.id: model for model in models}
    return {field: by_id.get(names.get(field, ""), model) for field, model in standard.items()}


def _output_price(model: Model) -> int:
    return 0 if model.price is None else model.price.output


def setup_of(
    request: DashboardRequest, models: Sequence[Model], names: Mapping[str, str] = {}
) -> Setup:
    """The gateway and the chosen models. The key itself is not known here, only that there is one.

    names: as in `chosen_models`.
    """
    settings = request.parts.settings
    server = settings.server
    needs_key = settings.auth.mode == "keys"
    chosen = chosen_models(models, names) if models else {}
    none = Offered("MODEL")
    offers = {field: offered(model) for field, model in chosen.items()}
    return Setup(
        brand=settings.brand,
        slug=settings.slug,
        url=public_url(request.scope, server.public_url, server.trusted_proxies),
        key=f"sk-{settings.slug}-live-..." if needs_key else "unused",
        variable=key_variable(settings.slug),
        needs_key=needs_key,
        openai_prefix=_openai_prefix(settings),
        large=offers.get("large", none),
        model=offers.get("model", none),
        small=offers.get("small", none),
        models=tuple(map(offered, models[:_MOST])),
    )


def _openai_prefix(settings: Settings) -> str:
    """Prefix of the path at which Chat Completions speaks OpenAI's dialect: routes may give the
    usual one to another dialect."""
    dialects = {route.path: route.dialect for route in settings.routes}
    if dialects.get(f"/v1{_CHAT}", "openai") in ("openai", "auto"):
        return "/v1"
    others = [path for path, dialect in dialects.items() if path.endswith(_CHAT)]
    speaking = [path for path in others if dialects[path] in ("openai", "auto")]
    return speaking[0].removesuffix(_CHAT) if speaking else "/v1"


def offered(model: Model) -> Offered:
    """A model of the catalog as clients list it."""
    return Offered(
        id=model.id,
        name=model.display_name,
        context=model.context,
        max_output=model.max_output,
        images="image" in model.modalities,
    )
