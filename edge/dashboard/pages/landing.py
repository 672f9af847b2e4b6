"""The page at /: what this gateway offers, for anyone.

All of it is derived from the configuration: endpoints and their dialects, models, prices, whether
a key is needed. Texts and links of `[landing]` are added as they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from starlette.responses import Response

from edge.config.load import Settings
from edge.dashboard.page import ANYONE, Page
from edge.dashboard.plan_card import PlanCard, plan_card, rate_text
from edge.dashboard.price_list import PriceList, price_list
from edge.dashboard.request import DashboardRequest
from edge.dashboard.setup_values import converses, media_models, setup_of
from edge.dashboard.sign_in_ways import has_dashboard
from edge.dashboard.snippets import curl
from edge.dashboard.snippets.guides import key_block
from edge.dashboard.snippets.media import media_blocks
from edge.dashboard.snippets.setup import Block, Setup
from edge.endpoints import BY_NAME, CONVERSATIONS
from edge.routing.catalog import Model
from edge.routing.served import ServedPath, served_paths
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Dialect, Principal
from middlewares.problem import Problem

_LONGEST_FILTER = 100
_MANY = 50
"""Models from which on the page is rendered in a thread."""
_FILTERED = 4
"""Models from which on the page has a filter."""
_NO_PLAN = "Models that need a special plan are not listed."
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_VENDORS: Mapping[Dialect, str] = {
    "openai": "OpenAI",
    "responses": "OpenAI",
    "anthropic": "Anthropic",
}


async def landing(request: DashboardRequest) -> Response:
    """Prices, and how to call the models. It has nothing that a stranger may not see."""
    models = request.parts.catalog.visible(Principal(id=""))
    wanted = _filter(request)
    shown = [model for model in models if _matches(model, wanted)]
    if len(shown) < _MANY:
        return _render(request, models, shown, wanted)
    return await run_in_thread(partial(_render, request, models, shown, wanted))


def _render(
    request: DashboardRequest, models: Sequence[Model], shown: Sequence[Model], wanted: str
) -> Response:
    settings = request.parts.settings
    own, served = settings.landing, served_paths(settings)
    writers = [model for model in models if converses(model)]
    setup = setup_of(request, writers)
    prices = price_list(shown, own.currency)
    return request.render(
        "landing.html",
        own=own,
        lead=_lead(served, needs_key=setup.needs_key),
        setup=setup,
        models=models,
        models_title="Models and prices" if any(model.price for model in models) else "Models",
        caption=_caption(prices, own.currency),
        prices=prices,
        wanted=wanted,
        filtered=bool(wanted) or len(models) >= _FILTERED,
        media=_described(settings),
        plans=list(_plans(settings)),
        key_block=key_block(setup) if setup.needs_key else None,
        address_rate=_address_rate(settings),
        requests=[
            *(_conversations(setup, served) if writers else ()),
            *media_blocks(setup, media_models(models)),
        ],
        endpoints=[(one, _about(one, needs_key=setup.needs_key)) for one in served],
        dashboard=has_dashboard(request.parts, request.scope),
    )


def _filter(request: DashboardRequest) -> str:
    """What the visitor searches for; nothing if the query cannot be read."""
    try:
        return request.query.get("q", "").strip()[:_LONGEST_FILTER]
    except Problem:
        return ""


def _matches(model: Model, wanted: str) -> bool:
    names = (model.id, *model.aliases, model.display_name)
    return any(wanted.lower() in name.lower() for name in names)


def _lead(served: Sequence[ServedPath], *, needs_key: bool) -> str:
    """Whose clients can be used, by the dialects of the paths."""
    vendors = dict.fromkeys(_VENDORS[dialect] for one in served for dialect in one.dialects)
    whose = " and ".join(vendors) or "HTTP"
    return f"For {whose} clients: set the base URL{' and your key' if needs_key else ''}."


def _caption(prices: PriceList, currency: str) -> str:
    """What is said of the table of models."""
    if not prices.price_columns:
        return "Context in tokens."
    per = ", those of tokens per million" if prices.prices else ""
    calls = f"A call of a hosted tool costs {prices.hosted_call}. " if prices.hosted_call else ""
    return f"Prices are in {currency or 'credits'}{per}. {calls}{_NO_PLAN}"


def _described(settings: Settings) -> str:
    """The kinds of media that become text, such as "Images and audio"."""
    kinds = [("image", "images"), ("audio", "audio"), ("video", "video")]
    found = [name for setting, name in kinds if getattr(settings.media, setting)]
    *first, last = found or [""]
    return (f"{', '.join(first)} and {last}" if first else last).capitalize()


def _plans(settings: Settings) -> Iterator[PlanCard]:
    plans = {plan.id: plan for plan in settings.plans}
    return (plan_card(plans[name], settings.landing.currency) for name in settings.landing.plans)


def _address_rate(settings: Settings) -> str:
    """What each client address may send where no key is needed."""
    if settings.auth.mode == "keys":
        return ""
    plan = next((one for one in settings.plans if one.id == settings.auth.default_plan), None)
    if plan is not None and plan.requests is not None:
        return rate_text(plan.requests, "requests", plan.burst)
    limits = settings.limits
    return rate_text(limits.address, "requests", limits.address_burst)


def _conversations(setup: Setup, served: Sequence[ServedPath]) -> Iterator[Block]:
    """A request in each dialect, and one at each usual path that speaks another dialect."""
    yield from curl.guide(setup).blocks
    usual = {row.path: row for row in CONVERSATIONS.values()}
    for one in served:
        own = usual.get(one.path)
        if own is not None and own.dialect != one.dialects[0]:
            name = CONVERSATIONS[one.dialects[0]].name
            title, write = curl.DIALECTS[name]
            text = write(setup, curl.greeting(setup, name), one.path)
            yield Block(f"{title} at {one.path}", "sh", text)


def _about(one: ServedPath, *, needs_key: bool) -> str:
    """What an endpoint does, without links to pages of the documentation."""
    if len(one.dialects) < 2:
        text = _LINK.sub(r"\1", one.row.documented)
        if BY_NAME[one.row.name].dialect is None:
            text = _in_its_shape(text, one)
        if not needs_key:
            text = text.replace("this key may use", "on offer")
        return text[:1].upper() + text[1:]
    titles = [curl.DIALECTS[CONVERSATIONS[dialect].name][0] for dialect in one.dialects]
    said = " or ".join(titles)
    return f"{said}, by the shape of each request; {titles[0]} where that does not decide"


def _in_its_shape(text: str, one: ServedPath) -> str:
    """The text on an endpoint of every dialect, at a path that has a dialect or prefers one."""
    what = text.partition(";")[0]
    if one.dialects:
        return f"{what}; in {_VENDORS[one.dialects[0]]}'s shape"
    if one.row.rules is None or "shape" not in text:
        return text
    return f"{what}; in the shape of the client, {_VENDORS[one.row.rules.prefer]}'s if unknown"


PAGES = (Page("/", ("GET",), ANYONE, landing),)
