"""The page at /: prices, filter, requests, and what a stranger must not see."""

import html
import re
from typing import Any

import pytest

from edge.config.load import SettingsError, parse
from tests.asgi import Recorded
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import DOCUMENT

NONE = "\u2013"

MODELS: list[dict[str, Any]] = [
    {
        "id": "smart",
        "aliases": ["clever"],
        "display_name": "The smart one",
        "context": 200_000,
        "modalities": ["text", "image"],
        "price": {"input": "3.00", "output": "15.00", "cache_read": "0.30"},
    },
    {"id": "free"},
    {"id": "painter", "output_modalities": ["image"], "price": {"image": "0.04", "job": "0"}},
    {"id": "secret-model", "plans": ["gold"], "price": {"input": "9.99"}},
]


def document() -> dict[str, Any]:
    return {"models": [{"targets": ["sim/far-model"], **model} for model in MODELS]}


def rows(page: str) -> dict[str, list[str]]:
    """Cells of the price table by model."""
    _, _, table = page.partition('id="models"')
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", table.partition("</table>")[0], re.DOTALL)[1:]:
        cells = [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row.split("</t")]
        cells = [re.sub(r"^[hd]>\s*", "", cell) for cell in cells if cell.strip("hd> \n")]
        found[cells[0].split()[0]] = cells
    return found


async def test_prices_are_those_of_the_catalog(open_site: OpenSite) -> None:
    site = await open_site(**document())
    page = await site.browser().get("/")
    assert rows(page.text) == {
        "smart": [
            "smart The smart one also clever",
            "200K",
            "text, image",
            "text",
            *("3.00", "15.00", "0.30", "3.00"),
            NONE,
        ],
        "free": ["free", NONE, "text", "text", "no price"],
        "painter": [
            *("painter", NONE, "text", "image"),
            *(NONE, NONE, NONE, NONE),
            "0.04 per image 0.00 per job",
        ],
    }


async def test_model_of_a_plan_is_not_shown(open_site: OpenSite) -> None:
    site = await open_site(**document())
    page = await site.browser().get("/")
    assert "secret-model" not in rows(page.text)
    assert "9.99" not in page.text
    for secret in ("far-model", "simulator", "sim/"):
        assert secret not in page.text


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("CLEV", ["smart"]),
        ("the+smart", ["smart"]),
        ("pain", ["painter"]),
        ("secret-model", []),
        ("", ["smart", "free", "painter"]),
    ],
)
async def test_filter_without_a_script_finds_names(
    open_site: OpenSite, wanted: str, found: list[str]
) -> None:
    site = await open_site(**document())
    page = await site.browser().get(f"/?q={wanted}")
    assert list(rows(page.text)) == found


@pytest.mark.parametrize("query", ["q=%ff", "q=" + "x" * 5000, "&".join(["a=1"] * 200), "?"])
async def test_query_that_cannot_be_read_filters_nothing(open_site: OpenSite, query: str) -> None:
    site = await open_site(**document())
    assert (await site.browser().get(f"/?{query}")).status == 200


