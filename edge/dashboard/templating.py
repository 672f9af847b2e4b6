"""Templates: what they are rendered with. Everything is escaped."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import formats
from .static_files import static_url


@cache
def environment() -> Environment:
    """The templates, compiled when first used."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = static_url
    made.filters |= {
        "credits": formats.credits_text,
        "money": formats.money,
        "column": formats.column,
        "per": formats.per,
        "count": formats.count,
        "limit": formats.limit,
        "size": formats.size,
        "milliseconds": formats.milliseconds,
        "instant": formats.instant,
        "utc": formats.utc,
        "plural": formats.plural,
    }
    made.globals["share"] = formats.share
    made.globals["countdown"] = formats.countdown
    return made


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A template as text."""
    return environment().get_template(template).render(values)
