"""The group `config`: the configuration itself, without asking anything of it."""

from collections.abc import Iterator

from edge.management.advice import cautions, notes

from .amounts import counted
from .finding import Finding, of_sentence
from .probe import Findings, Probe
from .subject import Subject


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, of all settings."""
    yield Probe("config", lambda: _check(subject))


async def _check(subject: Subject) -> Findings:
    settings = subject.settings
    counts = (
        (len(settings.upstreams), "upstream"),
        (len(settings.models), "model"),
        (len(settings.plans), "plan"),
    )
    said = ", ".join(counted(*count) for count in counts)
    yield Finding("ok", "config", f"{subject.file}: {said}")
    for sentence in cautions(settings):
        yield of_sentence("warning", sentence)
    for sentence in notes(settings):
        yield of_sentence("note", sentence)
