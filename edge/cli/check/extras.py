"""The group `media`: packages that decode media, and models on this machine."""

from collections.abc import Iterator

from edge.media.extras import missing_extras

from .finding import Finding, of_sentence
from .probe import Findings, Probe, in_thread
from .subject import Subject


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, where media are decoded or a model runs on this machine."""
    media = subject.settings.media
    local = any(upstream.dialect == "local-media" for upstream in subject.settings.upstreams)
    if local or any((media.image, media.audio, media.video, media.document)):
        yield Probe("media", lambda: _check(subject))


async def _check(subject: Subject) -> Findings:
    sentences = await in_thread(lambda: list(missing_extras(subject.settings)))
    for sentence in sentences:
        yield of_sentence("warning", sentence)
    if not sentences:
        yield Finding("ok", "media", "the packages that decode media are installed")