async def test_filter_is_escaped(open_site: OpenSite) -> None:
    site = await open_site(**document())
    page = await site.browser().get("/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in page.text
    assert "No model is named so." in page.text


async def test_requests_have_the_public_address_and_the_brand_in_their_variable(
    open_site: OpenSite,
) -> None:
    site = await open_site(server={"public_url": "https://llm.example.com"}, **document())
    page = await site.browser(host="evil.example").get("/")
    for path in ("chat/completions", "messages", "responses"):
        assert f"curl -N https://llm.example.com/v1/{path} " in page.text
    assert "export ACME_API_KEY=sk-acme-live-..." in page.text
    assert "evil.example" not in page.text
    assert "/v1/embeddings" in page.text and "/v1/links" not in page.text
    assert 'href="/app/sign-in"' in page.text


async def test_gateway_without_keys_shows_requests_without_one(open_site: OpenSite) -> None:
    site = await open_site(auth={"mode": "none"}, **document())
    page = await site.browser().get("/")
    assert "API_KEY" not in page.text
    assert "None of them needs a key." in page.text


async def test_gateway_without_keys_says_what_an_address_may_send(open_site: OpenSite) -> None:
    site = await open_site(auth={"mode": "none"}, **document())
    page = shown(await site.browser().get("/"))
    assert "No key is needed." in page
    assert "Each address may send 60 requests per minute, and 10 more at once." in page
    assert "Sign in" not in page and 'href="/app/setup"' in page
    planned = await open_site(auth={"mode": "none", "default_plan": "gold"})
    page = shown(await planned.browser().get("/"))
    assert "Each address may send 60 requests per minute, and 5 more at once." in page


def shown(page: Recorded) -> str:
    assert page.status == 200
    return html.unescape(page.text)


LANDING: dict[str, Any] = {
    "lead": "Tokens <b>& more</b>",
    "pricing": "Pay as you go. Credits never expire.",
    "currency": "$",
    "plans": ["gold"],
    "links": {"Docs <i>": "https://docs.example.com/a?b=c&d=e#f", "Help": "mailto:a@example.com"},
}


async def test_texts_and_links_of_the_operator_are_escaped(open_site: OpenSite) -> None:
    site = await open_site(landing=LANDING, **document())
    page = await site.browser().get("/")
    assert "Tokens &lt;b&gt;&amp; more&lt;/b&gt;" in page.text
    assert "Docs &lt;i&gt;" in page.text
    assert 'href="https://docs.example.com/a?b=c&amp;d=e#f"' in page.text
    assert 'href="mailto:a@example.com"' in page.text
    assert "Pay as you go. Credits never expire." in page.text
    assert "Prices are in $" in page.text
    assert rows(page.text)["smart"][4:] == ["$3.00", "$15.00", "$0.30", "$3.00", NONE]
    assert "$5.00 per 5h" in page.text and "60 requests per minute" in page.text


async def test_plans_are_shown_only_when_named(open_site: OpenSite) -> None:
    page = await (await open_site(**document())).browser().get("/")
    assert "gold" not in page.text


@pytest.mark.parametrize(
    ("landing", "fault"),
    [
        ({"plans": ["nope"]}, "landing.plans[0]: unknown plan nope; known: gold"),
        (
            {"links": {"x": "javascript:alert(1)"}},
            "landing.links.x: expected a URL of http or https",
        ),
        ({"links": {"x": "https://a.example/ b"}}, "landing.links.x: expected a URL"),
        ({"links": {" ": "https://a.example"}}, "landing.links. : expected a text of 1 to 40"),
        ({"links": {str(n): "https://a.example" for n in range(9)}}, "expected at most 8 links"),
        ({"lead": "a\nb"}, "landing.lead: expected printable text on one line"),
        ({"currency": "dollars"}, "landing.currency"),
    ],
)
async def test_landing_that_cannot_be_shown_is_refused(landing: Any, fault: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(DOCUMENT | {"landing": landing})
    assert fault in str(refused.value)


async def test_routes_decide_base_urls_and_requests(open_site: OpenSite) -> None:
    routes = [
        {"path": "/v1/chat/completions", "dialect": "anthropic"},
        {"path": "/openai/v1/chat/completions", "dialect": "openai"},
    ]
    site = await open_site(routes=routes)
    page = shown(await site.browser().get("/"))
    assert re.findall(r'id="base(?:-anthropic)?"[^>]*>([^<]*)<', page) == [
        *("http://localhost:8080/openai/v1", "http://localhost:8080"),
    ]
    found = dict(re.findall(r"<h3>([^<]*)</h3>.*?<pre[^>]*>(.*?)</pre>", page, re.DOTALL))
    assert "/openai/v1/chat/completions " in found["Chat Completions"]
    assert "/v1/messages " in found["Messages"]
    moved = found["Messages at /v1/chat/completions"]
    assert "http://localhost:8080/v1/chat/completions " in moved
    assert "max_tokens" in moved and "anthropic-version" in moved


async def test_only_what_is_offered_is_shown(open_site: OpenSite) -> None:
    site = await open_site(endpoints=["chat.completions", "models"], **document())
    page = shown(await site.browser().get("/"))
    assert "/v1/chat/completions" in page and "/v1/models/{id}" in page
    for absent in ("/v1/messages", "/v1/responses", "/v1/files", "/v1/images", "Anthropic clients"):
        assert absent not in page
    assert 'id="base-anthropic"' not in page


async def test_path_that_prefers_another_dialect_gets_a_sign_in_the_request(
    open_site: OpenSite,
) -> None:
    route = {"path": "/v1/chat/completions", "dialect": "auto", "prefer": "anthropic"}
    site = await open_site(routes=[route])
    page = shown(await site.browser().get("/"))
    assert '"stream_options": {"include_usage": true}' in page
    assert "Messages or Chat Completions, by the shape of each request; Messages where" in page
    assert "Messages at /v1/chat/completions" in page


async def test_path_with_a_fixed_dialect_says_its_shape(open_site: OpenSite) -> None:
    site = await open_site(routes=[{"path": "/openai/v1/models", "dialect": "openai"}])
    page = shown(await site.browser().get("/"))
    assert "The models this key may use; in OpenAI's shape" in page
    preferred = {"path": "/v1/models", "dialect": "auto", "prefer": "anthropic"}
    keyless = await open_site(routes=[preferred], auth={"mode": "none"})
    page = shown(await keyless.browser().get("/"))
    assert "The models on offer; in the shape of the client, Anthropic's if unknown" in page


async def test_each_kind_of_model_has_a_request(open_site: OpenSite) -> None:
    models: list[dict[str, Any]] = [
        {"id": "writer"},
        {"id": "ears", "modalities": ["audio"]},
        {"id": "vectors", "output_modalities": ["embedding"]},
        {"id": "painter", "output_modalities": ["image"]},
        {"id": "film", "output_modalities": ["video"], "price": {"second": "1"}},
        {"id": "band", "output_modalities": ["audio"], "price": {"second": "1"}},
        {"id": "voice", "output_modalities": ["audio"], "voices": ["nova"]},
    ]
    given: list[dict[str, Any]] = [{"targets": ["sim/x"], **model} for model in models]
    site = await open_site(models=given)
    page = shown(await site.browser().get("/"))
    found = dict(re.findall(r"<h3>([^<]*)</h3>.*?<pre[^>]*>(.*?)</pre>", page, re.DOTALL))
    for title, path, model in (
        ("Chat Completions", "chat/completions", '"model": "writer"'),
        ("Embeddings", "embeddings", '"model": "vectors"'),
        ("Images", "images/generations", '"model": "painter"'),
        ("Speech", "audio/speech", '"model": "voice", "voice": "nova"'),
        ("Transcripts", "audio/transcriptions", "-F model=ears"),
        ("Video", "videos/generations", '"model": "film"'),
        ("Music", "music/generations", '"model": "band"'),
        ("Files", "files", "-F file=@notes.pdf"),
    ):
        (text,) = (text for name, text in found.items() if name.startswith(title))
        assert f"http://localhost:8080/v1/{path} " in text and model in text


async def test_kind_without_a_model_has_no_request(open_site: OpenSite) -> None:
    site = await open_site(
        models=[{"id": "painter", "output_modalities": ["image"], "targets": ["sim/x"]}]
    )
    page = shown(await site.browser().get("/"))
    titles = re.findall(r"<h3>([^<]*)</h3>", page)
    assert titles == ["Images", "Files"]
    assert "/app/setup" not in page


async def test_described_media_are_said(open_site: OpenSite) -> None:
    models = [{"id": "eye", "modalities": ["text", "image"], "targets": ["sim/x"]}]
    site = await open_site(models=models, media={"image": "eye", "video": "eye"})
    page = shown(await site.browser().get("/"))
    assert "Images and video in requests become text" in page


async def test_gateway_without_public_models_says_so(open_site: OpenSite) -> None:
    hidden = [{"id": "secret-model", "plans": ["gold"], "targets": ["sim/far-model"]}]
    page = await (await open_site(models=hidden)).browser().get("/")
    assert "No model is listed publicly." in page.text
    assert "secret-model" not in page.text


async def test_head_has_the_length_of_the_page(open_site: OpenSite) -> None:
    site = await open_site(**document())
    page = await site.browser().get("/")
    head = await site.browser().send("HEAD", "/", b"", {})
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == page.header("content-length")


async def test_many_models_are_all_shown(open_site: OpenSite) -> None:
    models = [{"id": f"m-{number}", "targets": ["sim/x"]} for number in range(150)]
    page = await (await open_site(models=models)).browser().get("/")
    assert len(rows(page.text)) == 150


async def test_endpoints_that_are_not_offered_are_not_shown(open_site: OpenSite) -> None:
    site = await open_site(endpoints=["chat.completions", "models"])
    page = (await site.browser().get("/")).text
    assert "/v1/chat/completions" in page and "/v1/models/{id}" in page
    for path in ("/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/files", "/v1/links"):
        assert path not in page
