"""The values that set-up text is made from, for a visitor."""

from collections.abc import Callable, Mapping, Sequence

from edge.dashboard.snippets.setup import Offered, Setup, key_variable
from edge.routing.catalog import Model
from edge.routing.public_url import public_url
from edge.routing.served import by_shape, client_paths, served_paths
from middlewares.exchange import Principal

from .request import DashboardRequest

_MOST = 100
"""Models in a client's list, beside the chosen ones."""


async def models_of(request: DashboardRequest) -> list[Model]:
    """The models that write text and that the key may use; without a key, those that anyone may
    use."""
    principal = Principal(id="")
    if request.signed_in and (request.visitor.key is not None or request.query.get("key")):
        principal = await request.principal(await request.key())
    return [model for model in request.parts.catalog.visible(principal) if converses(model)]


def converses(model: Model) -> bool:
    """Whether a model answers a text with a text; those that only hear and write do not."""
    return "text" in model.modalities and "text" in model.output


def media_models(models: Sequence[Model]) -> Mapping[str, Offered]:
    """The first model for each endpoint that is no conversation, by the name of the endpoint."""
    fitting: Mapping[str, Callable[[Model], bool]] = {
        "embeddings": lambda model: model.embedder is not None or "embedding" in model.output,
        "images.generations": lambda model: "image" in model.output,
        "audio.speech": lambda model: "audio" in model.output and not _paid_by_length(model),
        "audio.transcriptions": _only_hears,
        "videos.generations": lambda model: "video" in model.output,
        "music.generations": lambda model: "audio" in model.output and _paid_by_length(model),
    }
    found = {name: next(filter(fits, models), None) for name, fits in fitting.items()}
    return {name: offered(model) for name, model in found.items() if model is not None}


def _only_hears(model: Model) -> bool:
    return "audio" in model.modalities and "text" not in model.modalities


def _paid_by_length(model: Model) -> bool:
    """Whether a model makes jobs, as those of music do; the others that make audio speak."""
    price = None if model.voices else model.price
    return price is not None and (price.second is not None or price.job is not None)


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
    served = served_paths(settings)
    paths = client_paths(served)
    offers = {field: offered(model) for field, model in chosen.items()}
    return Setup(
        brand=settings.brand,
        slug=settings.slug,
        url=public_url(request.scope, server.public_url, server.trusted_proxies),
        key=f"{settings.key_prefixes.live}..." if needs_key else "unused",
        variable=key_variable(settings.slug),
        needs_key=needs_key,
        paths=paths,
        by_shape=by_shape(served, paths),
        large=offers.get("large", none),
        model=offers.get("model", none),
        small=offers.get("small", none),
        models=tuple(map(offered, models[:_MOST])),
    )


def offered(model: Model) -> Offered:
    """A model of the catalog as clients list it."""
    return Offered(
        id=model.id,
        name=model.display_name,
        context=model.context,
        max_output=model.max_output,
        images="image" in model.modalities,
        voices=model.voices,
    )
