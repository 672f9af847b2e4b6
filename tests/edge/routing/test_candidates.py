"""Where an exchange may be answered, and in which order."""

import itertools
from collections import Counter
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import pytest

from edge.config.load import parse
from edge.dialects.signatures import fingerprint
from edge.routing.affinity import ConversationKey
from edge.routing.candidates import AffinityMatch, Candidates
from edge.routing.catalog import Catalog
from middlewares.exchange import Candidate, Exchange, Principal, Target
from middlewares.stores.affinity.base import AffinityRecord
from middlewares.stores.health.base import Condition, UpstreamHealth, Verdict
from tests.edge.exchanges import exchange_at, resolve

SPOKEN: Mapping[str, Collection[str]] = {
    "a": ("openai",),
    "b": ("openai",),
    "c": ("anthropic",),
    "s": ("anthropic", "openai", "responses"),
}


class Known:
    """A health whose figures are written down."""

    def __init__(
        self, in_flight: Mapping[str, int] | None = None, latency: Mapping[str, float] | None = None
    ) -> None:
        self._flying = in_flight or {}
        self._latency = latency or {}

    def admits(self, candidate: Target) -> bool:
        return True

    def wait(self, candidate: Target) -> float:
        return 0.0

    def in_flight(self, candidate: Target) -> int:
        return self._flying.get(candidate.upstream, 0)

    def latency(self, candidate: Target) -> float:
        return self._latency.get(candidate.upstream, 0.0)

    def began(self, candidate: Target) -> float:
        return 0.0

    def answered(self, candidate: Target, mark: float, **said: Any) -> None: ...

    def ended(self, candidate: Target, verdict: Verdict, mark: float, **said: Any) -> None: ...

    def by_upstream(self) -> Mapping[str, UpstreamHealth]:
        raise NotImplementedError

    def conditions(self) -> Mapping[Target, Condition]:
        return {}


class Remembered:
    """An affinity that knows one conversation."""

    def __init__(self, conversation: ConversationKey | None) -> None:
        self._conversation = conversation
        self.kept: list[tuple[ConversationKey, Target, str]] = []

    async def find(self, exchange: Exchange) -> ConversationKey | None:
        return self._conversation

    def keep(self, conversation: ConversationKey, target: Target, maker: str) -> None:
        self.kept.append((conversation, target, maker))


