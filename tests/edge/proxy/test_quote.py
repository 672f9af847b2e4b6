"""What a request may cost at most: its bound of output, its estimate of input, its terms."""

from typing import Any

import msgspec
import pytest

from edge.billing.plans import Plans
from edge.config.load import parse
from edge.proxy.quote import Quoter
from edge.routing.catalog import Catalog
from middlewares import Principal, Problem
from middlewares.budget import Quote
from middlewares.exchange import MAX_RUNS, Exchange, Team, Usage
from tests.edge.exchanges import exchange_at, resolve

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


class Resolving(Quoter):
    """An appraiser for exchanges that intake has not seen."""

    def __init__(self, known: Catalog, plans: Plans) -> None:
        super().__init__(known, plans)
        self.known = known

    def __call__(self, exchange: Exchange) -> Quote | None:
        return super().__call__(resolve(exchange, self.known))


APPRAISER = Resolving(Catalog.build(SETTINGS), Plans(SETTINGS))


def bill(
    endpoint: str = "chat.completions", model: str = "priced", plan: str = "", **members: Any
) -> Quote | None:
    exchange = exchange_at(endpoint)
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
        ("chat.completions", {"max_tokens": 100}, 100),
        ("chat.completions", {"max_completion_tokens": 200, "max_tokens": 100}, 200),
        ("chat.completions", {"max_completion_tokens": None, "max_tokens": 100}, 100),
        ("chat.completions", {"max_tokens": 100, "n": 3}, 300),
        ("completions", {"max_tokens": 16, "best_of": 4, "n": 2}, 64),
        ("messages", {"max_tokens": 1024}, 1024),
        ("responses", {"max_output_tokens": 77}, 77),
        ("responses.compact", {"max_output_tokens": 77}, 77),
        ("embeddings", {"max_tokens": 100}, 0),
        ("chat.completions", {}, 32_000),
        ("chat.completions", {"max_tokens": "many"}, 32_000),
        ("chat.completions", {"max_tokens": -1, "n": 0}, 32_000),
        ("chat.completions", {"max_tokens": 120.0}, 120),
        ("chat.completions", {"max_tokens": "120"}, 120),
        ("chat.completions", {"max_tokens": None, "n": None}, 32_000),
        ("chat.completions", {"max_tokens": [5], "n": {"n": 5}}, 32_000),
        ("chat.completions", {"max_tokens": True}, 32_000),
        ("chat.completions", {"max_tokens": 100, "n": "3"}, 300),
        ("chat.completions", {"max_tokens": 1 << 40}, 1 << 31),
        ("chat.completions", {"max_tokens": 1e300}, 1 << 31),
        ("chat.completions", {"max_tokens": 1 << 30, "n": 1 << 30}, 1 << 31),
        ("chat.completions", {"max_completion_tokens": 1, "max_tokens": 900}, 900),
        ("chat.completions", {"max_tokens": 1, "max_completion_tokens": "x"}, 32_000),
    ],
)
def test_own_bound_of_the_dialect_is_the_bound(
    endpoint: str, members: dict[str, Any], output: int
) -> None:
    assert bound(endpoint, **members) == output


def test_bound_below_what_is_sent_counts_as_what_is_sent() -> None:
    assert bound(max_tokens=1) == bound("responses", max_output_tokens=1) == 16


@pytest.mark.parametrize(
    ("endpoint", "foreign"),
    [
        ("chat.completions", {"max_output_tokens": 1}),
        ("chat.completions", {"max_tokens_to_sample": 1}),
        ("chat.completions", {"n_predict": 1}),
        ("chat.completions", {"MAX_TOKENS": 1}),
        ("chat.completions", {"maxTokens": 1}),
        ("chat.completions", {"generationConfig": {"maxOutputTokens": 1}}),
        ("completions", {"max_completion_tokens": 1}),
        ("completions", {"max_output_tokens": 1}),
        ("messages", {"max_completion_tokens": 1}),
        ("messages", {"max_output_tokens": 1}),
        ("responses", {"max_tokens": 1}),
        ("responses", {"max_completion_tokens": 1}),
        ("responses.compact", {"max_tokens": 1}),
    ],
)
def test_bound_of_another_dialect_never_lowers(endpoint: str, foreign: dict[str, Any]) -> None:
    """BerriAI/litellm#37001"""
    assert bound(endpoint, **foreign) == bound(endpoint) == 32_000


