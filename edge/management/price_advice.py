"""Warnings and notes of `penstock check` about prices. Each begins with the path of a key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from edge.config.load import Settings
from edge.config.model import ModelConfig, PlanConfig, PriceConfig
from edge.vendors.claude_models import claude
from edge.vendors.openai_models import reasons


def price_cautions(settings: Settings) -> list[str]:
    """Warnings: what is used is not charged, or for less than it costs."""
    return [
        *_unpriced(settings.models, settings.plans),
        *_reversed(settings.models),
        *_cheap_cache(settings.models),
    ]


def price_notes(settings: Settings) -> list[str]:
    """Notes: what is charged may surprise."""
    return [
        *(
            f"models[{n}].max_output: is not given; for a request to {model.id} that sets no bound "
            "the price of 32,000 output tokens is set aside"
            for n, model in enumerate(settings.models)
            if model.price is not None
            and model.price.output
            and model.max_output is None
            and model.output_modalities != ("embedding",)
        ),
        *_uncached(settings.models),
        *_dearer(settings.models),
        *_uncharged(settings.models, settings.plans),
    ]


def _priced(models: Sequence[ModelConfig]) -> Iterator[tuple[int, ModelConfig, PriceConfig]]:
    """Models whose tokens have a price, with their place."""
    for n, model in enumerate(models):
        if model.price is not None and (model.price.input or model.price.output):
            yield n, model, model.price


def _reversed(models: Sequence[ModelConfig]) -> Iterator[str]:
    """Warnings about output that is cheaper than input, which no vendor has."""
    for n, model, price in _priced(models):
        if price.output and price.output < price.input and "text" in model.output_modalities:
            yield (
                f"models[{n}].price.output: {price.output} is less than input, {price.input}; "
                "no vendor sells output for less: the two may be exchanged"
            )


def _cheap_cache(models: Sequence[ModelConfig]) -> Iterator[str]:
    """Warnings about Claude models: what they write to the cache costs more than input."""
    for n, model, price in _priced(models):
        if price.input and price.cache_write is None and _is_claude(model):
            yield (
                f"models[{n}].price.cache_write: is not given, so {price.input} is charged as for "
                f"input; Anthropic asks a quarter more for what {model.id} writes to its cache"
            )


def _uncached(models: Sequence[ModelConfig]) -> Iterator[str]:
    """Notes about input from a cache that is charged like any other."""
    names = [
        model.id
        for _, model, price in _priced(models)
        if price.input and price.cache_read is None and "text" in model.output_modalities
    ]
    if names:
        yield (
            f"models[].price.cache_read: is not given for {', '.join(names)}; input from a prompt "
            "cache is charged like other input, though most vendors ask a tenth to a half"
        )


def _dearer(models: Sequence[ModelConfig]) -> Iterator[str]:
    """Notes about fallbacks that cost callers more than what they asked for."""
    named: Mapping[str, PriceConfig | None] = {
        name: model.price for model in models for name in (model.id, *model.aliases)
    }
    for n, model, price in _priced(models):
        for m, fallback in enumerate(model.fallbacks):
            other = named.get(fallback)
            if other is not None and (other.output > price.output or other.input > price.input):
                yield (
                    f"models[{n}].fallbacks[{m}]: {fallback} is dearer than {model.id}; callers "
                    "pay the price of the model that answers"
                )


def _is_claude(model: ModelConfig) -> bool:
    names = [target.split("/", 1)[1] for target in model.targets]
    families = model.families or ([model.family] if model.family else names)
    return any(claude(name).vendor for name in families)


def _unpriced(models: Sequence[ModelConfig], plans: Sequence[PlanConfig]) -> Iterator[str]:
    """Warnings about models without a price, or without one for output, where budgets count money.

    Models that are free on purpose are left out: prices of 0, and models of `plans[].on_budget`.
    """
    free = {plan.on_budget for plan in plans}
    sold = any(model.price is not None for model in models)
    for n, model in enumerate(models):
        limited = [
            plan.id
            for plan in plans
            if (plan.windows or plan.overflow == "credits")
            and (not model.plans or plan.id in model.plans)
        ]
        if not (limited or sold) or not free.isdisjoint((model.id, *model.aliases)):
            continue
        whose = f"the budgets of {', '.join(limited)}" if limited else "the budgets of keys"
        if model.price is None:
            yield (
                f"models[{n}].price: is not given; requests to {model.id} cost nothing, and "
                f"{whose} do not limit them. Give prices, of 0 where that is meant"
            )
        elif (
            model.price.input
            and not model.price.output
            and model.output_modalities != ("embedding",)
        ):
            yield (
                f"models[{n}].price.output: is not given; answers of {model.id} cost nothing, "
                f"however long, and {whose} do not limit them"
            )


def _uncharged(models: Sequence[ModelConfig], plans: Sequence[PlanConfig]) -> Iterator[str]:
    """Notes about models with a price. Each begins with the key that would charge for the rest."""
    sold = [model for model in models if model.price is not None and model.price.output]
    yield from _hosted(model for model in sold if model.price and model.price.hosted_call is None)
    leaving = [plan.id for plan in plans if plan.on_hangup == "cancel"]
    if leaving:
        yield from _hidden((model for model in sold if model.on_hangup is None), leaving)


def _hosted(models: Iterable[ModelConfig]) -> Iterator[str]:
    if names := ", ".join(model.id for model in models):
        yield (
            f"models[].price.hosted_call: is not given for {names}; of tools that the vendor runs "
            "(web search, file search, code) only the tokens are charged. Give a price for each "
            "call, of 0 where that is meant"
        )


def _hidden(models: Iterable[ModelConfig], plans: Sequence[str]) -> Iterator[str]:
    if names := ", ".join(model.id for model in models if _has_hidden_reasoning(model)):
        yield (
            f"models[].on_hangup: is not given for {names}; hidden reasoning cannot be "
            f"counted when a client disconnects, and is not charged to keys of {', '.join(plans)}. "
            'Set "drain" to charge the count of the upstream'
        )


def _has_hidden_reasoning(model: ModelConfig) -> bool:
    names = [target.split("/", 1)[1] for target in model.targets]
    families = model.families or ([model.family] * len(names) if model.family else names)
    return any(reasons(name) or claude(name).unasked for name in families)
