"""What a request may cost at most: its bound of output, its estimate of input, its terms."""

from typing import Any

import msgspec
import pytest

from edge.appraise import Appraiser
from edge.catalog import Catalog
from edge.plans import Plans
from edge.settings import parse
from middlewares import Exchange, Principal, Problem
from middlewares.budget import Bill
from middlewares.exchange import Usage

SETTINGS = parse(
    {
        "upstreams": [{"name": "up", "dialect": "simulator"}],
        "models": [
            {"id": "priced", "targets": ["up/p"], "price": {"input": "3", "output": "15"}},
            {"id": "small", "targets": ["up/s"], "max_output": 4096},
        ],
        "plans": [{"id": "pro", "overflow": "credits"}],
    },
    env={},
)
APPRAISER = Appraiser(Catalog.build(SETTINGS), Plans(SETTINGS))


def bill(
    endpoint: str = "chat.completions", model: str = "priced", plan: str = "", **members: Any
) -> Bill | None:
    exchange = Exchange()
    exchange.endpoint = endpoint
    exchange.model = model
    exchange.estimate = 100
    exchange.principal = Principal(id="k", plan=plan or None)
    exchange.fields = {
        name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()
    }
    return APPRAISER(exchange)


def bound(*args: Any, **members: Any) -> int:
    found = bill(*args, **members)
    assert found is not None
    return found.output


@pytest.mark.parametrize(
    ("endpoint", "members", "output"),
    [
        ("chat.completions", {"max_tokens": 10}, 10),
        ("chat.completions", {"max_completion_tokens": 20, "max_tokens": 10}, 20),
        ("chat.completions", {"max_completion_tokens": None, "max_tokens": 10}, 10),
        ("chat.completions", {"max_tokens": 10, "n": 3}, 30),
        ("completions", {"max_tokens": 16, "best_of": 4, "n": 2}, 64),
        ("messages", {"max_tokens": 1024}, 1024),
        ("responses", {"max_output_tokens": 77}, 77),
        ("responses.compact", {"max_output_tokens": 77}, 77),
        ("embeddings", {"max_tokens": 10}, 0),
        ("chat.completions", {}, 32_000),
        ("chat.completions", {"max_tokens": "many"}, 32_000),
        ("chat.completions", {"max_tokens": -1, "n": 0}, 32_000),
        ("chat.completions", {"max_tokens": 12.0}, 12),
        ("chat.completions", {"max_tokens": "12"}, 12),
        ("chat.completions", {"max_tokens": None, "n": None}, 32_000),
        ("chat.completions", {"max_tokens": [5], "n": {"n": 5}}, 32_000),
        ("chat.completions", {"max_tokens": True}, 32_000),
        ("chat.completions", {"max_tokens": 10, "n": "3"}, 30),
        ("chat.completions", {"max_tokens": 1 << 40}, 1 << 31),
        ("chat.completions", {"max_tokens": 1e300}, 1 << 31),
        ("chat.completions", {"max_completion_tokens": 1, "max_tokens": 900}, 900),
        ("chat.completions", {"max_tokens": 1, "max_completion_tokens": "x"}, 32_000),
        ("chat.completions", {"max_tokens": 1, "n_predict": 900}, 900),
        ("chat.completions", {"max_tokens": 1, "n_predict": -1}, 32_000),
        ("completions", {"max_tokens": 5, "max_completion_tokens": 900}, 900),
    ],
)
def test_the_bound_of_the_output(endpoint: str, members: dict[str, Any], output: int) -> None:
    assert bound(endpoint, **members) == output


def test_no_more_than_the_model_can_make() -> None:
    assert bound(model="small") == 4096
    assert bound(model="small", max_tokens=1 << 30) == 4096
    assert bound(model="small", max_tokens=5) == 5


@pytest.mark.parametrize(
    "endpoint", ["models", "messages.count_tokens", "responses.input_tokens", "usage", "unknown"]
)
def test_what_costs_nothing_has_no_bill(endpoint: str) -> None:
    assert bill(endpoint, max_tokens=10) is None


def test_reading_a_kept_response_costs_nothing() -> None:
    assert bill("responses", model="") is None


def test_price_and_plan() -> None:
    priced, free = bill(plan="pro"), bill(model="small")
    assert priced is not None and free is not None
    assert priced.price.cost(Usage(1_000_000, 1_000_000)) == 18 * 10**9
    assert (priced.input, priced.plan, priced.budget.credits) == (100, "pro", True)
    assert free.price.cost(Usage(10**9, 10**9)) == 0
    assert not free.budget.limited


def test_a_plan_that_is_gone_is_no_free_ride() -> None:
    with pytest.raises(Problem, match="plan gone is not configured"):
        bill(plan="gone")


def test_the_dearest_of_all_that_may_serve_is_set_aside() -> None:
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {
                    "id": "first",
                    "targets": ["up/a"],
                    "price": {"input": "3", "output": "5"},
                    "max_output": 100,
                    "fallbacks": ["second"],
                },
                {
                    "id": "second",
                    "targets": ["up/b"],
                    "price": {"input": "1", "output": "15"},
                    "max_output": 400,
                },
                {"id": "third", "targets": ["up/c"]},
            ],
        },
        env={},
    )
    appraiser = Appraiser(Catalog.build(settings), Plans(settings))

    def of(model: str, *models: str, instead: str = "") -> tuple[int, int]:
        exchange = Exchange(
            endpoint="chat.completions",
            model=model,
            models=models,
            instead=instead,
            principal=Principal(id="k"),
        )
        bill = appraiser(exchange)
        assert bill is not None
        return bill.output, bill.price.cost(Usage(1000, 1000))

    million = 10**6
    assert of("second") == (400, 16 * million)
    assert of("first") == (400, 18 * million)
    assert of("first") == (400, 18 * million)  # what is remembered is the same
    assert of("first", "third") == (32_000, 8 * million)
    assert of("third", "second") == (32_000, 16 * million)
    assert of("first", instead="third") == (32_000, 0)
