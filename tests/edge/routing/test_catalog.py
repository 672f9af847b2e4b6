"""By which names a model is found, and by whom."""

from typing import Any

import pytest

from edge.config.load import parse
from edge.routing.catalog import Catalog
from middlewares.exchange import Principal, Target

MODELS: list[dict[str, Any]] = [
    {"id": "small", "aliases": ["mini", "vendor/mini"], "targets": ["a/s/m-1", "b/s"]},
    {"id": "big", "display_name": "Big One", "context": 8192, "targets": ["a/b"], "plans": ["pro"]},
    {"id": "gpt-*", "targets": ["a/*"]},
    {"id": "gpt-9-*", "targets": ["b/vendor/*", "a/fixed"]},
    {"id": "acme/odd", "targets": ["a/o"]},
]


def catalog(models: list[dict[str, Any]] | None = None) -> Catalog:
    upstreams = [{"name": name, "dialect": "simulator"} for name in "ab"]
    document = {
        "brand": "Acme",
        "plans": [{"id": "pro"}],
        "upstreams": upstreams,
        "models": MODELS if models is None else models,
    }
    return Catalog.build(parse(document, env={}))


def caller(*models: str, plan: str | None = None) -> Principal:
    return Principal(id="k", plan=plan, models=frozenset(models) if models else None)


@pytest.mark.parametrize(
    ("name", "id_", "targets"),
    [
        ("small", "small", ["a s/m-1", "b s"]),
        ("mini", "small", ["a s/m-1", "b s"]),
        ("vendor/mini", "small", ["a s/m-1", "b s"]),
        ("acme/small", "small", ["a s/m-1", "b s"]),
        ("acme/mini", "small", ["a s/m-1", "b s"]),
        ("acme/vendor/mini", "small", ["a s/m-1", "b s"]),
        ("small[1m]", "small", ["a s/m-1", "b s"]),
        ("acme/mini[1m]", "small", ["a s/m-1", "b s"]),
        ("acme/odd", "acme/odd", ["a o"]),
        ("acme/acme/odd", "acme/odd", ["a o"]),
        ("gpt-5", "gpt-5", ["a gpt-5"]),
        ("acme/gpt-5[1m]", "gpt-5", ["a gpt-5"]),
        ("gpt-9-x", "gpt-9-x", ["b vendor/gpt-9-x", "a fixed"]),
        ("gpt-", "gpt-", ["a gpt-"]),
    ],
)
def test_a_model_is_found_by_each_of_its_names(name: str, id_: str, targets: list[str]) -> None:
    model = catalog().find(name)
    assert model is not None
    assert model.id == id_
    assert [f"{target.upstream} {target.model}" for target in model.targets] == targets


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Small",
        "odd",
        "other/small",
        "gpt",
        "gpt-*",
        "gpt-5 ",
        "gpt-5\r\nx-evil: 1",
        'gpt-"',
        "gpt-\\",
        "gpt-ü",
        "gpt-\x00",
        "gpt-" + "5" * 200,
        "small[1m][1m]",
        "[1m]" * 100_000,
    ],
)
def test_nothing_else_is_found(name: str) -> None:
    assert catalog().find(name) is None


def test_a_name_of_a_family_keeps_its_entry_for_labels() -> None:
    model = catalog().find("gpt-9-x")
    assert model is not None
    assert (model.id, model.entry, model.display_name) == ("gpt-9-x", "gpt-9-*", "gpt-9-x")


def test_an_exact_id_goes_before_a_family() -> None:
    models = [{"id": "gpt-*", "targets": ["a/*"]}, {"id": "gpt-5", "targets": ["b/five"]}]
    model = catalog(models).find("gpt-5")
    assert model is not None
    assert model.targets == (Target("b", "five"),)


EXACT_BESIDE_WILD: list[dict[str, Any]] = [
    {"id": "*", "targets": ["a/*"]},
    {"id": "gpt-5", "aliases": ["five", "vendor/five"], "targets": ["b/five"]},
    {"id": "b/own", "targets": ["b/own"]},
    {"id": "vendor/six:free", "targets": ["b/six"]},
]


@pytest.mark.parametrize(
    "name",
    [
        "GPT-5",
        "gpt-5[1M]",
        "gpt-5[1m][1m]",
        "Acme/gpt-5",
        "acme/acme/gpt-5",
        "acme/ACME/Gpt-5[1M][1m]",
        "FIVE",
        "acme/five[1m][1m]",
        "a/gpt-5",
        "b/a/acme/Five[1m][1M]",
        "models/gpt-5",
        "vendor/FIVE",
        "a/vendor/five",
        "gpt-5:latest",
        "gpt-5:LATEST[1m][1m]",
        "gpt-5.",
        "/gpt-5/",
        "acme//gpt-5",
        "%67pt-5",
        "%2567pt-5",
        "gpt%2D5",
        "acme%2fgpt-5",
        "%41/gpt-5",
        "gpt-5%5B1m%5d[1m]",
        "gpt-5[200k]",
        "gpt-5[]",
        "gpt-5:nitro",
        "gpt-5:online:floor",
        "gpt-5@default",
        "gpt-5%20",
        "gpt-5%00",
        "gpt-5#x",
        "gpt-5%23x",
        "gpt-5?x=1",
        "gpt-5;x",
        "x/../gpt-5",
        "models/./gpt-5",
        "vendor//five",
        "vendor//six:free",
        "vendor%2Fsix%3Afree",
        "vendor/SIX:free:nitro",
        "models/vendor/./six:free:free[1m]",
        "B/OWN",
        "gpt-5 ",
        "gpt-5\t",
        "gpt\u20115",
        "\uff47\uff50\uff54-5",
        "gpt-5\u200b",
        "\u017five",
    ],
)
def test_find_exact_name_in_disguise_matches_no_wildcard(name: str) -> None:
    assert catalog(EXACT_BESIDE_WILD).find(name) is None
    assert catalog(EXACT_BESIDE_WILD).grant(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "gpt-5-mini",
        "gpt-5-2026-01-01",
        "other/gpt-5",
        "b/other",
        "own",
        "latest",
        "[1m]x",
        "50%",
        "gpt-5:8b",
    ],
)
def test_find_another_name_beside_exact_entry_matches_wildcard(name: str) -> None:
    model = catalog(EXACT_BESIDE_WILD).find(name)
    assert model is not None
    assert (model.id, model.entry) == (name, "*")