@pytest.mark.parametrize(
    ("members", "output"),
    [
        ({"n_predict": 900}, 900),
        ({"n_predict": -1}, 32_000),
        ({"max_new_tokens": "x"}, 32_000),
        ({"max_output_tokens": 900}, 900),
        ({"min_tokens": 900}, 900),
        ({"MAX_TOKENS": 99_999}, 99_999),
        ({"Max-Tokens": 99_999}, 99_999),
        ({"max_to\u212aens": 99_999}, 99_999),
        ({"max_token\u017f": 99_999}, 99_999),
        ({"N": 3}, 300),
        ({"num_return_sequences": 3}, 300),
        ({"options": {"num_predict": -1}}, 32_000),
        ({"options": {"temperature": 1}}, 100),
        ({"parameters": {"max_new_tokens": 5}}, 32_000),
        ({"extra_body": {"google": {"thinking_config": {}}}}, 100),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, 100),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, 5100),
        ({"reasoning": {"max_tokens": 5000}}, 5100),
        ({"reasoning": {"effort": "high"}}, 100),
        ({"thinking": "high"}, 100),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, 200),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, 100),
    ],
)
def test_what_may_lengthen_an_answer_raises_the_bound(members: dict[str, Any], output: int) -> None:
    assert bound(max_tokens=100, **members) == output


def test_bound_among_more_names_than_are_remembered_counts_all_the_same() -> None:
    many = {f"member{number}": 1 for number in range(100)}
    assert bound(**many, max_tokens=100, MAX_TOKENS=900) == 900
    assert bound(**{"x" * 5000: 1}, max_tokens=100, n=3) == 300


def test_thinking_budget_without_a_bound_comes_on_top() -> None:
    """Messages upstreams are then sent a `max_tokens` with room for both."""
    assert bound(thinking={"type": "enabled", "budget_tokens": 8000}) == 40_000


def test_responses_body_at_the_chat_path_is_bounded_as_one() -> None:
    assert bound(input="Hi", max_output_tokens=50) == 50
    assert bound(input="Hi", max_tokens=50) == 32_000
    assert bound(input="Hi", messages=[], max_output_tokens=50) == 32_000


def test_unbounded_answer_of_a_claude_is_what_it_is_sent() -> None:
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {"id": "new", "targets": ["up/claude-opus-4-8"]},
                {"id": "old", "targets": ["up/claude-3-haiku-20240307"]},
                {"id": "said", "targets": ["up/claude-opus-4-8"], "max_output": 9000},
            ],
        },
        env={},
    )
    appraiser = Resolving(Catalog.build(settings), Plans(settings))
    found = {}
    for model in ("new", "old", "said"):
        exchange = exchange_at("chat.completions", model=model, principal=Principal(id="k"))
        bill = appraiser(exchange)
        assert bill is not None
        found[model] = bill.output
    assert found == {"new": 128_000, "old": 32_000, "said": 9000}


def test_no_more_than_the_model_can_make() -> None:
    assert bound(model="small") == 4096
    assert bound(model="small", max_tokens=1 << 30) == 4096
    assert bound(model="small", max_tokens=50) == 50
    assert bound(model="small", max_tokens=50, MAX_TOKENS=1 << 30) == 4096


@pytest.mark.parametrize(
    "endpoint", ["models", "messages.count_tokens", "responses.input_tokens", "usage"]
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
    appraiser = Resolving(Catalog.build(settings), Plans(settings))

    def of(model: str, *models: str, instead: str = "") -> tuple[int, int]:
        exchange = exchange_at(
            "chat.completions",
            model=model,
            models=models,
            downgrade_to=instead,
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


def test_what_is_not_seen_is_set_aside_at_the_size_of_the_context() -> None:
    """The estimate stays what it was: rates take it, and uncounted answers are charged by it."""
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {"id": "small", "targets": ["up/a"], "context": 8000},
                {"id": "unsaid", "targets": ["up/b"]},
                {"id": "falls", "targets": ["up/c"], "context": 8000, "fallbacks": ["unsaid"]},
            ],
            "plans": [{"id": "paid", "overflow": "credits"}],
        },
        env={},
    )
    appraiser = Resolving(Catalog.build(settings), Plans(settings))
    linked = [{"type": "file", "file": {"file_id": "f"}}]

    def of(model: str, content: Any, plan: str | None = "paid", estimate: int = 100) -> Quote:
        exchange = exchange_at(
            "chat.completions",
            model=model,
            estimate=estimate,
            principal=Principal(id="k", plan=plan),
        )
        messages = msgspec.json.encode([{"role": "user", "content": content}])
        exchange.fields = {"messages": msgspec.Raw(messages)}
        bill = appraiser(exchange)
        assert bill is not None
        return bill

    assert (of("small", linked).input, of("small", linked).max_input) == (100, 8000)
    assert of("small", "Hi").max_input == 100
    assert of("unsaid", linked).max_input == of("falls", linked).max_input == 200_000
    assert of("small", linked, estimate=9000).max_input == 9000
    assert of("small", linked, plan=None).max_input == 100, "nothing is set aside"


