"""Templates: what they are rendered with. Everything is escaped."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edge.runtime.worker_thread import run_in_thread

from . import formats
from .request_view import waited_ms
from .static_files import static_files, static_url

_FOLDER = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """The templates. `compile_all` compiles them."""
    made = Environment(
        loader=FileSystemLoader(_FOLDER),
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
        "waited": waited_ms,
        "plural": formats.plural,
    }
    made.globals["share"] = formats.share
    made.globals["countdown"] = formats.countdown
    return made


async def compile_all() -> None:
    """Compile all templates and pack all static files, in the thread for long steps: a template
    takes up to 30 ms, one page several of them. Does nothing the second time."""
    made = environment()
    if _FOLDER not in compiled:
        await run_in_thread(static_files)
        for path in sorted(_FOLDER.rglob("*.html")):
            name = path.relative_to(_FOLDER).as_posix()
            await run_in_thread(partial(made.get_template, name))
        compiled.add(_FOLDER)


compiled: set[Path] = set()
"""Folders whose templates this process has compiled."""


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A template as text."""
    return environment().get_template(template).render(values)
