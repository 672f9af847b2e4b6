"""Prices and contexts as the page at / shows them."""

from typing import Any

import pytest

from edge.config.load import parse
from edge.dashboard.price_list import PriceList, price_list, rounded
from edge.routing.catalog import Catalog
from middlewares.exchange import Principal


def listed(*models: dict[str, Any], currency: str = "") -> PriceList:
    settings = parse(
        {
            "upstreams": [{"name": "s", "dialect": "simulator"}],
            "models": [{"id": f"m{n}", "targets": ["s/x"], **one} for n, one in enumerate(models)],
        }
    )
    return price_list(Catalog.build(settings).visible(Principal(id="")), currency)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        *((512, "512"), (8_192, "8K"), (200_000, "200K"), (262_144, "262K"), (256_000, "256K")),
        *((999_499, "999K"), (999_500, "1M"), (1_000_000, "1M"), (1_048_576, "1M")),
        *((1_500_000, "1.5M"), (10_000_000, "10M")),
    ],
)
def test_context_is_written_as_vendors_do(tokens: int, text: str) -> None:
    assert rounded(tokens) == text


def test_currency_precedes_every_amount() -> None:
    prices = listed(
        {"price": {"input": "0.07", "output": "0.14"}},
        {"price": {"image": "0.04", "character": "0.000015"}},
        currency="$",
    )
    tokens, units = prices.offers
    assert tokens.tokens == ("$0.07", "$0.14", "$0.07", "$0.07")
    assert units.units == ("$0.04 per image", "$15.00 per million characters")


def test_columns_are_those_that_some_model_needs() -> None:
    bare = listed({}, {})
    assert not (bare.media or bare.prices or bare.cache or bare.units or bare.price_columns)
    priced = listed({"price": {"input": "1"}}, {})
    assert (priced.prices, priced.cache, priced.price_columns) == (True, False, 2)
    cached = listed({"price": {"input": "1", "cache_read": "0"}})
    assert (cached.cache, cached.price_columns) == (True, 4)
    drawn = listed({"price": {"image": "1"}, "output_modalities": ["image"]})
    assert (drawn.media, drawn.prices, drawn.units, drawn.price_columns) == (True, False, True, 1)


def test_model_without_a_price_is_free_and_one_at_nothing_is_too() -> None:
    free, nothing, job = listed({}, {"price": {}}, {"price": {"job": "0"}}).offers
    assert (free.free, nothing.free, job.free) == (True, True, False)


def test_one_price_of_calls_for_all_is_said_once() -> None:
    called = {"price": {"input": "1", "hosted_call": "0.01"}}
    nothing = {"price": {"input": "1", "hosted_call": "0"}}
    same = listed(called, called, nothing, currency="$")
    assert (same.hosted_call, same.units) == ("$0.01", False)
    others = listed(called, {"price": {"input": "1", "hosted_call": "0.02"}}, nothing)
    assert others.hosted_call == ""
    assert [offer.units for offer in others.offers] == [
        *(("0.01 per call of a hosted tool",), ("0.02 per call of a hosted tool",), ()),
    ]
