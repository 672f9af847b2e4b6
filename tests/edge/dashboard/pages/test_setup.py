"""The set-up page: choosers, and guides with what was chosen."""

import html
import re
from typing import Any

import pytest

from edge.dashboard.setup_values import chosen_models
from edge.routing.catalog import Catalog
from middlewares.exchange import Principal
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import Site

MODELS: list[dict[str, Any]] = [
    {"id": "middle", "price": {"output": "5"}},
    {"id": "dear", "price": {"output": "50"}, "context": 300_000},
    {"id": "cheap", "price": {"output": "1"}},
    {"id": "golden", "plans": ["gold"], "price": {"output": "20"}},
    {"id": "silver", "plans": ["silver"]},
    {"id": "painter", "output_modalities": ["image"]},
]


def document() -> dict[str, Any]:
    models = [{"targets": ["sim/far-model"], **model} for model in MODELS]
    silver = {"id": "silver"}
    gold = {"id": "gold"}
    return {"models": models, "plans": [gold, silver]}


def text(page: str) -> str:
    return html.unescape(page)


def selected(page: str, name: str) -> str:
    _, _, rest = page.partition(f'<select id="{name}"')
    (found,) = re.findall(r'value="([^"]+)" selected', rest.partition("</select>")[0])
    return str(found)


async def test_standard_choice_is_the_first_the_dearest_and_the_cheapest(
    open_site: OpenSite,
) -> None:
    site = await open_site(**document())
    page = (await (await site.signed_in()).get("/app/setup")).text
    assert [selected(page, name) for name in ("model", "large", "small")] == [
        *("middle", "dear", "cheap"),
    ]
    shown = text(page)
    assert "export ANTHROPIC_DEFAULT_OPUS_MODEL=dear\n" in shown
    assert "export ANTHROPIC_DEFAULT_SONNET_MODEL=middle\n" in shown
    assert "export ANTHROPIC_DEFAULT_HAIKU_MODEL=cheap\n" in shown


async def test_chosen_models_stand_in_every_guide(open_site: OpenSite) -> None:
    site = await open_site(**document())
    browser = await site.signed_in()
    page = text((await browser.get("/app/setup?model=golden&large=cheap&small=middle")).text)
    assert 'model = "golden"' in page
    assert '"primary": "acme/golden"' in page
    assert '"small_model": "acme/middle"' in page
    assert "export ANTHROPIC_DEFAULT_OPUS_MODEL=cheap\n" in page


async def test_only_models_that_the_key_may_use_are_offered(open_site: OpenSite) -> None:
    site = await open_site(**document())
    page = text((await (await site.signed_in()).get("/app/setup?model=silver&large=painter")).text)
    assert "golden" in page
    for name in ("silver", "painter", "far-model"):
        assert f'"{name}"' not in page


async def test_address_is_the_public_one_and_the_key_a_placeholder(open_site: OpenSite) -> None:
    site = await open_site(server={"public_url": "https://llm.example.com"})
    page = text((await (await site.signed_in(host="llm.example.com")).get("/app/setup")).text)
    assert "export ANTHROPIC_BASE_URL=https://llm.example.com\n" in page
    assert "export ACME_API_KEY=sk-acme-live-...\n" in page
    assert site.secret not in page


async def test_key_without_models_is_said(open_site: OpenSite) -> None:
    site = await open_site(
        models=[{"id": "painter", "output_modalities": ["image"], "targets": ["sim/x"]}]
    )
    page = await (await site.signed_in()).get("/app/setup")
    assert page.status == 200
    assert "This key may use no model that writes text." in page.text


async def test_names_of_models_are_escaped(open_site: OpenSite) -> None:
    name = "it's<b>&$HOME</b>"
    site = await open_site(models=[{"id": name, "targets": ["sim/x"]}])
    page = await (await site.signed_in()).get("/app/setup")
    assert "<b>" not in page.text
    assert name in text(page.text)


def test_choice_of_models_without_prices_is_the_first(site: Site) -> None:
    models = Catalog.build(site.parts.settings).visible(Principal(id=""))
    assert {model.id for model in chosen_models(models, {}).values()} == {"m1"}


async def test_routes_decide_where_openai_clients_go(open_site: OpenSite) -> None:
    routes = [
        {"path": "/v1/chat/completions", "dialect": "anthropic"},
        {"path": "/claude/v1/chat/completions", "dialect": "anthropic"},
        {"path": "/openai/v1/chat/completions", "dialect": "openai"},
    ]
    site = await open_site(routes=routes)
    page = text((await (await site.signed_in()).get("/app/setup")).text)
    assert '"baseURL": "http://localhost:8080/openai/v1"' in page
    assert "curl -N http://localhost:8080/openai/v1/chat/completions " in page
    assert 'base_url = "http://localhost:8080/v1"' in page, "Codex, which speaks Responses"
    assert "export ANTHROPIC_BASE_URL=http://localhost:8080\n" in page