def test_find_prefix_that_wildcard_itself_has_is_part_of_the_name() -> None:
    models = [{"id": "a/*", "targets": ["a/*"]}, {"id": "gpt-5", "targets": ["b/five"]}]
    model = catalog(models).find("a/gpt-5")
    assert model is not None
    assert model.entry == "a/*"
    assert catalog([*models, {"id": "a/gpt-5", "targets": ["b/x"]}]).find("a/GPT-5") is None


def test_an_id_goes_before_another_behind_the_prefix() -> None:
    models = [{"id": "x", "targets": ["a/plain"]}, {"id": "acme/x", "targets": ["b/own"]}]
    model = catalog(models).find("acme/x")
    assert model is not None
    assert model.targets == (Target("b", "own"),)


@pytest.mark.parametrize(
    ("principal", "visible"),
    [
        (caller(), ["small", "acme/odd"]),
        (caller(plan="pro"), ["small", "big", "acme/odd"]),
        (caller("mini"), ["small"]),
        (caller("big", "acme/odd"), ["acme/odd"]),
        (caller("big", plan="pro"), ["big"]),
        (caller("nothing"), []),
    ],
)
def test_a_caller_sees_what_it_may_use(principal: Principal, visible: list[str]) -> None:
    table = catalog()
    assert [model.id for model in table.visible(principal)] == visible
    for name in ("small", "big", "acme/odd"):
        model = table.find(name)
        assert model is not None
        assert table.allows(principal, model) is (name in visible)


@pytest.mark.parametrize(
    ("grant", "name", "allowed"),
    [
        ("gpt-*", "gpt-5", True),
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "gpt-6", False),
        ("gpt-*", "gpt-9-x", False),
        ("gpt-9-*", "gpt-9-x", True),
        ("small", "gpt-5", False),
    ],
)
def test_a_family_is_granted_whole_or_by_name(grant: str, name: str, allowed: bool) -> None:
    table = catalog()
    model = table.find(name)
    assert model is not None
    assert table.allows(caller(grant), model) is allowed


@pytest.mark.parametrize(
    ("name", "granted"),
    [
        ("acme/mini[1m]", "small"),
        ("gpt-*", "gpt-*"),
        ("acme/gpt-5", "gpt-5"),
        ("none", None),
        ("gpt*", None),
    ],
)
def test_what_is_granted_is_named_as_the_catalog_does(name: str, granted: str | None) -> None:
    assert catalog().grant(name) == granted


def test_a_catalog_may_be_empty() -> None:
    table = catalog([])
    assert table.find("small") is None
    assert table.visible(caller()) == []


@pytest.mark.parametrize(
    ("given", "families"),
    [
        ({}, ["s/m-1", "s"]),
        ({"family": "gpt-5"}, ["gpt-5", "gpt-5"]),
        ({"families": ["gpt-5", "claude-opus-5"]}, ["gpt-5", "claude-opus-5"]),
    ],
)
def test_family_of_target_is_given_or_its_name(given: dict[str, Any], families: list[str]) -> None:
    upstreams = [{"name": name, "dialect": "simulator"} for name in "ab"]
    one = {"id": "small", "targets": ["a/s/m-1", "b/s"], **given}
    many = {"id": "prod-*", "targets": ["a/*", "b/x-*"], **given}
    found = Catalog.build(parse({"upstreams": upstreams, "models": [one, many]}))
    small, wild = found.find("small"), found.find("prod-7")
    assert small is not None and wild is not None
    assert [small.family_of(target) for target in small.targets] == families
    names = families if given else ["prod-7", "x-prod-7"]
    assert [wild.family_of(target) for target in wild.targets] == names


def test_catalog_model_with_embeddings_has_an_embedder_under_its_own_name() -> None:
    both = catalog(
        [
            {"id": "text", "aliases": ["t"], "targets": ["a/m"], "embeddings": "vectors"},
            {"id": "vectors", "targets": ["b/e"], "plans": ["pro"], "price": {"input": "0.02"}},
        ]
    )
    for name in ("text", "t", "acme/text"):
        model = both.find(name)
        assert model is not None and model.embedder is not None
        embedder = model.embedder
        assert (embedder.id, embedder.entry) == ("text", "vectors")
        (candidate,) = embedder.candidates
        assert (candidate.served, candidate.target) == ("text", Target("b", "e"))
        assert candidate.prices is not None and candidate.prices == embedder.prices
        assert [one.target for one in model.candidates] == [Target("a", "m")]
    assert [model.id for model in both.visible(caller())] == ["text"]


def test_catalog_internal_model_is_found_but_listed_for_none() -> None:
    some = catalog(
        [
            {"id": "text", "targets": ["a/m"]},
            {"id": "eye", "targets": ["b/e"], "internal": True},
        ]
    )
    model = some.find("eye")
    assert model is not None and model.internal
    assert [model.id for model in some.visible(caller())] == ["text"]