def catalog(**first: Any) -> Catalog:
    models = [
        {"id": "big", "targets": ["a/m", "b/m", "c/m"], **first},
        {"id": "small", "targets": ["b/s"]},
        {"id": "tiny", "targets": ["s/t"]},
        {"id": "gpt-*", "targets": ["a/*", "b/*"]},
    ]
    upstreams = [
        {"name": name, "dialect": "simulator"}
        if name == "s"
        else {"name": name, "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}
        for name in SPOKEN
    ]
    return Catalog.build(parse({"upstreams": upstreams, "models": models}, env={}))


def exchange(
    model: str = "big", *models: str, endpoint: str = "chat.completions", **fields: Any
) -> Exchange:
    made = exchange_at(endpoint, model=model, models=models)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def found(candidates: Candidates, asked: Exchange) -> Sequence[Candidate]:
    answer = candidates(asked)
    return answer if isinstance(answer, Sequence) else await answer


def named(candidates: Sequence[Candidate]) -> list[str]:
    return [f"{candidate.target.upstream}/{candidate.target.model}" for candidate in candidates]


class Resolving(Candidates):
    """Places for exchanges that intake has not seen."""

    def __init__(self, known: Catalog, **given: Any) -> None:
        super().__init__(known, **given)
        self.known = known

    def __call__(self, exchange: Exchange) -> Sequence[Candidate] | Awaitable[Sequence[Candidate]]:
        return super().__call__(resolve(exchange, self.known))


def places_of(
    known: Catalog,
    health: Known | None = None,
    affinity: Remembered | None = None,
    randoms: Iterator[float] | None = None,
) -> Candidates:
    drawn = randoms or itertools.repeat(0.0)
    return Resolving(
        known,
        health=health or Known(),
        affinity=affinity,
        dialects=SPOKEN.__getitem__,
        random=lambda: next(drawn),
    )


async def test_a_model_with_one_target_is_not_thought_about() -> None:
    known = catalog()
    small = known.find("small")
    assert small is not None
    assert places_of(known)(exchange("small")) is small.candidates


@pytest.mark.parametrize("endpoint", ["models", "usage", "messages.count_tokens"])
async def test_what_no_target_answers_has_no_place(endpoint: str) -> None:
    assert places_of(catalog())(exchange(endpoint=endpoint)) == ()


async def test_embeddings_go_where_there_are_any() -> None:
    asked = exchange(endpoint="embeddings")
    known = catalog(targets=["c/m", "a/m", "b/m"])
    assert named(await found(places_of(known), asked)) == ["a/m", "b/m"]
    nowhere = catalog(targets=["c/m", "c/n"])
    assert named(await found(places_of(nowhere), asked)) == ["c/m", "c/n"]


async def test_targets_as_written_then_fallbacks() -> None:
    candidates = await found(places_of(catalog(fallbacks=["small", "tiny"])), exchange())
    assert named(candidates) == ["a/m", "b/m", "c/m", "b/s", "s/t"]
    assert [candidate.served for candidate in candidates] == ["big"] * 3 + ["small", "tiny"]
    assert [candidate.instead_of for candidate in candidates] == ["", "", "", "big", "big"]


async def test_a_callers_own_order_takes_the_place_of_fallbacks() -> None:
    known = catalog(fallbacks=["small"])
    candidates = await found(places_of(known), exchange("small", "small", "tiny", "big", "tiny"))
    assert named(candidates) == ["b/s", "s/t", "a/m", "b/m", "c/m"]


async def test_names_behind_a_star() -> None:
    candidates = await found(places_of(catalog()), exchange("gpt-5", "tiny"))
    assert named(candidates) == ["a/gpt-5", "b/gpt-5", "s/t"]
    assert [candidate.served for candidate in candidates] == ["gpt-5", "gpt-5", "tiny"]


async def test_a_key_is_not_served_by_what_it_may_not_use() -> None:
    known = catalog(fallbacks=["small", "tiny"])
    asked = exchange(principal=Principal("k", models=frozenset(("big", "tiny"))))
    assert named(await found(places_of(known), asked))[3:] == ["s/t"]


async def test_what_is_served_instead_has_its_own_fallbacks() -> None:
    known = catalog(fallbacks=["tiny"])
    asked = exchange("small", "tiny", downgrade_to="big")
    assert named(await found(places_of(known), asked)) == ["a/m", "b/m", "c/m", "s/t"]


async def test_fewest_under_way_first() -> None:
    known = catalog(load_balancing="least_inflight")
    health = Known(in_flight={"a": 3, "b": 1, "c": 2})
    assert named(await found(places_of(known, health), exchange())) == ["b/m", "c/m", "a/m"]


async def test_who_is_as_good_comes_first_in_turn() -> None:
    known = catalog(load_balancing="least_inflight")
    firsts: Counter[str] = Counter()
    candidates = places_of(known, randoms=itertools.cycle([0.0, 0.34, 0.67]))
    for _ in range(30):
        firsts[named(await found(candidates, exchange()))[0]] += 1
    assert firsts == {"a/m": 10, "b/m": 10, "c/m": 10}


async def test_the_quickest_first_and_unknown_ones_before() -> None:
    known = catalog(load_balancing="latency")
    health = Known(latency={"a": 0.5, "c": 0.2}, in_flight={"c": 0})
    assert named(await found(places_of(known, health), exchange())) == ["b/m", "c/m", "a/m"]
    busy = Known(latency={"a": 0.5, "b": 0.4, "c": 0.2}, in_flight={"c": 3})
    assert named(await found(places_of(known, busy), exchange())) == ["b/m", "a/m", "c/m"]


async def test_shares() -> None:
    """Each comes first as often as its weight says."""
    known = catalog(load_balancing="weight", weights=[6, 3, 1])
    drawn = Random(1)
    candidates = places_of(known, randoms=iter(drawn.random, None))
    firsts = Counter([named(await found(candidates, exchange()))[0] for _ in range(5000)])
    shares = [firsts[f"{name}/m"] / 5000 for name in "abc"]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def conversation(
    record: AffinityRecord | None, *, bound: bool = False, messages: int = 7
) -> ConversationKey:
    return ConversationKey(key="k", messages=messages, bound=bound, record=record)


OPENAI = fingerprint("openai", "m")


async def test_a_conversation_stays_where_it_was_answered() -> None:
    affinity = Remembered(conversation(AffinityRecord("b/m", OPENAI)))
    candidates = places_of(catalog(fallbacks=["small"]), affinity=affinity)
    order = await found(candidates, exchange())
    assert named(order) == ["b/m", "a/m", "c/m", "b/s"]
    candidates.served(exchange(), order[0])
    assert [(target.upstream, maker) for _, target, maker in affinity.kept] == [("b", OPENAI)]


async def test_what_another_maker_made_is_foreign() -> None:
    """PITFALLS 7: a signature is only read by the model that made it."""
    affinity = Remembered(conversation(AffinityRecord("b/m", OPENAI, since=4)))
    order = await found(places_of(catalog(fallbacks=["small"]), affinity=affinity), exchange())
    assert {
        name: candidate.foreign for name, candidate in zip(named(order), order, strict=True)
    } == {
        "b/m": 4,
        "a/m": 4,  # the same model in the same dialect reads it
        "c/m": 7,
        "b/s": 7,
    }


async def test_a_turn_that_only_its_maker_goes_on_with_stays_with_a_fallback() -> None:
    record = AffinityRecord("b/s", fingerprint("openai", "s"))
    known = catalog(fallbacks=["small"])
    free = places_of(known, affinity=Remembered(conversation(record)))
    assert named(await found(free, exchange()))[0] == "a/m"
    bound = places_of(known, affinity=Remembered(conversation(record, bound=True)))
    order = await found(bound, exchange())
    assert named(order) == ["b/s", "a/m", "b/m", "c/m"]
    assert (order[0].served, order[0].instead_of) == ("small", "big")


async def test_a_target_that_is_no_more_does_not_bind() -> None:
    affinity = Remembered(conversation(AffinityRecord("gone/m", OPENAI), bound=True))
    order = await found(places_of(catalog(), affinity=affinity), exchange())
    assert named(order) == ["a/m", "b/m", "c/m"]


async def test_a_turn_goes_on_at_another_target_of_its_maker() -> None:
    record = AffinityRecord("gone/m", fingerprint("anthropic", "m"))
    bound = places_of(catalog(), affinity=Remembered(conversation(record, bound=True)))
    order = await found(bound, exchange(dialect="anthropic"))
    assert named(order) == ["c/m", "a/m", "b/m"]
    free = places_of(catalog(), affinity=Remembered(conversation(record)))
    assert named(await found(free, exchange(dialect="anthropic"))) == ["a/m", "b/m", "c/m"]


async def test_without_a_conversation_nothing_is_kept() -> None:
    affinity = Remembered(None)
    candidates = places_of(catalog(), affinity=affinity)
    order = await found(candidates, exchange())
    assert not any(isinstance(candidate, AffinityMatch) for candidate in order)
    candidates.served(exchange(), order[0])
    assert affinity.kept == []
