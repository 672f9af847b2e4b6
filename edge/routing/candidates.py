"""Candidate targets of an exchange, best first.

The targets of the requested model come first, in the order of its `load_balancing`, then those of
its fallbacks, or of the models that the caller named. Affinity takes precedence: a maker that alone
can continue a turn, then the target that answered last and has the prompt cache.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from random import random

from msgspec.structs import replace

from edge.dialects.signatures import fingerprint
from edge.endpoints import SERVED_BY, Endpoint
from middlewares.exchange import Candidate, Exchange, Target
from middlewares.stores.health.base import Health

from .affinity import ConversationAffinity, ConversationKey
from .catalog import Catalog, Model, ModelCandidate


class AffinityMatch(ModelCandidate, frozen=True):
    """A candidate for a known conversation. maker: fingerprint of the model and dialect there."""

    conversation: ConversationKey | None = None
    maker: str = ""


class Candidates:
    """Selects the candidates of exchanges.

    affinity: memory of conversations; None disables it.
    dialects: by upstream, the dialects it speaks.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        health: Health,
        affinity: ConversationAffinity | None,
        dialects: Callable[[str], Collection[str]],
        random: Callable[[], float] = random,
    ) -> None:
        self._catalog = catalog
        self._health = health
        self._affinity = affinity
        self._dialects = dialects
        self._random = random

    def __call__(self, exchange: Exchange) -> Sequence[Candidate] | Awaitable[Sequence[Candidate]]:
        """The candidates, best first; none for an endpoint that is not forwarded."""
        row: Endpoint = exchange.row
        if row.handler != "forward":
            return ()
        model: Model | None = exchange.resolved[0]
        if exchange.downgrade_to:
            model = self._catalog.find(exchange.downgrade_to)
        if model is None:
            return ()
        if len(model.candidates) == 1 and not exchange.models and not model.fallbacks:
            return model.candidates
        models = [model, *self._others(exchange, model)]
        if not row.translated:
            candidates = self._ordered(models)
            return [
                candidate for candidate in candidates if self._has(exchange, candidate.target)
            ] or candidates
        if self._affinity is None or not row.conversation:
            return self._ordered(models)
        return self._remembered(exchange, models, self._affinity)

    def served(self, exchange: Exchange, candidate: Candidate) -> None:
        """Remember that `candidate` answered."""
        if (
            self._affinity is None
            or not isinstance(candidate, AffinityMatch)
            or candidate.conversation is None
        ):
            return
        self._affinity.keep(candidate.conversation, candidate.target, candidate.maker)

    def _others(self, exchange: Exchange, model: Model) -> list[Model]:
        """The distinct models to try after `model`."""
        named: Sequence[Model] = exchange.resolved[1:] if not exchange.downgrade_to else ()
        principal = exchange.principal
        found: dict[str, Model] = {}
        for other in named or map(self._catalog.find, model.fallbacks):
            if other is None or other.id == model.id:
                continue
            if principal is None or self._catalog.allows(principal, other):
                found.setdefault(other.id, other)
        return list(found.values())

    def _ordered(self, models: Sequence[Model]) -> list[ModelCandidate]:
        asked = models[0].id
        return [
            candidate if model.id == asked else replace(candidate, instead_of=asked)
            for model in models
            for candidate in self._balanced(model)
        ]

    def _balanced(self, model: Model) -> Sequence[ModelCandidate]:
        candidates, health = model.candidates, self._health
        if len(candidates) == 1 or model.balance == "order":
            return candidates
        if model.balance == "weight":
            # A random order in which each comes first as often as its share says (Efraimidis and
            # Spirakis 2006).
            drawn = [self._random() ** (1.0 / weight) for weight in model.weights]
            order = sorted(range(len(candidates)), key=drawn.__getitem__, reverse=True)
            return [candidates[n] for n in order]
        # Candidates that are equally good take turns to be first.
        start = int(self._random() * len(candidates))
        candidates = candidates[start:] + candidates[:start]
        if model.balance == "least_inflight":
            return sorted(candidates, key=lambda candidate: health.in_flight(candidate.target))
        return sorted(
            candidates,
            key=lambda candidate: (
                health.latency(candidate.target) * (1 + health.in_flight(candidate.target))
            ),
        )

    async def _remembered(
        self, exchange: Exchange, models: Sequence[Model], affinity: ConversationAffinity
    ) -> Sequence[Candidate]:
        candidates = self._ordered(models)
        if len(candidates) == 1:
            return candidates
        conversation = await affinity.find(exchange)
        if conversation is None:
            return candidates
        record = conversation.record
        matches = []
        for candidate in candidates:
            maker = self._maker(exchange, candidate.target)
            matches.append(
                AffinityMatch(
                    candidate.target,
                    candidate.served,
                    candidate.instead_of,
                    foreign=conversation.unreadable_messages(maker),
                    entry=candidate.entry,
                    model=candidate.model,
                    prices=candidate.prices,
                    conversation=conversation,
                    maker=maker,
                )
            )
        if record is not None:
            free = [
                n for n, match in enumerate(matches) if conversation.bound or not match.instead_of
            ]
            same = [n for n in free if matches[n].target.name == record.target]
            able = [n for n in free if conversation.bound and matches[n].maker == record.maker]
            first = next(iter(same or able), 0)
            matches.insert(0, matches.pop(first))
        return matches

    def _has(self, exchange: Exchange, target: Target) -> bool:
        """Whether the upstream may serve an endpoint that is not translated."""
        return not SERVED_BY[exchange.dialect].isdisjoint(self._dialects(target.upstream))

    def _maker(self, exchange: Exchange, target: Target) -> str:
        """Fingerprint of model and dialect at `target`, which can read each other's signatures."""
        dialects = self._dialects(target.upstream)
        own = exchange.dialect if exchange.dialect in dialects else next(iter(sorted(dialects)), "")
        return fingerprint(own, target.model)
