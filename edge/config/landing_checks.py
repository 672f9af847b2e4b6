"""Checks of the texts and links of the page at /."""

from collections.abc import Collection, Iterator

from .model import LandingConfig

_MOST_LINKS = 8
_LONGEST_LABEL = 40


def landing_faults(landing: LandingConfig, plans: Collection[str]) -> Iterator[str]:
    """A sentence for each fault of `[landing]`. plans: ids of those that there are."""
    known = ", ".join(sorted(plans)) or "none"
    for n, plan in enumerate(landing.plans):
        if plan not in plans:
            yield f"landing.plans[{n}]: unknown plan {plan}; known: {known}"
    if len(landing.links) > _MOST_LINKS:
        yield f"landing.links: expected at most {_MOST_LINKS} links"
    texts = (
        *((f"landing.{name}", getattr(landing, name)) for name in ("lead", "pricing", "currency")),
        *((f"landing.links.{label}", label) for label in landing.links),
    )
    for path, text in texts:
        if not text.isprintable():
            yield f"{path}: expected printable text on one line"
    for label in landing.links:
        if not 0 < len(label.strip()) <= _LONGEST_LABEL:
            yield f"landing.links.{label}: expected a text of 1 to {_LONGEST_LABEL} characters"