def test_tier_needs_a_price_of_every_model_that_the_caller_names() -> None:
    with pytest.raises(Problem, match="priority"):
        bill(service_tier="priority")
    exchange = exchange_at("chat.completions", model="small", models=("small", "priced"))
    exchange.principal = Principal(id="k")
    exchange.fields = {"service_tier": msgspec.Raw(b'"priority"')}
    with pytest.raises(Problem, match="priority"):
        APPRAISER(exchange)
    exchange.models = ("small",)
    assert APPRAISER(exchange) is not None


@pytest.mark.parametrize(
    ("added", "more"),
    [
        ({}, (100, 500, 1)),
        ({"provider": {"order": ["x"]}, "top_k": 5}, (100, 500, 1)),
        ({"web_search_options": {}}, (8000, 500, 11)),
        ({"max_length": 3000}, (100, 3000, 1)),
        ({"options": {"num_predict": 3000}}, (100, 4096, 1)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, (100, 2500, 1)),
    ],
)
def test_what_an_upstream_adds_to_bodies_is_set_aside(
    added: dict[str, Any], more: tuple[int, int, int]
) -> None:
    upstream = {"name": "up", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}
    price = {"input": "3", "output": "15"}
    model = {"id": "m", "targets": ["up/m"], "context": 8000, "max_output": 4096, "price": price}
    plan = {"id": "paid", "overflow": "credits"}
    settings = parse(
        {"upstreams": [{**upstream, "extra_body": added}], "models": [model], "plans": [plan]},
        env={},
    )
    exchange = exchange_at("chat.completions", model="m", estimate=100)
    exchange.principal = Principal(id="k", plan="paid")
    exchange.fields = {"messages": msgspec.Raw(b"[]"), "max_tokens": msgspec.Raw(b"500")}
    found = Resolving(Catalog.build(settings), Plans(settings))(exchange)
    assert found is not None
    assert (found.max_input, found.output, found.runs) == more


def test_runs_are_what_the_request_may_come_to() -> None:
    def runs(plan: str = "pro", **members: Any) -> int:
        found = bill(plan=plan, **members)
        assert found is not None
        return found.runs

    assert runs() == runs(tools=[{"type": "function"}]) == 1
    search = {"type": "web_search_20250305", "max_uses": 3}
    assert runs(endpoint="messages", tools=[search]) == 4
    assert runs(endpoint="responses", tools=[search]) == runs(tools=[search]) == 11
    assert runs(tools=[{"type": "web_search"}]) == 11
    assert runs(context_management={"edits": [{"type": "compact_20260112"}]}) == 2
    assert runs(plan="") == MAX_RUNS, "nothing is limited"


@pytest.mark.parametrize(
    ("modalities", "describes", "more"),
    [(["text"], False, 4000), (["text", "image"], True, 0), (None, True, 4000), (None, False, 0)],
)
def test_quote_reserves_the_texts_of_images_for_models_that_get_them(
    modalities: list[str] | None, describes: bool, more: int
) -> None:
    model = {"id": "m", "targets": ["up/m"], **({"modalities": modalities} if modalities else {})}
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [model],
            "plans": [{"id": "pro", "windows": [{"length": "1h", "credits": "1"}]}],
        },
        env={},
    )
    known = Catalog.build(settings)
    exchange = exchange_at("chat.completions")
    exchange.model = "m"
    exchange.estimate = 100
    exchange.media = True
    exchange.principal = Principal(id="k", plan="pro")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    turns = [{"role": "user", "content": [image, image]}]
    exchange.fields = {"messages": msgspec.Raw(msgspec.json.encode(turns))}
    found = Quoter(known, Plans(settings), describes=describes)(resolve(exchange, known))
    assert found is not None
    assert found.max_input == 100 + more


def quote_for_team(team: Team) -> Quote:
    exchange = exchange_at("chat.completions")
    exchange.model = "priced"
    exchange.estimate = 100
    exchange.principal = Principal(id="k", team=team)
    found = APPRAISER(exchange)
    assert found is not None
    return found


def test_quote_has_the_budget_of_a_limited_team_only() -> None:
    windows = {"windows": [{"length": "5h", "credits": "2"}]}
    limited = quote_for_team(Team("team_1", plan="pro", limits=windows))
    assert limited.team_budget is not None and limited.team_budget.credits
    assert [window.name for window in limited.team_budget.windows] == ["5h"]
    assert limited.runs == 1  # what is reserved covers no more
    unlimited = quote_for_team(Team("team_2"))
    assert (unlimited.team_budget, unlimited.runs) == (None, MAX_RUNS)
    with pytest.raises(Problem) as raised:
        quote_for_team(Team("team_3", plan="gone"))
    assert raised.value.kind == "key_misconfigured"
