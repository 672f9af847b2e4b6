"""The page at /: prices, filter, requests, and what a stranger must not see."""

import re
from typing import Any

import pytest

from tests.edge.dashboard.conftest import OpenSite

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
            "200,000",
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
    assert "They need no key." in page.text


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
