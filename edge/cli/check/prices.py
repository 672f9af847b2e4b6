"""The group `prices`: prices that are missing or look mistaken."""

from collections.abc import Iterator

from edge.management.price_advice import price_cautions, price_notes

from .finding import Finding, of_sentence
from .probe import Findings, Probe
from .subject import Subject


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, of all models."""
    yield Probe("prices", lambda: _check(subject))


async def _check(subject: Subject) -> Findings:
    models = subject.settings.models
    warned = [of_sentence("warning", sentence) for sentence in price_cautions(subject.settings)]
    if models and not warned:
        sold = sum(model.price is not None for model in models)
        yield Finding("ok", "prices", f"{sold} of {len(models)} models have a price")
    for finding in warned:
        yield finding
    for sentence in price_notes(subject.settings):
        yield of_sentence("note", sentence)
