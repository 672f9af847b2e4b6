"""Notes of `penstock check` about what vendors charge for and the configured prices do not."""

from collections.abc import Iterable, Iterator, Sequence

from .dialects.anthropic_messages.claude import claude
from .dialects.openai_models import reasons
from .options import Model, Plan


def uncharged(models: Sequence[Model], plans: Sequence[Plan]) -> Iterator[str]:
    """Notes about models with a price. Each begins with the key that would charge for the rest."""
    sold = [model for model in models if model.price is not None and model.price.output]
    yield from _hosted(model for model in sold if model.price and model.price.hosted_call is None)
    leaving = [plan.id for plan in plans if plan.on_hangup == "cancel"]
    if leaving:
        yield from _hidden((model for model in sold if model.on_hangup is None), leaving)


def _hosted(models: Iterable[Model]) -> Iterator[str]:
    if names := ", ".join(model.id for model in models):
        yield (
            f"models[].price.hosted_call: is not given for {names}; of tools that the vendor runs "
            "(web search, file search, code) only the tokens are charged. Give a price for each "
            "call, of 0 where that is meant"
        )


def _hidden(models: Iterable[Model], plans: Sequence[str]) -> Iterator[str]:
    if names := ", ".join(model.id for model in models if _has_hidden_reasoning(model)):
        yield (
            f"models[].on_hangup: is not given for {names}; hidden reasoning cannot be "
            f"counted when a client disconnects, and is not charged to keys of {', '.join(plans)}. "
            'Set "drain" to charge the count of the upstream'
        )


def _has_hidden_reasoning(model: Model) -> bool:
    names = [target.split("/", 1)[1] for target in model.targets]
    families = model.families or ([model.family] * len(names) if model.family else names)
    return any(reasons(name) or claude(name).unasked for name in families)