async def test_route_that_reads_the_dialect_keeps_the_usual_path(open_site: OpenSite) -> None:
    site = await open_site(routes=[{"path": "/v1/chat/completions", "dialect": "auto"}])
    page = text((await (await site.signed_in()).get("/app/setup")).text)
    assert '"baseURL": "http://localhost:8080/v1"' in page


@pytest.mark.parametrize(
    ("routes", "prefix"),
    [
        ([("/v1", {"prefer": "openai"})], "/v1"),
        ([("/v1", {"prefer": "anthropic"})], "/v1"),
        ([("/v1", {"prefer": "anthropic"}), ("/openai/v1", {"dialect": "openai"})], "/openai/v1"),
        ([("/v1", {"dialect": "anthropic"}), ("/any/v1", {"prefer": "anthropic"})], "/any/v1"),
        ([("/v1", {"dialect": "anthropic"}), ("/any/v1", {})], "/any/v1"),
        (
            [
                *(("/v1", {"dialect": "anthropic"}), ("/any/v1", {"prefer": "anthropic"})),
                ("/openai/v1", {"dialect": "openai"}),
            ],
            "/openai/v1",
        ),
    ],
)
async def test_prefix_of_openai_is_where_a_plain_request_is_one_of_openai(
    open_site: OpenSite, routes: list[tuple[str, dict[str, str]]], prefix: str
) -> None:
    given = [
        {"path": f"{start}/chat/completions", "dialect": "auto", **option}
        for start, option in routes
    ]
    site = await open_site(routes=given)
    page = text((await (await site.signed_in()).get("/app/setup")).text)
    assert f'"baseURL": "http://localhost:8080{prefix}"' in page


async def test_clients_of_endpoints_that_are_not_offered_have_no_guide(
    open_site: OpenSite,
) -> None:
    site = await open_site(endpoints=["chat.completions", "models"])
    page = (await (await site.signed_in()).get("/app/setup")).text
    assert 'id="opencode"' in page
    assert 'id="codex"' not in page and 'id="claude-code"' not in page
    assert "/v1/chat/completions" in page
    assert "/v1/messages" not in page and "/v1/responses" not in page


async def test_list_of_a_client_is_bounded(open_site: OpenSite) -> None:
    models = [{"id": f"m-{number}-", "targets": ["sim/x"]} for number in range(300)]
    site = await open_site(models=models)
    page = text((await (await site.signed_in()).get("/app/setup?model=m-299-")).text)
    listed = page.partition('id="opencode-1"')[2].partition("</pre>")[0]
    assert '"m-299-": {' in listed and '"m-0-": {' in listed
    assert listed.count('"name": "m-') == 101


async def test_stranger_sees_the_models_that_anyone_may_use(open_site: OpenSite) -> None:
    site = await open_site(**document())
    page = await site.browser().get("/app/setup")
    assert page.status == 200
    assert "middle" in page.text and "golden" not in page.text
    assert 'href="/app/sign-in"' in page.text and "Put your key in place of the dots." in page.text


async def test_gateway_without_keys_has_set_up_without_one(open_site: OpenSite) -> None:
    site = await open_site(auth={"mode": "none"}, **document())
    page = text((await site.browser().get("/app/setup")).text)
    assert "No key is needed." in page and "Sign in" not in page
    assert "export ANTHROPIC_AUTH_TOKEN=unused\n" in page
    assert 'api_key="unused"' in page and "Status line" not in page
    assert "export ACME_API_KEY=unused" in page.partition('id="codex"')[2]


@pytest.mark.parametrize(
    ("endpoints", "guides"),
    [
        (["chat.completions"], ["curl", "openai", "opencode", "openclaw"]),
        (["messages", "limits"], ["curl", "anthropic", "claude-code", "status-line"]),
        (["responses"], ["curl", "codex"]),
        (["embeddings"], []),
    ],
)
async def test_only_clients_of_the_offered_endpoints_are_shown(
    open_site: OpenSite, endpoints: list[str], guides: list[str]
) -> None:
    site = await open_site(endpoints=endpoints)
    page = (await site.browser().get("/app/setup")).text
    assert re.findall(r'<section class="card" id="([^"]+)"', page) == guides
    assert ("Anthropic clients" in page) is ("messages" in endpoints)


async def test_model_that_only_hears_is_not_offered(open_site: OpenSite) -> None:
    ears = {"id": "ears", "modalities": ["audio"], "targets": ["sim/x"]}
    site = await open_site(models=[*document()["models"], ears], plans=document()["plans"])
    assert "ears" not in (await site.browser().get("/app/setup")).text


async def test_nothing_to_sign_in_with_leads_to_the_set_up(open_site: OpenSite) -> None:
    site = await open_site(auth={"mode": "none"})
    browser = site.browser()
    assert (await browser.get("/app")).header("location") == "/app/sign-in"
    page = await browser.get("/app/sign-in")
    assert "so there is nothing to sign in with" in page.text
    assert 'href="/app/setup"' in page.text and "<form" not in page.text
